"""Features of a long table, chosen by the names and the types of its columns."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from cascaderank.data.sources._long.layout import inner_type, is_category
from cascaderank.data.sources._shared.long_table import LongTable
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.schema import Feature, Kind, Role, Schema, Transform, abridged


def chosen_features(
    table: LongTable,
    taken: Mapping[str, str],
    *,
    roles: Mapping[Role, Sequence[str]],
    kinds: Mapping[Kind, Sequence[str]],
    missing: Sequence[str],
    buckets: Mapping[str, int],
    vocabulary: Mapping[str, str],
    transform: Transform,
) -> tuple[Schema, dict[Kind, list[str]]]:
    """Build a schema from the names and the types of columns.

    Args:
        table: where the columns are.
        taken: columns that are something else already. Patterns do not match them.
        roles: columns by role, as names or shell patterns.
        kinds: features by kind, as names or patterns. The kind of any other feature is inferred:
            integers, strings and booleans are categorical, other numbers numeric.
        missing: features that may be null, as names or patterns.
        buckets: how many a feature or a vocabulary is hashed into.
        vocabulary: of features that share one.
        transform: of all numeric features.

    Returns:
        The schema, and the names of features whose kind was inferred, by kind.

    Raises:
        ConfigError: if a name or a pattern matches nothing, or options contradict each other.
    """
    role_of: dict[str, Role] = {}
    for role, patterns in roles.items():
        for column in _columns(table, taken, patterns, f"{role.value}_features"):
            if role_of.setdefault(column, role) is not role:
                raise ConfigError(
                    f"column '{column}' is named in {role_of[column].value}_features and in "
                    f"{role.value}_features; name it in one of them"
                )
    if not role_of:
        free = [c for c in table.types if c not in taken]
        raise ConfigError(
            "expected the features by name; say item_features=[...], and request_features=[...] or "
            f"history_features=[...] if there are any; the columns left are {abridged(free)}"
        )
    names = [c for c in table.types if c in role_of]
    kind_of: dict[str, Kind] = {}
    for kind, patterns in kinds.items():
        for name in _matching(patterns, names, kind.value):
            if kind_of.setdefault(name, kind) is not kind:
                raise ConfigError(
                    f"feature '{name}' is named as categorical and as numeric; name it once"
                )
    inferred: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    for name in names:
        if name not in kind_of:
            kind_of[name] = _kind(name, table.types[name])
            inferred[kind_of[name]].append(name)
    may_be_null = set(_matching(missing, names, "missing"))
    codes = [n for n in names if kind_of[n] is Kind.CATEGORICAL]
    for option, keys in (("vocabulary", vocabulary), ("buckets", buckets)):
        known = codes if option == "vocabulary" else [*codes, *vocabulary.values()]
        for key in keys:
            if key not in known:
                raise ConfigError(
                    f"{option}: no categorical feature '{key}'{did_you_mean(key, known)}; "
                    f"there are {abridged(codes)}"
                )
    try:
        features = tuple(
            Feature(
                name=name,
                role=role_of[name],
                kind=kind_of[name],
                transform=transform,
                missing=name in may_be_null,
                vocabulary=vocabulary.get(name, ""),
                buckets=buckets.get(name, buckets.get(vocabulary.get(name, ""))),
            )
            for name in names
        )
        return Schema(features=features), inferred
    except ValidationError as error:
        raise ConfigError(_told(error)) from None


def read_schema(path: Path) -> Schema:
    """Read a schema from a JSON file, ``{"features": [{"name": ...}, ...]}``.

    Raises:
        DataError: if the file cannot be read, or is not a schema.
    """
    try:
        return Schema.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise DataError(f"{path}: not a schema: {_told(error)}") from None


def _columns(
    table: LongTable, taken: Mapping[str, str], patterns: Sequence[str], option: str
) -> list[str]:
    for pattern in patterns:
        if pattern in taken:
            raise ConfigError(
                f"{option}: column '{pattern}' is the {taken[pattern]}, and cannot be a feature too"
            )
    return _matching(patterns, [c for c in table.types if c not in taken], option)


def _matching(patterns: Sequence[str], names: Sequence[str], option: str) -> list[str]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"{option}: nothing is called '{pattern}'{did_you_mean(pattern, names)}; "
                f"there are {abridged(names)}"
            )
    return [n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)]


def _kind(name: str, dtype: pl.DataType) -> Kind:
    inner = inner_type(dtype)
    if is_category(inner):
        return Kind.CATEGORICAL
    if inner.is_numeric():
        return Kind.NUMERIC
    raise ConfigError(
        f"feature '{name}' holds {dtype}, which is neither categories nor numbers; convert the "
        "column, or leave it out"
    )


def _told(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, e['loc']))}: {e['msg']}" if e["loc"] else e["msg"]
        for e in error.errors()
    )
