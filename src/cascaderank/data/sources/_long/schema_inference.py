"""Schema of a long table, from options with column patterns and from the types of columns."""

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
    """Build a schema from options and from the names and types of columns.

    Args:
        table: table of the columns.
        taken: purpose by column, of columns that are not features. Patterns do not match them.
        roles: names or shell patterns of columns, by role.
        kinds: names or patterns of features, by kind. The kind of any other feature is inferred:
            integers, strings and booleans are categorical, other numbers numeric.
        missing: names or patterns of features that may be null.
        buckets: number of hash buckets by feature or vocabulary.
        vocabulary: vocabulary by feature, for features that share one.
        transform: transformation of all numeric features.

    Returns:
        The schema, and the names of features whose kind was inferred, by kind.

    Raises:
        ConfigError: if a name or a pattern matches no column, or options contradict each other.
    """
    role_of: dict[str, Role] = {}
    for role, patterns in roles.items():
        for column in _columns(table, taken, patterns, f"{role.value}_features"):
            if role_of.setdefault(column, role) is not role:
                raise ConfigError(
                    f"column '{column}' is in both {role_of[column].value}_features and "
                    f"{role.value}_features; leave it in one of them"
                )
    if not role_of:
        free = [c for c in table.types if c not in taken]
        raise ConfigError(
            "expected at least one feature, found none; set item_features=[...], and if present "
            f"request_features=[...] or history_features=[...]; unused columns: {abridged(free)}"
        )
    names = [c for c in table.types if c in role_of]
    kind_of: dict[str, Kind] = {}
    for kind, patterns in kinds.items():
        for name in _matching(patterns, names, kind.value):
            if kind_of.setdefault(name, kind) is not kind:
                raise ConfigError(
                    f"feature '{name}' is in both categorical and numeric; leave it in one of them"
                )
    inferred: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    for name in names:
        if name not in kind_of:
            kind_of[name] = _inferred_kind(name, table.types[name])
            inferred[kind_of[name]].append(name)
    nullable = set(_matching(missing, names, "missing"))
    categorical = [n for n in names if kind_of[n] is Kind.CATEGORICAL]
    for option, keys in (("vocabulary", vocabulary), ("buckets", buckets)):
        known = categorical
        if option == "buckets":
            known = [*categorical, *vocabulary.values()]
        for key in keys:
            if key not in known:
                raise ConfigError(
                    f"{option}: no categorical feature '{key}'{did_you_mean(key, known)}; "
                    f"expected one of {abridged(known)}"
                )
    try:
        features = tuple(
            Feature(
                name=name,
                role=role_of[name],
                kind=kind_of[name],
                transform=transform,
                missing=name in nullable,
                vocabulary=vocabulary.get(name, ""),
                buckets=buckets.get(name, buckets.get(vocabulary.get(name, ""))),
            )
            for name in names
        )
        return Schema(features=features), inferred
    except ValidationError as error:
        raise ConfigError(_mistakes(error)) from None


def read_schema(path: Path) -> Schema:
    """Read a schema from a JSON file, ``{"features": [{"name": ...}, ...]}``.

    Raises:
        DataError: if the file cannot be read, or does not hold a schema.
    """
    try:
        return Schema.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"schema={path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        raise DataError(f"schema={path}: not a schema: {_mistakes(error)}") from None


def _columns(
    table: LongTable, taken: Mapping[str, str], patterns: Sequence[str], option: str
) -> list[str]:
    for pattern in patterns:
        if pattern in taken:
            raise ConfigError(
                f"{option}: column '{pattern}' is the {taken[pattern]}, so it cannot be a feature"
            )
    return _matching(patterns, [c for c in table.types if c not in taken], option)


def _matching(patterns: Sequence[str], names: Sequence[str], option: str) -> list[str]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"{option}: no column matches '{pattern}'{did_you_mean(pattern, names)}; "
                f"expected one of {abridged(names)}"
            )
    return [n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns)]


def _inferred_kind(name: str, dtype: pl.DataType) -> Kind:
    inner = inner_type(dtype)
    if is_category(inner):
        return Kind.CATEGORICAL
    if inner.is_numeric():
        return Kind.NUMERIC
    raise ConfigError(
        f"feature '{name}': expected integers, numbers, strings or booleans, found {dtype}; "
        "convert the column, or leave it out"
    )


def _mistakes(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, e['loc']))}: {e['msg']}" if e["loc"] else e["msg"]
        for e in error.errors()
    )
