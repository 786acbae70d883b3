"""Imports point one way: from the command line down to tensors, never up, never in a circle."""

import ast
from collections import Counter
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "cascaderank"

TIERS = [
    {
        "atomic",
        "errors",
        "expansion",
        "extras",
        "html_tables",
        "limits",
        "progress",
        "regular_files",
        "text_files",
        "settings.base",
        "settings.files",
    },
    {"tensors", "registry", "schema", "batch"},
    {"sorting", "propensities", "relevance", "selection", "previous", "layers"},
    {"stages", "losses", "metrics", "data", "tracking"},
    {"objectives", "cascade", "settings"},
    {"runs", "evaluation", "components"},
    {"training", "simulation"},
    {"experiments"},
    {"reports", "serving"},
    {"cli", "__main__"},
]
"""Rooms, lowest first. A room may import rooms of its own tier and of lower tiers.

``settings`` has two storeys: what reads and checks a file is below all rooms, since their settings
are built on it; what puts the settings of a whole run together is above them.
"""


FREE = {"__init__", "_moved"}
"""The package itself, which imports lazily, and the table of old import paths."""


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {module_of(p): p for p in sorted(SOURCE.rglob("*.py")) if module_of(p) not in FREE}


def imports_of(path: Path) -> set[str]:
    """Return the modules of this package that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = name.removeprefix("cascaderank.") in FILES
                found.add(name if is_module else node.module or "")
    ours = {name.removeprefix("cascaderank.") for name in found if name.startswith("cascaderank.")}
    return ours - FREE


@cache
def graph() -> dict[str, set[str]]:
    return {module: imports_of(path) - {module} for module, path in FILES.items()}


def room_of(module: str) -> str:
    return module if module in TIERS[0] else module.split(".", maxsplit=1)[0]


def tier_of(room: str) -> int:
    found = [i for i, tier in enumerate(TIERS) if room in tier]
    assert found, f"'{room}' has no tier; add it to TIERS in this file"
    return found[0]


def circle(edges: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("module", FILES)
def test_imports_point_downwards(module):
    here = tier_of(room_of(module))
    upwards = {m for m in graph()[module] if tier_of(room_of(m)) > here}
    assert not upwards, f"{module} must not import {upwards}"


@pytest.mark.parametrize("module", FILES)
def test_no_module_imports_a_private_module_of_another_room(module):
    def private(other: str) -> bool:
        parts = other.split(".")
        hidden = next((i for i, p in enumerate(parts) if p.startswith("_")), None)
        if hidden is None:
            return False
        home = parts[:hidden]  # what lies in this package may import it
        return module.split(".")[: len(home)] != home

    foreign = {m for m in graph()[module] if private(m)}
    assert not foreign, f"{module} must not import {foreign}; promote what it needs, and name it"


def test_rooms_import_each_other_in_no_circle():
    rooms: dict[str, set[str]] = {}
    for module, imported in graph().items():
        here = room_of(module)
        rooms.setdefault(here, set()).update(room_of(m) for m in imported)
        rooms[here].discard(here)
    assert not circle(rooms)


def test_modules_import_each_other_in_no_circle():
    assert not circle(graph())


def test_base_names_are_unique():
    homes: dict[str, list[str]] = {}
    for module, path in FILES.items():
        if path.name not in ("__init__.py", "__main__.py"):
            homes.setdefault(path.stem, []).append(module)
    for name, modules in homes.items():
        rest = [m for m in modules if not m.startswith("cli.")]
        kinds = Counter(m.split(".")[0] for m in rest)
        pair = (
            set(kinds) <= {"losses", "metrics", "objectives"}
            and max(kinds.values(), default=1) == 1
        )
        assert len(rest) <= 1 or pair, f"'{name}' names {modules}"


@pytest.mark.parametrize("module", FILES)
def test_files_are_short_enough_to_have_one_reason(module):
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= 400


def test_the_checks_would_find_what_they_are_for(tmp_path):
    wrong = tmp_path / "tensors.py"
    wrong.write_text("from cascaderank import cli\nimport cascaderank.training.trainer\n")
    assert imports_of(wrong) == {"cli", "training.trainer"}
    assert tier_of("cli") > tier_of("tensors")
    assert circle({"a": {"b"}, "b": {"a"}})
