"""Imports point one way: from the command line down to tensors, never up."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "cascaderank"

TIERS = [
    {"errors", "extras", "settings_files"},
    {"tensors", "registry", "schema", "batch", "relevance", "selection", "sorting", "layers"},
    {"stages", "losses", "metrics", "data"},
    {"objectives", "cascade", "schedule", "comparison", "config"},
    {"training", "evaluation", "simulation", "catalogue"},
    {"experiments", "cli", "serving", "reports"},
]
"""Lowest first; a room may import rooms of its own tier and of lower ones."""

FREE = {"__init__"}
"""The package itself imports lazily, whatever is asked of it."""


def rooms_imported(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module or ""]
            if node.module == "cascaderank":
                names = [f"cascaderank.{alias.name}" for alias in node.names]
        rooms |= {n.split(".")[1] for n in names if n.startswith("cascaderank.")}
    return rooms


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


FILES = sorted(p for p in SOURCE.rglob("*.py") if room_of(p) not in FREE)


def tier_of(room: str) -> int:
    found = [i for i, tier in enumerate(TIERS) if room in tier]
    assert found, f"'{room}' has no tier; give it one in this file"
    return found[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_downwards(path):
    here = tier_of(room_of(path))
    upwards = {room for room in rooms_imported(path) if tier_of(room) > here}
    assert not upwards, f"{room_of(path)} must not import {upwards}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_are_short_enough_to_have_one_reason(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_the_check_would_find_an_import_upwards(tmp_path):
    wrong = tmp_path / "tensors.py"
    wrong.write_text("from cascaderank import cli\nimport cascaderank.training.trainer\n")
    assert rooms_imported(wrong) == {"cli", "training"}
    assert tier_of("cli") > tier_of("tensors")
