"""Write the files that follow from the code: type stubs of packages, and the API pages.

    python tools/generate.py            write them
    python tools/generate.py --check    exit with 1 and name the files that differ

Packages such as `losses` import their modules when a name is first used, so editors and type
checkers see nothing in `__init__.py`. Each gets an `__init__.pyi` that names every registered
function or class. `docs/api.md` and `docs/api/` name every public module.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "cascaderank"
REGISTRIES = {
    "data/sources": "SOURCES",
    "losses": "LOSSES",
    "metrics": "METRICS",
    "objectives": "OBJECTIVES",
    "sorting": "OPERATORS",
    "stages": "STAGES",
}
"""Name of the registry of each package that has one."""

HEAD = "# Written by tools/generate.py from the modules of this package: do not edit.\n"


def generated() -> dict[Path, str]:
    """Return the content of every generated file by its path."""
    files = {SOURCE / package / "__init__.pyi": stub(package) for package in REGISTRIES}
    return files | api_pages()


def stub(package: str) -> str:
    """Return the stub of a package: its `__init__.py` without dynamic attributes, and its members.

    A member is the function or class that a module registers with the package's registry.
    """
    lines = []
    for node in ast.parse((SOURCE / package / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("cascaderank."):
            for alias in node.names:  # a stub exports what it imports as itself
                name = alias.asname or alias.name
                lines.append(f"from {node.module} import {alias.name} as {name}")
        elif isinstance(node, ast.AnnAssign):
            lines.append(f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}")
        elif isinstance(node, ast.FunctionDef) and node.name not in ("__getattr__", "__dir__"):
            node.body = [ast.Expr(ast.Constant(...))]
            lines.append(ast.unparse(node))
        elif not isinstance(node, ast.Expr | ast.FunctionDef) and not _is_all(node):
            lines.append(ast.unparse(node))
    dotted = "cascaderank." + package.replace("/", ".")
    lines += [
        f"from {dotted}.{path.stem} import {name} as {name}"
        for path in sorted((SOURCE / package).glob("*.py"))
        for name in registered(path, REGISTRIES[package])
    ]
    return HEAD + "\n".join(lines) + "\n"


def _is_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def registered(path: Path, registry: str) -> list[str]:
    """Return the names that a module registers with a decorator of the registry."""
    return [
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        for decorator in node.decorator_list
        if ast.unparse(decorator).startswith(f"{registry}.register")
    ]


def api_pages() -> dict[Path, str]:
    """Return an index of all public modules, and one page per room with their documentation."""
    rooms: dict[str, list[Path]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if any(p.startswith("_") and p != "__init__" for p in parts) or parts[0] == "cli":
            continue
        rooms.setdefault(parts[0] if len(parts) > 1 else "core", []).append(path)
    index = ["# API", "", "Every public module, by room, with the first line of its documentation."]
    index.append("")
    files = {}
    for room in sorted(rooms, key=lambda r: (r != "core", r)):
        title = "Core" if room == "core" else f"cascaderank.{room}"
        page = [f"# {title}", ""]
        index += [f"## [{title}](api/{room}.md)", ""]
        for path in rooms[room]:
            dotted, summary = module_name(path), first_line(path)
            index.append(f"- `{dotted}`: {summary}")
            page.append(f"::: {dotted}")
        index.append("")
        files[ROOT / "docs" / "api" / f"{room}.md"] = "\n".join(page) + "\n"
    return {ROOT / "docs" / "api.md": "\n".join(index), **files}


def module_name(path: Path) -> str:
    """Return the dotted name of a module."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__")


def first_line(path: Path) -> str:
    """Return the first line of the documentation of a module."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


def main() -> int:
    """Write the files, or compare them with those that exist."""
    files = generated()
    differ = [p for p, t in files.items() if not p.exists() or p.read_text("utf-8") != t]
    stray = {*(ROOT / "docs" / "api").glob("*.md")} - set(files)
    if "--check" in sys.argv[1:]:
        for path in [*differ, *stray]:
            print(f"{path.relative_to(ROOT)}: is out of date; run `make generate`")
        return bool(differ or stray)
    for path in differ:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], "utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    for path in stray:
        path.unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
