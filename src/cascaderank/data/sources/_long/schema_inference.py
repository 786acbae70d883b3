"""Schema of a long table, from options with column patterns and from the types of columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from cascaderank.data.sources._long.layout import Layout, inner_type, is_category
from cascaderank.data.sources._shared.long_table import LongTable
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.schema import (
    Feature,
    Kind,
    Role,
    Schema,
    Transform,
    abridged,
    matched_names,
)
from cascaderank.text_files import parsed_json, parsed_toml, read_text

_SAMPLE_ROWS = 10_000  # for the length of vectors


@dataclass(frozen=True)
class FeatureOptions:
    """Options of the ``long`` source that decide about features.

    Options with names also accept shell patterns; a leading ``!`` excludes instead.
    """

    request_features: Sequence[str]
    item_features: Sequence[str]
    history_features: Sequence[str]
    categorical: Sequence[str]
    """The kind of features in neither list is inferred: integers, strings and booleans are
    categorical, other numbers numeric."""
    numeric: Sequence[str]
    missing: Sequence[str]
    """Features that may be null."""
    buckets: Mapping[str, int] | None
    """Number of hash buckets by feature or vocabulary."""
    vocabulary: Mapping[str, str] | None
    """Vocabulary by feature, for features that share one."""
    min_count: Mapping[str, int] | None
    """Least number of occurrences in training, by feature or vocabulary."""
    transform: Transform
    """Transformation of all numeric features."""
    schema: Path | Mapping[str, Any] | None
    """File or table of the whole schema, instead of the other options."""

    @property
    def are_given(self) -> bool:
        """Whether any option other than ``schema`` and ``transform`` is set."""
        names = (f.name for f in fields(self) if f.name not in ("schema", "transform"))
        return any(getattr(self, name) for name in names)

    def with_names(self, renamed: Mapping[str, str]) -> "FeatureOptions":
        """Return the options with the names that columns have in the table.

        Args:
            renamed: name in the files by name in the table, of columns for which they differ.
        """
        names = {in_files: name for name, in_files in renamed.items()}
        names |= {f"!{in_files}": f"!{name}" for in_files, name in names.items()}

        def new(value: object) -> object:
            if isinstance(value, Mapping):
                return {names.get(name, name): inner for name, inner in value.items()}
            return tuple(names.get(n, n) for n in value) if isinstance(value, tuple) else value

        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "schema"}
        changed: dict[str, Any] = {name: new(value) for name, value in values.items()}
        return replace(self, **changed)


def schema_of_options(
    table: LongTable, layout: Layout, options: FeatureOptions
) -> tuple[Schema, dict[Kind, list[str]]]:
    """Return the schema of a table, and the names of features whose kind was inferred, by kind.

    Args:
        table: table of the columns.
        layout: purpose of columns that are not features; patterns do not match them.
        options: options of features.

    Raises:
        ConfigError: if a name or a pattern matches no column, or options contradict each other.
        DataError: if the file of the schema cannot be read, or does not hold a schema.
    """
    if options.schema is None:
        return _chosen_features(table, layout, options.with_names(table.renamed))
    if options.are_given:
        raise ConfigError(
            "expected schema=FILE or the options of features, found both; leave one of them out"
        )
    return _read_schema(options.schema), {}


def check_item_features(schema: Schema) -> None:
    """Check that a schema has a feature of the candidates.

    Raises:
        ConfigError: if it has none.
    """
    if not schema.of(Role.ITEM):
        raise ConfigError(
            "expected at least one feature of the candidates, found none: all candidates of a "
            "request would have the same score; set item_features=[...] (in a schema: role='item')"
        )


def _chosen_features(
    table: LongTable, layout: Layout, options: FeatureOptions
) -> tuple[Schema, dict[Kind, list[str]]]:
    """Build a schema from options and from the names and types of columns."""
    buckets, vocabulary = options.buckets or {}, options.vocabulary or {}
    min_count = options.min_count or {}
    roles = {
        Role.REQUEST: options.request_features,
        Role.ITEM: options.item_features,
        Role.HISTORY: options.history_features,
    }
    kinds = {Kind.CATEGORICAL: options.categorical, Kind.NUMERIC: options.numeric}
    role_of: dict[str, Role] = {}
    for role, patterns in roles.items():
        for column in _columns(table, layout, patterns, f"{role.value}_features"):
            if role_of.setdefault(column, role) is not role:
                raise ConfigError(
                    f"column '{column}' is in both {role_of[column].value}_features and "
                    f"{role.value}_features; leave it in one of them"
                )
    if not role_of:
        free = [c for c in table.types if c not in layout.taken]
        raise ConfigError(
            "expected at least one feature, found none; set item_features=[...], and if present "
            f"request_features=[...] or history_features=[...]; unused columns: {abridged(free)}; "
            "`cascaderank prepare long --dry-run` proposes features"
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
    nullable = set(_matching(options.missing, names, "missing"))
    categorical = [n for n in names if kind_of[n] is Kind.CATEGORICAL]
    by_name: dict[str, Mapping[str, object]] = {
        "vocabulary": vocabulary,
        "buckets": buckets,
        "min_count": min_count,
    }
    for option, keys in by_name.items():
        known = categorical
        if option != "vocabulary":
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
                transform=_transform(
                    options.transform, role_of[name], kind_of[name], table.types[name]
                ),
                missing=name in nullable,
                vocabulary=vocabulary.get(name, ""),
                buckets=buckets.get(name, buckets.get(vocabulary.get(name, ""))),
                min_count=min_count.get(name, min_count.get(vocabulary.get(name, ""), 1)),
                **several_values(table, name, role_of[name], kind_of[name]),
            )
            for name in names
        )
        return Schema(features=features), inferred
    except ValidationError as error:
        raise ConfigError(_mistakes(error)) from None


def _transform(chosen: Transform, role: Role, kind: Kind, values: pl.DataType) -> Transform:
    """Return the transform of a feature: only numbers of candidates are standardised by request."""
    number = role is Role.ITEM and kind is Kind.NUMERIC and not values.is_nested()
    by_request = chosen is Transform.STANDARDISE_BY_REQUEST
    return Transform.STANDARDISE if by_request and not number else chosen


def several_values(table: LongTable, name: str, role: Role, kind: Kind) -> dict[str, Any]:
    """Return the fields of a feature whose column has a list in each row; none for one value.

    Raises:
        DataError: if lists of numbers differ in length, or the first rows have none.
    """
    if role is Role.HISTORY or not table.types[name].is_nested():
        return {}
    if kind is Kind.CATEGORICAL:
        return {"multiple": True}
    lists = table.sample(_SAMPLE_ROWS)[name].drop_nulls()
    if isinstance(lists.dtype, pl.Array):
        return {"width": lists.dtype.size}
    lengths = sorted(lists.list.len().unique().to_list())
    if len(lengths) != 1 or not lengths[0]:
        found = f"lists of {abridged(map(str, lengths), 4)} numbers" if lengths else "no list"
        raise DataError(
            f"numeric feature '{name}': expected vectors of one length, found {found}; write equal "
            "lengths, or declare the feature categorical"
        )
    return {"width": lengths[0]}


def _read_schema(schema: Path | Mapping[str, Any]) -> Schema:
    """Return a schema from a table, or from a JSON or TOML file with one.

    Args:
        schema: table ``{"features": [{"name": ...}, ...]}``, or a file. A file whose name ends with
            ``.toml`` is TOML, any other JSON.

    Raises:
        DataError: if the file cannot be read, or does not hold a schema.
        ConfigError: if the table is not a schema.
    """
    if not isinstance(schema, Path):
        try:
            return Schema.model_validate(schema)
        except ValidationError as error:
            raise ConfigError(f"schema: {_mistakes(error, schema)}") from None
    values: Any = None
    try:
        text = read_text(schema)
        values = parsed_toml(text) if schema.suffix == ".toml" else parsed_json(text)
        return Schema.model_validate(values)
    except OSError as error:
        raise DataError(f"schema={schema}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        mistakes = _mistakes(error, values)
        raise DataError(f"schema={schema}: not a schema: {mistakes}") from None
    except ValueError as error:
        expected = "TOML" if schema.suffix == ".toml" else "JSON (or TOML in a file named *.toml)"
        raise DataError(f"schema={schema}: expected {expected}: {error}") from None


def _columns(table: LongTable, layout: Layout, patterns: Sequence[str], option: str) -> list[str]:
    for pattern in patterns:
        name = pattern if pattern in table.types else pattern.removeprefix("!")
        if name in layout.taken:
            raise ConfigError(f"{option}: {layout.refusal(name)}")
    # A column with a reserved name, such as a second label, is only a feature if it is named.
    free = [c for c in table.types if c not in table.renamed or {c, f"!{c}"} & set(patterns)]
    return _matching(patterns, [c for c in free if c not in layout.taken], option)


def _matching(patterns: Sequence[str], names: Sequence[str], option: str) -> list[str]:
    chosen, unmatched = matched_names(names, patterns)
    if unmatched:
        raise ConfigError(
            f"{option}: no column matches '{unmatched[0]}'{did_you_mean(unmatched[0], names)}; "
            f"expected one of {abridged(names)}"
        )
    return chosen


def _inferred_kind(name: str, dtype: pl.DataType) -> Kind:
    inner = inner_type(dtype)
    if is_category(inner):
        return Kind.CATEGORICAL
    if inner.is_numeric():
        return Kind.NUMERIC
    raise ConfigError(
        f"feature '{name}': expected integers, numbers, strings or booleans, found {dtype}; "
        f"convert the column, or leave it out, with '!{name}' after a pattern that matches it"
    )


def _mistakes(error: ValidationError, values: Any = None) -> str:
    """Return all mistakes, with the name of the feature where it has one."""
    messages = []
    for mistake in error.errors():
        place, found = ".".join(map(str, mistake["loc"])), values
        for part in mistake["loc"][:2]:
            try:
                found = found[part]
            except (LookupError, TypeError):
                found = None
        if isinstance(found, Mapping) and "name" in found:
            place += f" ('{found['name']}')"
        message = mistake["msg"].removeprefix("Value error, ")
        messages.append(f"{place}: {message}" if place else message)
    return "; ".join(messages)
