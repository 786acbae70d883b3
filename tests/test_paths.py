"""Every public function with a path parameter accepts strings and paths of any class."""

import ast
import os
from pathlib import Path

import pytest

from cascaderank import read_settings
from cascaderank.data.sources import SOURCES
from cascaderank.errors import ConfigError, DataError
from cascaderank.runs.folder import (
    RunFolder,
    locked,
    read_json,
    scratch,
    write_atomically,
    write_json,
)
from cascaderank.schema import FittedSchema
from tests.conftest import ROOT
from tests.data.test_paths import Location

SOURCE = ROOT / "src" / "cascaderank"
MODULES = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if "cli" not in path.parts
    and not any(p.startswith("_") for p in path.relative_to(SOURCE).parts)
]
OPTION_OF_A_SOURCE = ("long", "schema")
"""The registry converts options: a string is accepted, although the annotation is ``Path``."""


def public_functions(path):
    """Yield the public functions and methods of a module, and constructors of public classes."""
    bodies = [ast.parse(path.read_text(encoding="utf-8")).body]
    for body in bodies:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                bodies.append(node.body)
            elif isinstance(node, ast.FunctionDef) and (
                node.name == "__init__" or not node.name.startswith("_")
            ):
                yield node


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_parameter_of_a_public_function_is_not_only_a_path(path):
    for function in public_functions(path):
        arguments = function.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            types = [
                node.id
                for node in ast.walk(argument.annotation or ast.Constant(None))
                if isinstance(node, ast.Name)
            ]
            where = f"{function.name}, parameter {argument.arg}"
            if (path.stem, argument.arg) != OPTION_OF_A_SOURCE:
                assert "Path" not in types, f"{where}: declare str | os.PathLike[str]"


def save_schema(path):
    FittedSchema(features=()).save(path)
    return FittedSchema.load(path).names


def settings(path):
    Path(path).write_text("")
    with pytest.raises(ConfigError, match="missing setting data") as error:
        read_settings(path)
    return str(error.value).replace(os.fspath(path), "")


def run_folder(path):
    folder = RunFolder(path)
    return folder.path == Path(path), folder.config == Path(path) / "config.toml", folder.complete


def lock(path):
    with locked(path):
        return sorted(p.name for p in Path(path).iterdir())


def scratch_folder(path):
    Path(path).mkdir()
    with scratch(path) as folder:
        return folder.parent == Path(path)


def json_file(path):
    write_json(path, {"a": 1})
    write_atomically(path, Path(path).read_bytes())
    return read_json(path)


def source(path):
    Path(path).write_text("2 qid:7 1:0.5 2:1\n0 qid:7 2:3\n")
    SOURCES["letor"](path, type(path)(f"{os.fspath(path)}-log"))
    return sorted(p.name for p in Path(f"{os.fspath(path)}-log").iterdir())


@pytest.mark.parametrize("name", list(SOURCES))
@pytest.mark.parametrize("kind", [str, Location])
def test_a_source_accepts_a_string_for_its_input(tmp_path, name, kind):
    path = tmp_path / "absent"
    with pytest.raises((ConfigError, DataError), match="absent"):
        SOURCES[name](kind(path), kind(tmp_path / "log"))


@pytest.mark.parametrize("kind", [str, Location])
@pytest.mark.parametrize(
    "function", [save_schema, settings, run_folder, lock, scratch_folder, json_file, source]
)
def test_a_string_is_accepted_like_a_path(tmp_path, function, kind):
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    expected = function(tmp_path / "one" / "data")
    assert function(kind(tmp_path / "other" / "data")) == expected
