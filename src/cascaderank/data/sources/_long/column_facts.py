"""What the columns of a long table hold: types, nulls, distinct values, and how to use them."""

from dataclasses import dataclass

import polars as pl
from pydantic import JsonValue

from cascaderank.data.sources._long.layout import Layout, inner_type, is_category
from cascaderank.data.sources._shared.input_files import shown
from cascaderank.data.sources._shared.long_table import LongTable
from cascaderank.data.sources._shared.timestamps import utc_timestamps
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Kind, Role, Schema

_MANY_ROWS = 1_000  # with fewer, all values of an ordinary column may differ


@dataclass(frozen=True)
class ColumnFacts:
    """A column, its values in a sample, and the feature that it is or could be."""

    name: str
    dtype: pl.DataType
    purpose: str
    """``request_id``, ``timestamp``, ``level``, ...; empty for a feature."""
    feature: Feature
    is_used: bool
    """Whether the proposal contains the feature."""
    problem: str
    """Why the column is not proposed; may be empty."""
    null_share: float
    """Fraction of rows that are null or NaN, in [0, 1]."""
    distinct: int
    """Number of distinct values, without null."""
    examples: tuple[str, ...]
    by_frequency: tuple[str, ...]
    """Up to 100 values, the most frequent first; empty unless the column is a level."""

    def described(self) -> str:
        """Return the facts for a comment."""
        parts = [str(self.dtype)]
        parts += [f"{self.null_share:.1%} null"] if self.null_share else []
        parts += [f"{self.distinct:,} distinct"] * (self.distinct > 0)
        text = ", ".join(parts) + (f": {', '.join(self.examples)}" if self.examples else "")
        return f"not used, {self.problem}; {text}" if self.problem else text

    def as_json(self) -> dict[str, JsonValue]:
        """Return the facts as JSON values."""
        free = not self.purpose
        return {
            "name": self.name,
            "type": str(self.dtype),
            "purpose": self.purpose or None,
            "role": self.feature.role.value if free else None,
            "kind": self.feature.kind.value if free else None,
            "used": self.is_used or not free,
            "not_used_because": self.problem or None,
            "null_share": self.null_share,
            "distinct": self.distinct,
            "examples": list(self.examples),
        }


def column_facts(
    table: LongTable, layout: Layout, sample: pl.DataFrame, schema: Schema | None
) -> list[ColumnFacts]:
    """Describe all columns, in the order of the table.

    Args:
        table: the table.
        layout: purpose of the columns that are no features.
        sample: some rows with all columns.
        schema: features that were chosen; ``None`` to propose every column that can be one.
    """
    constant = _constant_within_requests(sample, layout.request_id)
    facts = []
    for name, dtype in table.types.items():
        purpose = layout.taken.get(name, "")
        column = sample[name]
        if column.dtype.is_float():
            column = column.fill_nan(None)
        known = column.drop_nulls()
        values = known.explode().drop_nulls() if dtype.is_nested() else known
        distinct = 0 if isinstance(values.dtype, pl.Struct) else values.n_unique()
        role, problem = _role(table, name, known, distinct, is_constant=name in constant)
        feature = None
        if schema is not None:
            feature = next((f for f in schema.features if f.name == name), None)
            problem = "" if feature else problem or "not chosen"
        elif name == layout.item_key and not purpose and problem == _UNIQUE:
            problem = ""
        inner = inner_type(dtype)
        numeric = inner.is_numeric() and not inner.is_integer()
        listed = isinstance(dtype, pl.List | pl.Array) and role is Role.ITEM
        if listed and numeric and not problem and _width(known) is None:
            problem = "lists of numbers of different lengths"
        facts.append(
            ColumnFacts(
                name=name,
                dtype=dtype,
                purpose=purpose,
                feature=feature
                or Feature.model_construct(
                    name=name,
                    role=role,
                    kind=Kind.NUMERIC if numeric else Kind.CATEGORICAL,
                    vocabulary="" if numeric else name,
                    missing=len(known) < len(column)
                    and role is not Role.HISTORY
                    and (numeric or not listed),
                    multiple=listed and not numeric,
                    width=_width(known) if listed and numeric else None,
                ),
                is_used=not purpose and not problem,
                problem="" if purpose else problem,
                null_share=1 - len(known) / max(len(column), 1),
                distinct=distinct,
                examples=() if dtype.is_nested() and problem else _examples(values),
                by_frequency=_by_frequency(known) if purpose == "level" else (),
            )
        )
    return facts


_UNIQUE = "every row has another value"
TIMES = "times, see timestamp"
"""Problem of columns that could be the timestamp."""


def _role(
    table: LongTable, name: str, known: pl.Series, distinct: int, *, is_constant: bool
) -> tuple[Role, str]:
    """Return the role that a column could have, and why it should not be a feature."""
    dtype = table.types[name]
    role = Role.REQUEST if is_constant else Role.ITEM
    if isinstance(dtype, pl.List | pl.Array):
        role = Role.HISTORY if is_constant else Role.ITEM
    inner = inner_type(dtype)
    if _are_times(known):
        return role, TIMES
    if not (is_category(inner) or inner.is_numeric()):
        return role, f"{dtype} is neither numbers nor text"
    if name in table.renamed:
        return role, f"called '{table.renamed[name]}' in the files, a reserved name"
    if name in table.hive.types:
        return role, "from the names of folders"
    if not len(known):
        return role, "null in the sample"
    if distinct == 1 and role is not Role.HISTORY:
        return role, "one value in the sample"
    if is_category(inner) and distinct == len(known) >= _MANY_ROWS and role is Role.ITEM:
        return role, _UNIQUE
    return role, ""


def _width(known: pl.Series) -> int | None:
    """Return the length of all lists; ``None`` if lengths differ or there are no lists."""
    if isinstance(known.dtype, pl.Array):
        return known.dtype.size
    lengths = known.list.len().unique()
    return int(lengths[0]) if len(lengths) == 1 and lengths[0] else None


def _are_times(known: pl.Series) -> bool:
    """Return whether values are dates or times, as such or as text."""
    if known.dtype.is_temporal() or known.dtype != pl.String or not len(known):
        return isinstance(known.dtype, pl.Date | pl.Datetime)
    try:
        utc_timestamps(known.head(100), "iso", column=known.name)
    except DataError:
        return False
    return True


def _constant_within_requests(sample: pl.DataFrame, request_id: str) -> set[str]:
    """Return the columns with one value in each request; none if all requests have one row."""
    several = sample.filter(pl.len().over(request_id) > 1)
    if not several.height:
        return set()
    first = pl.all().exclude(request_id).first().over(request_id)
    other = several.select(pl.all().exclude(request_id).ne_missing(first).any())
    return {name for name in other.columns if not other[name].item()}


def _examples(values: pl.Series) -> tuple[str, ...]:
    if isinstance(values.dtype, pl.Struct):
        return ()
    spread = values.gather_every(max(1, len(values) // 1_000))
    first = spread.unique(maintain_order=True).head(3).to_list()
    return tuple(_shown(value) for value in first)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return shown(value, most=24) if isinstance(value, str) else shown(str(value), 32).strip("'")


def _by_frequency(values: pl.Series) -> tuple[str, ...]:
    counts = values.value_counts().sort("count", values.name, descending=[True, False])
    return tuple(str(value) for value in counts[values.name].head(100).to_list())
