"""Rules for rows of candidates: null values, names of levels, and repeated candidates."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import polars as pl

from cascaderank.data.log.validation import ITEM_KEY
from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT, REQUEST_WEIGHT, check_weights
from cascaderank.data.sources._long.layout import MAYBE_BOOLEAN, Layout
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.schema import Role, abridged

NullLevel = Literal["error", "lowest", "drop"]
"""What a null level becomes: an error, the lowest level, or a row that is left out."""

NullValue = Literal["error", "zero", "drop"]
"""What a null label or feedback becomes: an error, 0, or a row that is left out."""

NullWeight = Literal["error", "one", "zero"]
"""What a null weight of a request or candidate becomes: an error, 1 or 0."""

SeveralTimes = Literal["error", "earliest"]
"""What rows of a request with different timestamps become: an error, or their earliest time."""

Repeated = Literal["error", "keep", "first", "last"]
"""What becomes of rows with the same candidate in one request."""


@dataclass(frozen=True)
class RowRules:
    """Options of the ``long`` source that decide about single rows."""

    level_names: tuple[str, ...]
    null_level: NullLevel
    null_label: NullValue
    null_feedback: NullValue
    null_weight: NullWeight
    repeated: Repeated | None
    """``None``: an error for candidates with a key, else keep."""


def ruled_rows(
    rows: pl.DataFrame, layout: Layout, rules: RowRules, counts: Counter[str]
) -> pl.DataFrame:
    """Apply the rules to rows whose columns have the names of a request log.

    Args:
        rows: one row per candidate, with all rows of each request.
        layout: purpose of the columns.
        rules: what to do with null values and repeated candidates.
        counts: receives the number of rows that were changed or left out, by the name of a note.

    Returns:
        The remaining rows in the same order. Levels are integers.

    Raises:
        ConfigError: if levels have no names.
        DataError: if a value is null or a candidate is repeated and its rule is ``"error"``, or a
            level or a weight is invalid.
    """
    numbers = [*layout.candidates, *([REQUEST_WEIGHT] if layout.request_weight else [])]
    rows = rows.with_columns(
        _is_true(rows[name]) if name in MAYBE_BOOLEAN else _without_nan(rows[name])
        for name in numbers
    )
    if "level" in layout.candidates:
        _check_level_names(rows["level"], rules.level_names)
    for name, rule in (
        ("level", rules.null_level),
        ("label", rules.null_label),
        ("feedback", rules.null_feedback),
    ):
        if name in layout.candidates:
            rows = _without_null(rows, name, rule, layout, counts)
    if "position" in layout.candidates:
        if unknown := rows["position"].null_count():
            counts["null_positions_taken_as_0"] += unknown
        rows = rows.with_columns(_whole(rows, "position", layout).fill_null(0))
    if "level" in layout.candidates:
        rows = rows.with_columns(_levels(rows, rules.level_names, layout))
    if CANDIDATE_WEIGHT in layout.candidates:
        column = layout.candidates[CANDIDATE_WEIGHT]
        rows = ruled_weights(rows, CANDIDATE_WEIGHT, column, rules, counts)
    if layout.item_key:
        _check_keys(rows, layout)
    return _without_repeats(rows, layout, rules.repeated, counts)


def ruled_weights(
    frame: pl.DataFrame, name: str, column: str, rules: RowRules, counts: Counter[str]
) -> pl.DataFrame:
    """Apply the rule for null weights, and check the others.

    Args:
        frame: one row per candidate or per request, with ``request_id``.
        name: column of the weights in a request log.
        column: column of the weights in the files.
        rules: what to do with a null weight.
        counts: receives the number of weights that were null.

    Raises:
        DataError: if a weight is null and the rule is ``"error"``, or is negative or infinite.
    """
    nulls = frame[name].null_count()
    if nulls and rules.null_weight != "error":
        value = 1.0 if rules.null_weight == "one" else 0.0
        counts[f"null_{name}s_taken_as_{value:g}"] += nulls
        frame = frame.with_columns(pl.col(name).cast(pl.Float64).fill_null(value))
    option = "null_weight=one or null_weight=zero"
    check_weights(frame[name], frame["request_id"], name=name, column=column, option=option)
    return frame


def _without_nan(column: pl.Series) -> pl.Series:
    """Return a column with null for NaN, which pandas writes for a missing number."""
    return column.fill_nan(None) if column.dtype.is_float() else column


def _is_true(column: pl.Series) -> pl.Series:
    """Return numbers, where text is ``true`` or ``false``."""
    if _is_text(column.dtype):
        return column.str.to_lowercase() == "true"
    return _without_nan(column)


def _without_null(
    rows: pl.DataFrame, name: str, rule: str, layout: Layout, counts: Counter[str]
) -> pl.DataFrame:
    is_null = rows[name].is_null()
    count = int(is_null.sum())
    if not count:
        return rows
    if rule == "error":
        other = "lowest" if name == "level" else "zero"
        meaning = "the lowest level" if name == "level" else "0"
        raise DataError(
            f"column '{layout.candidates[name]}' ({name}) is null in {count:,} of {rows.height:,} "
            f"rows, first in request {_first(rows, is_null)}; fill it, or set "
            f"null_{name}={other} (null is {meaning}) or null_{name}=drop (the row is left out)"
        )
    if rule == "drop":
        counts[f"candidates_left_out_{name}_null"] += count
        return rows.filter(~is_null)
    counts[f"null_{name}s_taken_as_{'lowest' if name == 'level' else '0'}"] += count
    if name == "level":
        return rows.with_columns(_lowest(rows["level"]))
    return rows.with_columns(pl.col(name).cast(pl.Float64).fill_null(0.0))


def _lowest(levels: pl.Series) -> pl.Series:
    if _is_text(levels.dtype):
        return levels.cast(pl.String)  # null becomes 0 with the names
    return levels.cast(pl.Float64 if levels.dtype.is_float() else pl.Int64).fill_null(0)


def integers(rows: pl.DataFrame, name: str, expected: str, remedy: str) -> pl.Series:
    """Return a column with integers for numbers such as 2.0, and null for NaN.

    Args:
        rows: frame with the column and ``request_id``.
        name: name of the column.
        expected: start of the message of the error.
        remedy: end of it.

    Raises:
        DataError: if a number is not an integer.
    """
    column = rows[name]
    if not column.dtype.is_float():
        return column.cast(pl.Int64) if column.dtype == pl.Null else column
    column = column.fill_nan(None)
    broken = ((column != column.round()) | column.is_infinite()).fill_null(value=False)
    if broken.any():
        raise DataError(
            f"{expected}, found {column.filter(broken)[0]} in request {_first(rows, broken)}; "
            f"{remedy}"
        )
    return column.cast(pl.Int64)


def _whole(rows: pl.DataFrame, name: str, layout: Layout) -> pl.Series:
    expected = f"column '{layout.candidates[name]}' ({name}): expected integers"
    return integers(rows, name, expected, "correct the rows")


def _check_level_names(levels: pl.Series, level_names: tuple[str, ...]) -> None:
    if level_names:
        return
    values = levels.drop_nulls().unique().sort().to_list()
    raise ConfigError(
        f"expected names of the levels {abridged(map(str, values))}, found none; set "
        "level_names=[...], lowest first, or level=none if they are not the levels of a funnel"
    )


def _levels(rows: pl.DataFrame, level_names: tuple[str, ...], layout: Layout) -> pl.Series:
    levels, column = rows["level"], layout.candidates["level"]
    if not _is_text(levels.dtype):
        if levels.dtype.is_nested() or not (levels.dtype.is_numeric() or levels.dtype == pl.Null):
            raise DataError(
                f"column '{column}' (level): expected integers or names, found {levels.dtype}; "
                "convert the column, or set level to another one"
            )
        levels = _whole(rows, "level", layout)
        outside = (levels < 0) | (levels >= len(level_names))
        if outside.any():
            raise DataError(
                f"column '{column}' (level): expected 0 to {len(level_names) - 1} "
                f"({', '.join(level_names)}), found {levels.filter(outside)[0]} in request "
                f"{_first(rows, outside)} and {int(outside.sum()) - 1:,} more rows outside; name "
                "all levels in level_names, lowest first"
            )
        return levels
    text = levels.cast(pl.String)
    strange = ~text.is_in(list(level_names)).fill_null(value=True)
    if strange.any():
        value = text.filter(strange)[0]
        raise DataError(
            f"column '{column}' (level): expected one of {', '.join(level_names)}, found '{value}'"
            f"{did_you_mean(value, level_names)} in request {_first(rows, strange)} and "
            f"{int(strange.sum()) - 1:,} more rows with other names; add them to level_names"
        )
    numbers = list(range(len(level_names)))
    return text.replace_strict(list(level_names), numbers, return_dtype=pl.Int8).fill_null(0)


def _check_keys(rows: pl.DataFrame, layout: Layout) -> None:
    is_null = rows[ITEM_KEY].is_null()
    if is_null.any():
        raise DataError(
            f"column '{layout.item_key}' (item_key) is null in {int(is_null.sum()):,} of "
            f"{rows.height:,} rows, first in request {_first(rows, is_null)}; fill it, or leave "
            "the rows out"
        )


def _without_repeats(
    rows: pl.DataFrame, layout: Layout, rule: Repeated | None, counts: Counter[str]
) -> pl.DataFrame:
    """Apply the rule for repeated candidates: of one key, or equal in every column without keys."""
    if layout.item_key:
        same, what = ["request_id", ITEM_KEY], "repeated_candidates"
    else:
        same = ["request_id", *layout.candidates]
        same += [f.name for f in layout.schema.of(Role.ITEM)]
        what = "equal_rows"
    # A row with a unique hash is unique; only the others are compared.
    suspects = rows.filter(rows.select(same).hash_rows().is_duplicated())
    count = suspects.height - suspects.select(same).n_unique()
    if not count:
        return rows
    rule = rule or ("error" if layout.item_key else "keep")
    if rule == "error":
        repeat = suspects.filter(suspects.select(same).is_duplicated())
        found = f"row equal in the columns {abridged(same[1:], 4)}"
        if layout.item_key:
            found = f"candidate {repeat[ITEM_KEY][0]!r} of column '{layout.item_key}' (item_key)"
        raise DataError(
            f"repeated candidates: {count:,} of {rows.height:,} rows repeat a candidate of their "
            f"request, first the {found} in request {repeat['request_id'][0]!r}; set "
            "repeated=first or repeated=last to use one row of each, or repeated=keep for all"
        )
    if rule == "keep":
        counts[f"{what}_kept"] += count
        return rows
    counts[f"{what}_left_out"] += count
    return rows.unique(same, keep=rule, maintain_order=True)


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def _first(rows: pl.DataFrame, where: pl.Series) -> str:
    return repr(rows["request_id"].filter(where.fill_null(value=False))[0])
