"""Settings of any kind from TOML: all mistakes at once, each by the dotted name of its setting."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.settings.base import Settings

Kind = TypeVar("Kind", bound=Settings)


def read_as(kind: type[Kind], path: str | os.PathLike[str], changes: Sequence[str] = ()) -> Kind:
    """Read a TOML file as settings of a kind; as :func:`read_settings` does for a run.

    Raises:
        ConfigError: if the file cannot be read, or for everything that is wrong in it.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    try:
        return check_as(kind, with_changes(values, dict(parsed_change(c) for c in changes)))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def check_as(kind: type[Kind], values: Mapping[str, object]) -> Kind:
    """Check nested settings of a kind.

    Raises:
        ConfigError: for everything that is wrong, in one message.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_told(e, kind) for e in error.errors())) from None


def parsed_change(change: str) -> tuple[str, object]:
    """Split ``"a.b=value"`` into its dotted name and its value.

    Raises:
        ConfigError: if there is no ``=``.

    Examples:
        >>> parsed_change("train.seed=3"), parsed_change("objective.name=bce")
        (('train.seed', 3), ('objective.name', 'bce'))
    """
    name, equals, value = change.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set takes name=value, such as train.seed=3; got '{change}'")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def with_changes(values: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """Return nested values with some replaced by their dotted names.

    Raises:
        ConfigError: if a name goes through what is not a table.
    """
    result = dict(values)
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if rest:
            inner = result.get(head, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"'{head}' is a value, not a table; cannot set '{name}'")
            result[head] = with_changes(inner, {rest: value})
        else:
            result[head] = value
    return result


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


_CHOICES = ("split", "target")  # settings that are one of several tables


def _told(error: Any, kind: type[Settings]) -> str:
    """One mistake as a sentence that starts with the dotted name of the setting."""
    place = error["loc"]
    # A choice of tables adds which of them it took; that is no name of a setting.
    where = [str(p) for i, p in enumerate(place) if not (i == 2 and place[1] in _CHOICES)]
    name = ".".join(where)
    if error["type"] == "missing":
        return f"missing setting {name}"
    if error["type"] == "extra_forbidden":
        return f"unknown setting {name}{did_you_mean(where[-1], _fields(kind, where[:-1]))}"
    message = error["msg"].removeprefix("Value error, ")
    message = message.replace("tuple", "list").replace("Tuple", "List")  # as TOML calls it
    found = error["input"]
    shown = f"; got {found!r}" if isinstance(found, (str, int, float, bool, list)) else ""
    return f"{name}: {message}{shown}" if name else message


def _fields(kind: type[Settings], where: Sequence[str]) -> list[str]:
    """Names of the settings of one table; of a choice of tables, those of all of them."""
    models = [kind]
    for part in (p for p in where if not p.isdigit()):  # not places in a list
        models = [
            inner
            for model in models
            if part in model.model_fields
            for inner in _models(model.model_fields[part].annotation)
        ]
    return sorted({name for model in models for name in model.model_fields})


def _models(annotation: Any) -> list[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
