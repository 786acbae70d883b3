"""Timestamps: one moment, however it is written."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from cascaderank.data.sources._shared.timestamps import utc_timestamps
from cascaderank.errors import ConfigError, DataError

MOMENT = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
SECONDS = int(MOMENT.timestamp())


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (SECONDS, "s"),
        (float(SECONDS), "s"),
        (SECONDS * 1_000, "ms"),
        (SECONDS * 1_000_000, "us"),
        ("2024-05-01T12:30:00Z", "iso"),
        ("2024-05-01T12:30:00Z", ""),
        ("2024-05-01 12:30:00", "iso"),
        ("2024-05-01 12:30", "iso"),
        ("2024-05-01T14:30:00.000+02:00", "iso"),
        (" 2024-05-01T05:30:00-07:00 ", "iso"),
        (MOMENT, ""),
        (MOMENT.replace(tzinfo=None), ""),
    ],
)
def test_a_moment_is_the_same_however_it_is_written(value, unit):
    times = utc_timestamps(pl.Series([value, None]), unit, column="when")
    assert times.dtype == pl.Datetime("us", "UTC")
    assert times.to_list() == [MOMENT, None]


def test_other_zones_and_units_of_datetimes_become_utc_microseconds():
    paris = pl.Series([MOMENT]).dt.cast_time_unit("ns").dt.convert_time_zone("Europe/Paris")
    times = utc_timestamps(paris, "", column="when")
    assert times.dtype == pl.Datetime("us", "UTC")
    assert times.to_list() == [MOMENT]


def test_a_date_is_its_first_moment():
    midnight = [datetime(2024, 5, 1, tzinfo=UTC)]
    assert utc_timestamps(pl.Series([date(2024, 5, 1)]), "", column="d").to_list() == midnight
    assert utc_timestamps(pl.Series(["2024-05-01"]), "iso", column="d").to_list() == midnight


def test_fractions_of_seconds_stay():
    times = utc_timestamps(pl.Series([SECONDS + 0.25]), "s", column="when")
    assert times.to_list() == [MOMENT.replace(microsecond=250_000)]
    times = utc_timestamps(pl.Series(["2024-05-01T12:30:00.25Z"]), "iso", column="when")
    assert times.to_list() == [MOMENT.replace(microsecond=250_000)]


@pytest.mark.parametrize(
    ("values", "unit", "told"),
    [
        ([SECONDS], "", "'when' holds numbers, such as .*expected timestamp_unit 's' or 'ms'"),
        ([SECONDS], "iso", "holds numbers"),
        (
            ["2024-05-01"],
            "s",
            "holds text, such as .*expected timestamp_unit 'iso' or 'yyyymmdd', got 's'",
        ),
        ([MOMENT], "s", "expected timestamp_unit '', got 's'"),
    ],
)
def test_a_unit_that_does_not_go_with_the_column_is_refused(values, unit, told):
    with pytest.raises(ConfigError, match=told):
        utc_timestamps(pl.Series(values), unit, column="when")


@pytest.mark.parametrize(
    ("values", "unit", "told"),
    [
        ([SECONDS, SECONDS * 1_000], "s", rf"to 2100-.*found {SECONDS * 1_000} s and 0 more"),
        ([-1], "ms", "found -1 ms"),
        ([float("nan")], "s", "found nan s"),
        (["yesterday", "2024-05-01"], "iso", "found 'yesterday' and 0 more such values"),
        (["2024-13-01"], "iso", "found '2024-13-01'"),
        ([True], "", "expected times, found Boolean"),
    ],
)
def test_what_is_no_time_is_refused(values, unit, told):
    with pytest.raises(DataError, match=told):
        utc_timestamps(pl.Series(values), unit, column="when")
