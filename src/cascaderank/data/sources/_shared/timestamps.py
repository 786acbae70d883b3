"""Timestamps in UTC, from numbers of a named unit, text, dates and times."""

from typing import Literal, cast

import polars as pl

from cascaderank.data.sources._shared.input_files import shown
from cascaderank.errors import ConfigError, DataError

TimestampUnit = Literal["", "s", "ms", "us", "iso"]
"""What a number counts since 1970, or ``"iso"`` for text; nothing for what needs no unit."""

_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
_LATEST = 4102444800  # 2100-01-01, in seconds
_ISO = ("%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")


def utc_timestamps(times: pl.Series, unit: TimestampUnit, *, column: str) -> pl.Series:
    """Return times as Datetime in microseconds, in UTC; null stays null.

    Args:
        times: numbers, ISO 8601 text (with or without an offset), Date or Datetime. What has no
            zone is UTC; a date is its first moment.
        unit: of numbers.
        column: what the times are called in messages.

    Raises:
        ConfigError: if the unit is missing, or does not go with what the column holds.
        DataError: if a time is no time, or a number is before 1970 or after 2099 in that unit.

    Examples:
        >>> utc_timestamps(pl.Series([1_650_000_000_000]), "ms", column="time_ms")[0].isoformat()
        '2022-04-15T05:20:00+00:00'

    Source: this project.
    """
    dtype = times.dtype
    kind = "numbers" if dtype.is_numeric() else "text" if dtype == pl.String else str(dtype)
    wanted = {"numbers": ("s", "ms", "us"), "text": ("", "iso")}.get(kind, ("",))
    if unit not in wanted:
        told = " or ".join(f"'{u}'" for u in wanted if u) or "''"
        some = times.drop_nulls()[:1].to_list()
        raise ConfigError(
            f"timestamp column '{column}' holds {kind}, such as {some}; "
            f"expected timestamp_unit {told}, got '{unit}'"
        )
    if kind == "numbers":
        return _from_numbers(times, unit, column)
    if kind == "text":
        return _from_text(times, column)
    if isinstance(dtype, pl.Date):
        return times.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(dtype, pl.Datetime):
        times = times.dt.cast_time_unit("us")
        zoned = dtype.time_zone is not None
        return times.dt.convert_time_zone("UTC") if zoned else times.dt.replace_time_zone("UTC")
    raise DataError(f"timestamp column '{column}': expected times, found {dtype}")


def _from_numbers(times: pl.Series, unit: str, column: str) -> pl.Series:
    seconds = times.cast(pl.Float64) * _PER_UNIT[unit] / 1_000_000
    outside = times.filter(~(seconds.is_between(0, _LATEST)) & times.is_not_null())
    if len(outside):
        raise DataError(
            f"timestamp column '{column}': expected times from 1970 to 2099, found {outside[0]} "
            f"{unit} and {len(outside) - 1:,} more outside; is timestamp_unit right?"
        )
    if times.dtype.is_integer():
        micros = times.cast(pl.Int64) * _PER_UNIT[unit]
    else:
        micros = (times.cast(pl.Float64) * _PER_UNIT[unit]).round().cast(pl.Int64)
    return micros.cast(pl.Datetime("us", "UTC"))


def _from_text(times: pl.Series, column: str) -> pl.Series:
    text = times.str.strip_chars().str.replace(" ", "T", literal=True)
    text = text.str.replace("Z$", "+00:00")
    found = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    found = found.dt.replace_time_zone("UTC")
    for pattern in _ISO:
        parsed = text.str.to_datetime(pattern, time_unit="us", time_zone="UTC", strict=False)
        found = found.zip_with(found.is_not_null(), parsed)
    unread = times.filter(found.is_null() & times.is_not_null())
    if len(unread):
        raise DataError(
            f"timestamp column '{column}': expected ISO 8601 such as 2024-05-01T12:00:00Z, found "
            f"{shown(cast('str', unread[0]))} and {len(unread) - 1:,} more like it"
        )
    return found
