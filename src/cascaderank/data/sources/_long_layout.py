"""Which column of a long table is what: ids, times, labels and features with their kinds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from cascaderank.data.sources._long_tables import LongTable
from cascaderank.data.validation import CANDIDATE_COLUMNS
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.schema import Feature, Kind, Role, Schema, Transform, abridged


@dataclass(frozen=True)
class Layout:
    """What the columns of a long table are."""

    request_id: str
    timestamp: str | None
    candidates: dict[str, str]
    """Columns by what they become: ``level``, ``position``, ``label`` or ``feedback``."""
    schema: Schema

    @property
    def taken(self) -> dict[str, str]:
        """Columns that are no features, and what they are."""
        taken = {self.request_id: "request_id"}
        if self.timestamp:
            taken[self.timestamp] = "timestamp"
        return taken | {column: what for what, column in self.candidates.items()}


def columns_that_are_no_features(
    table: LongTable, *, request_id: str, timestamp: str, candidates: Mapping[str, str]
) -> Layout:
    """Return a layout without features.

    Args:
        table: where the columns are.
        request_id: a column.
        timestamp: a column; empty for the one called ``timestamp``, if there is one.
        candidates: columns by what they become; empty as with ``timestamp``.

    Raises:
        ConfigError: if one column is to be two things.
        DataError: if a column is not there.
    """

    def named(what: str, column: str) -> str | None:
        if column:
            return table.check(column, what=what)
        return what if what in table.types else None

    ids = table.check(request_id, what="request_id")
    found = {what: named(what, candidates[what]) for what in CANDIDATE_COLUMNS}
    layout = Layout(
        ids,
        named("timestamp", timestamp),
        {what: column for what, column in found.items() if column},
        Schema(features=()),
    )
    used = [ids, *([layout.timestamp] if layout.timestamp else []), *layout.candidates.values()]
    twice = [c for c in used if used.count(c) > 1]
    if twice:
        raise ConfigError(f"column '{twice[0]}' is named for two things; name one column for each")
    return layout


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


def typed_columns(table: LongTable, layout: Layout) -> dict[str, pl.DataType]:
    """Return the columns to read, with the types to read them as.

    Raises:
        ConfigError: if a column is of two uses.
        DataError: if a column is missing or its values are not of the kind that they must be; of
            CSV files, the line of the first such value is told.
    """
    types: dict[str, pl.DataType] = {}
    for column, what in layout.taken.items():
        dtype = types[column] = table.types[column]
        if what == "request_id" and table.is_csv and dtype != pl.Int64:
            types[column] = pl.String()
        if dtype.is_nested():
            raise DataError(f"column '{column}' ({what}) must have one value a row; found {dtype}")
        if what in ("label", "feedback", "position") and not dtype.is_numeric():
            wrong = _not_integer if what == "position" else _not_number
            raise DataError(
                f"column '{column}' ({what}): expected numbers, found {dtype}"
                f"{table.first(column, wrong)}"
            )
    for feature in layout.schema.features:
        name = feature.name
        dtype = table.types[table.check(name, what=f"{feature.role.value} feature")]
        if name in layout.taken:
            raise ConfigError(
                f"column '{name}' is the {layout.taken[name]}, and cannot be a feature too"
            )
        if feature.role is Role.HISTORY and not isinstance(dtype, pl.List | pl.Array):
            hint = "CSV has no lists, use Parquet" if table.is_csv else "write a list on every row"
            raise DataError(f"history feature '{name}': expected lists, found {dtype}; {hint}")
        if feature.role is not Role.HISTORY and dtype.is_nested():
            raise DataError(
                f"{feature.role.value} feature '{name}': expected one value a row, found {dtype}; "
                "name it in history_features if it is a history"
            )
        inner = _inner(dtype)
        if feature.kind is Kind.NUMERIC and not (inner.is_numeric() or inner == pl.Boolean):
            raise DataError(
                f"numeric feature '{name}': expected numbers, found {inner}"
                f"{table.first(name, _not_number)}"
            )
        if feature.kind is Kind.CATEGORICAL and table.is_csv:
            dtype = dtype if dtype == pl.Int64 else pl.String()
        elif feature.kind is Kind.CATEGORICAL and not _is_category(inner):
            raise DataError(
                f"categorical feature '{name}': expected integers or strings, found {inner}; "
                "cast the column, or declare it numeric"
            )
        types[name] = dtype
    return types


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
    inner = _inner(dtype)
    if _is_category(inner):
        return Kind.CATEGORICAL
    if inner.is_numeric():
        return Kind.NUMERIC
    raise ConfigError(
        f"feature '{name}' holds {dtype}, which is neither categories nor numbers; convert the "
        "column, or leave it out"
    )


def _is_category(dtype: pl.DataType) -> bool:
    text = isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    return text or dtype.is_integer() or isinstance(dtype, pl.Boolean)


def _inner(dtype: pl.DataType) -> pl.DataType:
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
    return inner() if isinstance(inner, type) else inner


def _not_number(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return True
    return False


def _not_integer(text: str) -> bool:
    return bool(text) and not text.removeprefix("-").isdigit()


def _told(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, e['loc']))}: {e['msg']}" if e["loc"] else e["msg"]
        for e in error.errors()
    )
