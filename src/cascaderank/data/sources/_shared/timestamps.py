"""Conversion of numbers, text, dates and times to timestamps in UTC; names of time zones.

Times are refused outside a plausible range, since a wrong unit or format makes other times of
them, and files often have 0, the year 1 or the year 9999 for a time that is unknown. Numbers in a
unit that is 1,000 times too small are before March 1970, whatever the day is.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal, cast
from zoneinfo import available_timezones

import polars as pl

from cascaderank.data.sources._shared.input_files import shown
from cascaderank.errors import ConfigError, DataError, did_you_mean

TimestampUnit = Literal["", "s", "ms", "us", "ns", "iso", "yyyymmdd"]
"""Unit of numbers since 1970, ``"iso"`` for ISO 8601 text, ``"yyyymmdd"`` for days such as 20260101
as numbers or text, or empty if no unit is needed."""

TimeRange = tuple[datetime, datetime]
"""The first time, and the end, which is later than the last time."""

PLAUSIBLE: TimeRange = (datetime(1971, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
"""Range of times that are accepted by default."""

_REMEDY = "correct the values, or set time_range if they are right"
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_ZONED = "%Y-%m-%dT%H:%M:%S%.f%:z"
_ISO = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")


def utc_timestamps(
    times: pl.Series,
    unit: TimestampUnit,
    *,
    column: str,
    time_zone: str = "UTC",
    pattern: str = "",
    time_range: TimeRange = PLAUSIBLE,
    remedy: str = "",
) -> pl.Series:
    """Convert times to Datetime in microseconds, in UTC; null stays null.

    Args:
        times: numbers, ISO 8601 text (with or without an offset), Date or Datetime. A date becomes
            midnight.
        unit: unit of numbers since 1970; ``"iso"`` or empty for text, empty for Date and Datetime.
        column: name of the column, for messages.
        time_zone: zone of times without one. A time that occurs twice, when clocks are set back, is
            the earlier one. Numbers since 1970 are independent of it.
        pattern: format of text, or of days and times written as integers, such as ``"%d-%m-%y"``;
            default: ISO 8601.
        time_range: range that all times must be in.
        remedy: what to do about times outside it, for the message; default: options of the source
            ``long``.

    Raises:
        ConfigError: if the unit is missing, or the unit or the pattern does not fit the type of the
            column.
        DataError: if a value is not a time or is outside the range (the message names the unit in
            which numbers are inside), or the time does not exist in its zone because clocks were
            set forward.

    Examples:
        >>> utc_timestamps(pl.Series([1_650_000_000_000]), "ms", column="time_ms")[0].isoformat()
        '2022-04-15T05:20:00+00:00'

    Source: this project.
    """
    dtype = times.dtype
    kind = "numbers" if dtype.is_numeric() else "text" if dtype == pl.String else str(dtype)
    units = {"numbers": (*_PER_SECOND, "yyyymmdd"), "text": ("", "iso", "yyyymmdd")}.get(
        kind, ("",)
    )
    if pattern:
        if unit or not (kind == "text" or dtype.is_integer()):
            raise ConfigError(
                f"timestamp column '{column}' holds {kind}, with timestamp_unit='{unit}'; "
                "expected text and no unit with timestamp_format; leave out one of both"
            )
        parsed = _from_pattern(times.cast(pl.String), column, time_zone, pattern)
        return _within(parsed, times, column, time_range, remedy)
    if unit not in units:
        expected = " or ".join(f"'{u}'" for u in units if u) or "''"
        example = times.drop_nulls()[:1].to_list()
        raise ConfigError(
            f"timestamp column '{column}' holds {kind}, such as {example}; "
            f"expected timestamp_unit {expected}, got '{unit}'"
        )
    if kind == "numbers" and unit != "yyyymmdd":
        return _from_numbers(times, unit, column, time_range, remedy)
    if unit == "yyyymmdd":
        parsed = _from_days(times, column, time_zone)
    elif kind == "text":
        parsed = _from_text(times, column, time_zone)
    elif isinstance(dtype, pl.Date):
        parsed = _in_utc(times.cast(pl.Datetime("us")), column, time_zone)
    elif isinstance(dtype, pl.Datetime):
        micros = times.dt.cast_time_unit("us")
        zoned = dtype.time_zone is not None
        parsed = micros.dt.convert_time_zone("UTC") if zoned else _in_utc(micros, column, time_zone)
    else:
        raise DataError(f"timestamp column '{column}': expected times, found {dtype}")
    return _within(parsed, times, column, time_range, remedy)


def _within(
    parsed: pl.Series, times: pl.Series, column: str, time_range: TimeRange, remedy: str
) -> pl.Series:
    """Check that all times are in a range."""
    first, end = time_range
    outside = times.filter(((parsed < first) | (parsed >= end)).fill_null(value=False))
    if len(outside):
        raise DataError(
            f"timestamp column '{column}': expected times {_shown(time_range)}, found "
            f"{shown(str(outside[0]))} and {len(outside) - 1:,} more outside; {remedy or _REMEDY}"
        )
    return parsed


def _shown(time_range: TimeRange) -> str:
    return " to ".join(t.isoformat(" ", "seconds").removesuffix("+00:00") for t in time_range)


def _in_utc(times: pl.Series, column: str, time_zone: str) -> pl.Series:
    """Convert times without a zone."""
    zoned = times.dt.replace_time_zone(time_zone, ambiguous="earliest", non_existent="null")
    skipped = times.filter(zoned.is_null() & times.is_not_null())
    if len(skipped):
        raise DataError(
            f"timestamp column '{column}': {skipped[0]} and {len(skipped) - 1:,} more times do not "
            f"exist in {time_zone}, where clocks were set forward; check time_zone"
        )
    return zoned.dt.convert_time_zone("UTC")


def _from_days(times: pl.Series, column: str, time_zone: str) -> pl.Series:
    text = times.cast(pl.Int64) if times.dtype.is_numeric() else times.str.strip_chars()
    text = text.cast(pl.String)
    days = text.str.to_date("%Y%m%d", strict=False)
    days = days.zip_with(text.str.len_chars() == 8, pl.Series([None], dtype=pl.Date))
    invalid = times.filter(days.is_null() & times.is_not_null())
    if len(invalid):
        raise DataError(
            f"timestamp column '{column}': expected days such as 20260101, found "
            f"{shown(str(invalid[0]))} and {len(invalid) - 1:,} more such values; check "
            "timestamp_unit"
        )
    return _in_utc(days.cast(pl.Datetime("us")), column, time_zone)


def _from_numbers(
    times: pl.Series, unit: str, column: str, time_range: TimeRange, remedy: str
) -> pl.Series:
    outside = _outside(times, unit, time_range)
    if len(outside):
        fitting = [u for u in _PER_SECOND if not len(_outside(times, u, time_range))]
        example = f"{outside[0]} {unit}"
        with suppress(OverflowError, ValueError, OSError):
            when = datetime.fromtimestamp(outside[0] / _PER_SECOND[unit], UTC)
            example += f" ({when:%Y-%m-%d %H:%M})"
        if fitting and not remedy:
            remedy = f"set timestamp_unit={fitting[0]}, with which all are inside"
        raise DataError(
            f"timestamp column '{column}': expected times {_shown(time_range)}, found {example} "
            f"and {len(outside) - 1:,} more outside; {remedy or _REMEDY}"
        )
    factor = 1_000_000 / _PER_SECOND[unit]
    if times.dtype.is_integer():
        whole = times.cast(pl.Int64)
        micros = whole * int(factor) if factor >= 1 else whole // round(1 / factor)
    else:
        micros = (times.cast(pl.Float64) * factor).round().cast(pl.Int64)
    return micros.cast(pl.Datetime("us", "UTC"))


def _outside(times: pl.Series, unit: str, time_range: TimeRange) -> pl.Series:
    seconds = times.cast(pl.Float64) / _PER_SECOND[unit]
    first, end = (time.timestamp() for time in time_range)
    inside = seconds.is_between(first, end, closed="left")
    return times.filter(~inside & times.is_not_null())


def _from_pattern(times: pl.Series, column: str, time_zone: str, pattern: str) -> pl.Series:
    parsed = times.str.strip_chars().str.to_datetime(pattern, time_unit="us", strict=False)
    _check_parsed(times, parsed, column, f"the timestamp_format '{pattern}'", "correct the format")
    if cast("pl.Datetime", parsed.dtype).time_zone is None:
        return _in_utc(parsed, column, time_zone)
    return parsed.dt.convert_time_zone("UTC")


def _check_parsed(
    times: pl.Series, parsed: pl.Series, column: str, expected: str, remedy: str
) -> None:
    invalid = times.filter(parsed.is_null() & times.is_not_null())
    if len(invalid):
        raise DataError(
            f"timestamp column '{column}': expected {expected}, found "
            f"{shown(cast('str', invalid[0]))} and {len(invalid) - 1:,} more such values; {remedy}"
        )


def _from_text(times: pl.Series, column: str, time_zone: str) -> pl.Series:
    text = times.str.strip_chars().str.replace(" ", "T", literal=True)
    text = text.str.replace("Z$", "+00:00")
    # Polars takes the 31 of 31-01-24 for a year.
    text = text.zip_with(text.str.contains(r"^[0-9]{4}-"), pl.Series([None], dtype=pl.String))
    local = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    for pattern in _ISO:
        matched = text.str.to_datetime(pattern, time_unit="us", strict=False)
        local = local.zip_with(local.is_not_null(), matched)
    parsed = text.str.to_datetime(_ZONED, time_unit="us", time_zone="UTC", strict=False)
    parsed = parsed.zip_with(parsed.is_not_null(), _in_utc(local, column, time_zone))
    remedy = "set timestamp_format to their format, such as '%d-%m-%y'"
    expected = "ISO 8601 such as 2024-05-01T12:00:00Z"
    _check_parsed(times, parsed, column, expected, remedy)
    return parsed


def time_zone_mistake(time_zone: str) -> str:
    """Return an error message if no time zone has this name, else an empty string.

    Polars ships a time zone database of its own, so the result does not depend on the machine.

    Examples:
        >>> time_zone_mistake("UTC")
        ''

    Source: this project.
    """
    try:
        if not time_zone:
            raise pl.exceptions.ComputeError(time_zone)
        pl.Series([0]).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(time_zone)
    except pl.exceptions.PolarsError:
        names: Iterable[str] = ()
        with suppress(OSError):  # the machine may have no time zone database
            names = available_timezones()
        return (
            "time_zone: expected the name of a time zone, such as Asia/Shanghai or UTC; got "
            f"{shown(time_zone)}{did_you_mean(time_zone, names)}"
        )
    return ""


def parsed_time_range(time_range: tuple[str, str]) -> TimeRange:
    """Return the times of an option with a range, such as ``("1971-01-01", "2100-01-01")``.

    Args:
        time_range: first time and end, in ISO 8601; times without a zone are in UTC.

    Raises:
        ConfigError: if one of both is not a time, or the end is not after the first.

    Examples:
        >>> parsed_time_range(("1971-01-01", "2100-01-01")) == PLAUSIBLE
        True
    """
    try:
        first, end = (datetime.fromisoformat(text) for text in time_range)
        first, end = (t if t.tzinfo else t.replace(tzinfo=UTC) for t in (first, end))
        is_ordered = first < end
    except ValueError:
        is_ordered = False
    if not is_ordered:
        raise ConfigError(
            "time_range: expected a first time and a later end, such as "
            f'["1971-01-01", "2100-01-01"]; got {list(time_range)}'
        )
    return first, end


def check_timestamp_format(pattern: str) -> None:
    """Check that the format of times has a year, a month and a day, or is empty.

    Raises:
        ConfigError: if it does not have them.
    """
    days = (("%Y", "%y"), ("%m", "%b", "%B"), ("%d", "%e"))
    whole = ("%F", "%D", "%s", "%x", "%j", "%c", "%v", "%+")
    has_day = all(any(p in pattern for p in part) for part in days)
    if pattern and not (has_day or any(p in pattern for p in whole)):
        raise ConfigError(
            "timestamp_format: expected a format with year, month and day, such as '%d-%m-%y'; got "
            f"'{pattern}'"
        )


def check_time_zone(time_zone: str) -> None:
    """Check the name of a time zone.

    Raises:
        ConfigError: if no time zone has this name; the nearest name is suggested.
    """
    if mistake := time_zone_mistake(time_zone):
        raise ConfigError(mistake)
