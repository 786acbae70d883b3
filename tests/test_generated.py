"""Generated files are up to date, and type stubs name exactly what the registries hold."""

import ast
import importlib
import importlib.util

import pytest

from tests.conftest import ROOT

PACKAGES = {
    "data.sources": "SOURCES",
    "losses": "LOSSES",
    "metrics": "METRICS",
    "objectives": "OBJECTIVES",
    "sorting": "OPERATORS",
    "stages": "STAGES",
}


def generated():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "tools" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generated()


def test_generated_files_are_up_to_date():
    for path, text in generated().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run `make generate`"


@pytest.mark.parametrize(("package", "registry"), PACKAGES.items())
def test_a_stub_names_exactly_the_registered_components(package, registry):
    dotted = f"cascaderank.{package}"
    module = importlib.import_module(dotted)
    entries = [getattr(module, registry)[name] for name in getattr(module, registry)]
    # Entries of this package: not those that a test or another package registers, or derives.
    own = {e.__name__: e.__module__ for e in entries if e.__module__.startswith(f"{dotted}.")}
    own = {name: home for name, home in own.items() if not home.rpartition(".")[2].startswith("_")}
    stub = ROOT / "src" / f"{dotted.replace('.', '/')}/__init__.pyi"
    named = {
        alias.name: node.module
        for node in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module in own.values()
        for alias in node.names
    }
    assert named == own
    for name in own:
        assert getattr(module, name) is not None


def test_the_api_pages_name_every_public_module():
    source = ROOT / "src" / "cascaderank"
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    named = set(pages.replace("::: ", "").split())
    for path in source.rglob("*.py"):
        parts = path.relative_to(source.parent).with_suffix("").parts
        if any(p.startswith("_") for p in parts if p != "__init__") or parts[1] == "cli":
            continue
        assert ".".join(p for p in parts if p != "__init__") in named, path
