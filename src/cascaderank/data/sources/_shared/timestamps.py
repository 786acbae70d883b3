"""Conversion of numbers, text, dates and times to timestamps in UTC; names of time zones."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Literal, cast
from zoneinfo import available_timezones

import polars as pl

from cascaderank.data.sources._shared.input_files import shown
from cascaderank.errors import ConfigError, DataError, did_you_mean

TimestampUnit = Literal["", "s", "ms", "us", "iso", "yyyymmdd"]
"""Unit of numbers since 1970, ``"iso"`` for ISO 8601 text, ``"yyyymmdd"`` for days such as 20260101
as numbers or text, or empty if no unit is needed."""

_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
_LATEST = 4102444800  # 2100-01-01, in seconds
_ZONED = "%Y-%m-%dT%H:%M:%S%.f%:z"
_ISO = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")


def utc_timestamps(
    times: pl.Series, unit: TimestampUnit, *, column: str, time_zone: str = "UTC"
) -> pl.Series:
    """Convert times to Datetime in microseconds, in UTC; null stays null.

    Args:
        times: numbers, ISO 8601 text (with or without an offset), Date or Datetime. A date becomes
            midnight.
        unit: unit of numbers since 1970; ``"iso"`` or empty for text, empty for Date and Datetime.
        column: name of the column, for messages.
        time_zone: zone of times without one. A time that occurs twice, when clocks are set back, is
            the earlier one. Numbers since 1970 are independent of it.

    Raises:
        ConfigError: if the unit is missing, or does not fit the type of the column.
        DataError: if a value is not a time, or a number is before 1970 or after 2099 in that unit,
            or the time does not exist in its zone because clocks were set forward.

    Examples:
        >>> utc_timestamps(pl.Series([1_650_000_000_000]), "ms", column="time_ms")[0].isoformat()
        '2022-04-15T05:20:00+00:00'

    Source: this project.
    """
    dtype = times.dtype
    kind = "numbers" if dtype.is_numeric() else "text" if dtype == pl.String else str(dtype)
    units = {"numbers": ("s", "ms", "us", "yyyymmdd"), "text": ("", "iso", "yyyymmdd")}.get(
        kind, ("",)
    )
    if unit not in units:
        expected = " or ".join(f"'{u}'" for u in units if u) or "''"
        example = times.drop_nulls()[:1].to_list()
        raise ConfigError(
            f"timestamp column '{column}' holds {kind}, such as {example}; "
            f"expected timestamp_unit {expected}, got '{unit}'"
        )
    if unit == "yyyymmdd":
        return _from_days(times, column, time_zone)
    if kind == "numbers":
        return _from_numbers(times, unit, column)
    if kind == "text":
        return _from_text(times, column, time_zone)
    if isinstance(dtype, pl.Date):
        return _in_utc(times.cast(pl.Datetime("us")), column, time_zone)
    if isinstance(dtype, pl.Datetime):
        times = times.dt.cast_time_unit("us")
        zoned = dtype.time_zone is not None
        return times.dt.convert_time_zone("UTC") if zoned else _in_utc(times, column, time_zone)
    raise DataError(f"timestamp column '{column}': expected times, found {dtype}")


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
    days = text.cast(pl.String).str.to_date("%Y%m%d", strict=False)
    invalid = times.filter(days.is_null() & times.is_not_null())
    if len(invalid):
        raise DataError(
            f"timestamp column '{column}': expected days such as 20260101, found "
            f"{shown(str(invalid[0]))} and {len(invalid) - 1:,} more such values; check "
            "timestamp_unit"
        )
    return _in_utc(days.cast(pl.Datetime("us")), column, time_zone)


def _from_numbers(times: pl.Series, unit: str, column: str) -> pl.Series:
    seconds = times.cast(pl.Float64) * _PER_UNIT[unit] / 1_000_000
    outside = times.filter(~(seconds.is_between(0, _LATEST)) & times.is_not_null())
    if len(outside):
        raise DataError(
            f"timestamp column '{column}': expected times from 1970 to 2099, found {outside[0]} "
            f"{unit} and {len(outside) - 1:,} more out of range; check timestamp_unit"
        )
    if times.dtype.is_integer():
        micros = times.cast(pl.Int64) * _PER_UNIT[unit]
    else:
        micros = (times.cast(pl.Float64) * _PER_UNIT[unit]).round().cast(pl.Int64)
    return micros.cast(pl.Datetime("us", "UTC"))


def _from_text(times: pl.Series, column: str, time_zone: str) -> pl.Series:
    text = times.str.strip_chars().str.replace(" ", "T", literal=True)
    text = text.str.replace("Z$", "+00:00")
    local = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    for pattern in _ISO:
        matched = text.str.to_datetime(pattern, time_unit="us", strict=False)
        local = local.zip_with(local.is_not_null(), matched)
    parsed = text.str.to_datetime(_ZONED, time_unit="us", time_zone="UTC", strict=False)
    parsed = parsed.zip_with(parsed.is_not_null(), _in_utc(local, column, time_zone))
    invalid = times.filter(parsed.is_null() & times.is_not_null())
    if len(invalid):
        raise DataError(
            f"timestamp column '{column}': expected ISO 8601 such as 2024-05-01T12:00:00Z, found "
            f"{shown(cast('str', invalid[0]))} and {len(invalid) - 1:,} more such values"
        )
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
        pl.Series([0]).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(time_zone)
    except pl.exceptions.PolarsError:
        names: Iterable[str] = ()
        with suppress(OSError):  # the machine may have no time zone database
            names = available_timezones()
        return (
            "time_zone: expected the name of a time zone, such as Asia/Shanghai or UTC; got "
            f"'{time_zone}'{did_you_mean(time_zone, names)}"
        )
    return ""


def check_time_zone(time_zone: str) -> None:
    """Check the name of a time zone.

    Raises:
        ConfigError: if no time zone has this name; the nearest name is suggested.
    """
    if mistake := time_zone_mistake(time_zone):
        raise ConfigError(mistake)
