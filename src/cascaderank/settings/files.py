"""Read settings from TOML; one error reports all mistakes, each with its dotted name."""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from cascaderank.errors import ConfigError, did_you_mean, shown
from cascaderank.regular_files import check_path
from cascaderank.settings.base import Settings
from cascaderank.text_files import check_nested, parsed_toml, read_text

Kind = TypeVar("Kind", bound=Settings)

_QUOTED = r'"(?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"'
_PART = rf"(?:{_QUOTED}(?=\s*[.=]|$)|[^.=]*)"
_NAME = re.compile(rf"{_PART}(?:\.{_PART})*\s*")
_PARTS = re.compile(rf"(?:^|\.)({_QUOTED}(?=\.|$)|[^.]*)")
_NEEDS_QUOTES = re.compile(r'[.="]|^\s|\s$|^$')


def read_as(kind: type[Kind], path: str | os.PathLike[str], changes: Sequence[str] = ()) -> Kind:
    """Read a TOML file and validate it.

    Args:
        kind: class of the settings, such as :class:`~cascaderank.settings.run.RunSettings`.
        path: file to read.
        changes: settings to replace, each as ``"train.seed=3"``; the value is TOML, or a string if
            it is not valid TOML.

    Raises:
        ConfigError: if the file cannot be read or has mistakes; the message lists all of them.
    """
    path = check_path(path, ConfigError)
    try:
        values = parsed_toml(read_text(path))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror or error}; expected a TOML file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    replaced = with_changes(values, dict(parsed_change(change) for change in changes))
    try:
        if changes:  # what was parsed is checked; a value may be set deep inside
            check_nested(replaced)
        return kind.model_validate(replaced)
    except ValidationError as error:
        mistakes = _messages(error, kind)
    except ValueError as error:
        raise ConfigError(f"--set: {error}") from None
    of_file = set(_mistakes(kind, values)) if changes else set(mistakes)
    parts = [
        f"{origin}: {'; '.join(found)}"
        for origin, found in (
            (str(path), [mistake for mistake in mistakes if mistake in of_file]),
            ("--set", [mistake for mistake in mistakes if mistake not in of_file]),
        )
        if found
    ]
    raise ConfigError("; ".join(parts))


def check_as(kind: type[Kind], values: Mapping[str, object]) -> Kind:
    """Validate nested settings.

    Args:
        kind: class of the settings.
        values: nested values by name.

    Raises:
        ConfigError: if a setting is missing, unknown or invalid; the message lists all mistakes.
    """
    try:
        check_nested(values)
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_messages(error, kind))) from None
    except ValueError as error:
        raise ConfigError(f"settings: {error}") from None


def _mistakes(kind: type[Settings], values: Mapping[str, object]) -> list[str]:
    """Return a message for each mistake in nested settings."""
    try:
        kind.model_validate(values)
    except ValidationError as error:
        return _messages(error, kind)
    return []


def _messages(error: ValidationError, kind: type[Settings]) -> list[str]:
    return [_message(details, kind) for details in error.errors()]


def parsed_change(change: str) -> tuple[str, object]:
    """Split ``"a.b=value"`` into the dotted name and the value.

    The value is parsed as TOML; if it is not valid TOML, it is a string.

    A part of the name in quotes may have dots and equals signs, as in TOML.

    Raises:
        ConfigError: if the name or ``=`` is missing.

    Examples:
        >>> parsed_change("train.seed=3"), parsed_change("objective.name=bce")
        (('train.seed', 3), ('objective.name', 'bce'))
        >>> parsed_change('stages."v1=2".quota=3')
        ('stages."v1=2".quota', 3)
    """
    found = _NAME.match(change)
    name = found.group() if found else ""
    equals, value = change[len(name) :][:1], change[len(name) + 1 :]
    if not equals or not name.strip():
        raise ConfigError(f"--set: expected name=value, such as train.seed=3; got {shown(change)}")
    try:
        return name.strip(), parsed_toml(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()
    except ValueError as error:
        raise ConfigError(f"--set {name.strip()}: {error}") from None


def with_changes(values: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """Return a copy of nested values with some values replaced.

    Args:
        values: nested values by name.
        changes: new values by dotted name; missing tables are created.

    Raises:
        ConfigError: if a part of a name other than the last is a value, not a table.
    """
    result = dict(values)
    for name, value in changes.items():
        table, (*tables, last) = result, parts_of(name)
        for part in tables:
            inner = table.get(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"cannot set '{name}': '{part}' is a value, not a table; got {inner!r}"
                )
            table[part] = table = dict(inner)
        table[last] = value
    return result


def dotted(*parts: str) -> str:
    """Join the parts of the name of a setting by dots, as TOML does.

    A part with a dot, an equals sign or a quotation mark is quoted, so that it remains one part.

    Examples:
        >>> dotted("stages", "ranking", "quota"), dotted("stages", "v1.2", "quota")
        ('stages.ranking.quota', 'stages."v1.2".quota')
    """
    return ".".join(
        json.dumps(p, ensure_ascii=False) if _NEEDS_QUOTES.search(p) else p for p in parts
    )


def parts_of(name: str) -> list[str]:
    """Return the parts of the dotted name of a setting; the inverse of :func:`dotted`.

    Examples:
        >>> parts_of('stages."v1.2".quota')
        ['stages', 'v1.2', 'quota']
    """
    parts = [part for (part,) in map(re.Match.groups, _PARTS.finditer(name))]
    return [json.loads(p, strict=False) if re.fullmatch(_QUOTED, p) else p for p in parts]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one mapping by dotted name, each with the prefix."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{dotted(name)}.")
        else:
            result[prefix + dotted(name)] = value
    return result


_CHOICES = ("split", "target", "epochs", "batch_size", "patience")  # settings of several forms


def _message(error: Any, kind: type[Settings]) -> str:
    """Return a message on a validation error that starts with the dotted name of the setting."""
    location = error["loc"]
    # For one of several forms, pydantic inserts the tag of the form, which is no setting.
    forms = [2] * (location[1:2] in [(name,) for name in _CHOICES])
    forms += [4] * (location[2:3] == ("levels",))
    where = [str(part) for i, part in enumerate(location) if i not in forms]
    name = ".".join(where)
    if error["type"] == "missing":
        return f"missing setting {name}"
    if error["type"] == "extra_forbidden":
        return f"unknown setting {name}{did_you_mean(where[-1], _fields(kind, where[:-1]))}"
    message = error["msg"].removeprefix("Value error, ")
    message = message.replace("tuple", "list").replace("Tuple", "List")  # the term of TOML
    value = error["input"]
    got = f"; got {shown(value)}" if isinstance(value, (str, int, float, bool, list)) else ""
    return f"{name}: {message}{got}" if name else message


def _fields(kind: type[Settings], where: Sequence[str]) -> list[str]:
    """Return the names of the settings in a table; for a choice of tables, those of all."""
    models = [kind]
    for part in (p for p in where if not p.isdigit()):  # digits are indices of a list
        models = [
            inner
            for model in models
            if part in model.model_fields
            for inner in _models(model.model_fields[part].annotation)
        ]
    return sorted({name for model in models for name in model.model_fields})


def _models(annotation: Any) -> list[type[Settings]]:
    """Return the classes of settings in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
