"""Long tables: Parquet or CSV files with one row per candidate, a common format of exports."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import JsonValue

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT
from cascaderank.data.sources import DRY_RUNS, SOURCES, Inputs, Progress, checked_options
from cascaderank.data.sources._long.grouping import gathered, shares
from cascaderank.data.sources._long.layout import Layout, opened_table, typed_columns
from cascaderank.data.sources._long.proposal import proposed_options
from cascaderank.data.sources._long.row_rules import (
    NullLevel,
    NullValue,
    NullWeight,
    Repeated,
    RowRules,
    SeveralTimes,
)
from cascaderank.data.sources._long.schema_inference import (
    FeatureOptions,
    check_item_features,
    schema_of_options,
)
from cascaderank.data.sources._shared.csv_files import Decimal
from cascaderank.data.sources._shared.input_files import shown
from cascaderank.data.sources._shared.long_table import LongTable
from cascaderank.data.sources._shared.timestamps import (
    TimestampUnit,
    check_time_zone,
    check_timestamp_format,
    parsed_time_range,
)
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Kind, Transform, abridged

DRY_RUNS["long"] = proposed_options

_REQUESTS_PER_FRAME = 10_000


@SOURCES.register
@checked_options
def long_source(
    from_: Inputs,
    to: str | os.PathLike[str],
    *,
    request_id: str = "request_id",
    timestamp: str = "",
    timestamp_unit: TimestampUnit = "",
    timestamp_format: str = "",
    time_range: tuple[str, str] = ("1971-01-01", "2100-01-01"),
    time_zone: str = "UTC",
    several_times: SeveralTimes = "error",
    request_weight: str = "",
    level: str = "",
    level_names: tuple[str, ...] = (),
    null_level: NullLevel = "error",
    position: str = "",
    label: str = "",
    null_label: NullValue = "error",
    feedback: str = "",
    null_feedback: NullValue = "error",
    candidate_weight: str = "",
    null_weight: NullWeight = "error",
    item_key: str = "",
    repeated: Repeated | None = None,
    min_candidates: int = 1,
    request_features: tuple[str, ...] = (),
    item_features: tuple[str, ...] = (),
    history_features: tuple[str, ...] = (),
    categorical: tuple[str, ...] = (),
    numeric: tuple[str, ...] = (),
    missing: tuple[str, ...] = (),
    buckets: dict[str, int] | None = None,
    vocabulary: dict[str, str] | None = None,
    min_count: dict[str, int] | None = None,
    transform: Transform = Transform.STANDARDISE,
    schema: Path | dict[str, Any] | None = None,
    separator: str | None = None,
    decimal: Decimal = ".",
    rows_at_once: int = 10_000_000,
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    r"""Convert Parquet or CSV files with one row per candidate to a request log.

    Rows are grouped by request id, wherever they are in the files, and keep the order of the files.
    Folders such as ``day=2026-01-01`` in the path of a file are columns, here ``day``. At most
    about ``rows_at_once`` rows of the used columns are in memory. If the files have more, they are
    read several times, each time for another part of the requests.

    Args:
        from_: files, folders or globs such as ``logs/*.parquet``; from a folder and the folders in
            it, sorted by path, ``.parquet``, ``.pq``, ``.csv`` and ``.tsv`` files (CSV also with
            ``.gz``). All files are Parquet or all are CSV, with the same columns.
        to: folder of the request log to write.
        request_id: column of the request id.
        timestamp: column of the time of the request; default the column ``timestamp``, if it
            exists; ``"none"`` for no time.
        timestamp_unit: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"`` since 1970, or ``"yyyymmdd"`` for
            days such as 20260101, required if the column holds numbers; ``"iso"`` if it holds text
            such as ``2024-05-01T12:00:00Z``.
        timestamp_format: format of text that is not ISO 8601, such as ``"%d-%m-%y"`` for 31-01-24;
            years of two digits are 1970 to 2069.
        time_range: first time and end of the range that all times must be in, in ISO 8601. The
            default refuses times that come from a wrong unit or format, or stand for unknown ones.
        time_zone: zone in which days begin, such as ``"Asia/Shanghai"``: the days of the log, of
            ``split = {by = "day"}`` and of ``train.order = "days"``. Times without a zone are in
            it.
        several_times: what to do with a request whose rows have different times, such as those of
            impressions: ``"error"``, or ``"earliest"`` to use the earliest.
        request_weight: column of the weight of the request in training, at least 0: requests are
            drawn in proportion to it. Default the column ``request_weight``, if it exists.
        level: column of the funnel level that the candidate reached: integers from 0, the lowest,
            or names. The default of ``level``, ``position``, ``label``, ``feedback``,
            ``candidate_weight`` and ``item_key`` is the column of that name, if it exists.
            ``"none"`` is no column: one with the name is then a feature as any other, called
            ``level_feature``.
        level_names: names of the levels, lowest first; required if the table has levels.
        null_level: what to do with a candidate whose level is null: ``"error"`` refuses the log,
            ``"lowest"`` takes the lowest level, ``"drop"`` leaves the candidate out. Here and
            below, NaN counts as null, and what was changed or left out is counted in the notes of
            the log.
        position: column of the rank within the level, from 1; 0, or null, if unknown.
        label: column of the relevance.
        null_label: what to do with a candidate whose label is null: ``"error"``, ``"zero"`` or
            ``"drop"``.
        feedback: column of the user's response.
        null_feedback: what to do with a candidate whose feedback is null, as with ``null_label``.
        candidate_weight: column of the weight of the candidate in training, at least 0: it
            multiplies the gradient of the candidate's scores.
        null_weight: what to do with a weight of a request or candidate that is null: ``"error"``,
            ``"one"`` or ``"zero"``.
        item_key: column of the identity of the candidate, integers or strings, stored in the log to
            name candidates in results; it can also be a feature.
        repeated: what to do with rows that have the same ``item_key`` in one request, or without
            item keys are equal in all columns of the candidate: ``"error"``, ``"keep"`` them all,
            or use the ``"first"`` or the ``"last"``. Default: ``"error"`` with item keys, else
            ``"keep"``, and files of equal content are refused.
        min_candidates: requests with fewer candidates are left out; at least 1.
        request_features: columns that describe the request, constant over the rows of a request.
            This and the next five options accept names and shell patterns such as ``"user_*"``; a
            leading ``!`` excludes, as in ``["*", "!debug_*"]``. The whole name of a column, such as
            ``"price[usd]"``, is never a pattern.
        item_features: columns that describe the candidate, or the pair of request and candidate. A
            column of lists of categories is a feature with several values, such as genres, and one
            of lists of numbers of equal length a vector. So for the columns of the request.
        history_features: list columns of events before the request, oldest first, constant over
            the rows of a request; null is an empty history. Parquet only.
        categorical: features that are categorical. The kind of a feature that is in neither list
            is inferred and reported: integers, strings and booleans are categorical, other types
            numeric. In CSV, ``00712``, ``12e5`` and integers beyond 64 bits are strings, unless
            other values of the column have decimals.
        numeric: features that are numeric.
        missing: features that may be null; their NaN are read as null.
        buckets: number of hash buckets of hashed features or vocabularies, by name.
        vocabulary: shared vocabulary by feature, such as ``{history_video = "video"}``.
        min_count: least number of occurrences in training, by name of a categorical feature or
            vocabulary; values that are rarer are out of vocabulary. Default 1.
        transform: transformation that models apply to every numeric feature;
            ``"standardise_by_request"`` to those of candidates, and ``"standardise"`` to others.
        schema: JSON or TOML file with the schema of the features, or its table
            ``{features = [...]}``, instead of the options ``request_features`` to ``min_count``.
        separator: character between the fields of CSV files. Default: a tab in files named
            ``.tsv`` or ``.tab``, a comma in others.
        decimal: decimal mark of the numbers of CSV files, ``"."`` or ``","``.
        rows_at_once: approximate maximum number of rows in memory, 1 or more.
        name: name of the data set; default the name of the folder ``to``.
        overwrite: replace an existing request log.
        progress: callback that receives the rows written so far and the total.

    Raises:
        ConfigError: if an option is unknown, of a wrong type or out of range, or options contradict
            each other.
        DataError: if a file or column is missing, a file is damaged, or a value is invalid.

    Examples:
        >>> import tempfile
        >>> from cascaderank.data.log.request_log import RequestLog
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     _ = (folder / "rows.csv").write_text("visit,video,click\n1,7,0\n2,7,1\n1,9,1\n")
        ...     long_source(
        ...         folder / "rows.csv",
        ...         folder / "log",
        ...         request_id="visit",
        ...         label="click",
        ...         item_features=("video",),
        ...     )
        ...     next(RequestLog.open(folder / "log").frames()).rows()
        [(1, [7, 9], [0.0, 1.0]), (2, [7], [1.0])]

    Source: this project.
    """
    for option, value in (("rows_at_once", rows_at_once), ("min_candidates", min_candidates)):
        if value < 1:
            raise ConfigError(f"{option} must be at least 1; got {value}")
    check_time_zone(time_zone)
    check_timestamp_format(timestamp_format)
    times = parsed_time_range(time_range)
    table, layout = opened_table(
        from_,
        separator=separator,
        decimal=decimal,
        request_id=request_id,
        timestamp=timestamp,
        request_weight=request_weight,
        candidates={
            "level": level,
            "position": position,
            "label": label,
            "feedback": feedback,
            CANDIDATE_WEIGHT: candidate_weight,
        },
        item_key=item_key,
        copies=repeated is not None,
    )
    notes: dict[str, JsonValue] = {"files": len(table.files)}
    if table.hive.types:
        notes["columns_from_folders"] = [*table.hive.types]
    if time_zone != "UTC":
        notes["time_zone"] = time_zone
    chosen, inferred = schema_of_options(
        table,
        layout,
        FeatureOptions(
            request_features=request_features,
            item_features=item_features,
            history_features=history_features,
            categorical=categorical,
            numeric=numeric,
            missing=missing,
            buckets=buckets,
            vocabulary=vocabulary,
            min_count=min_count,
            transform=transform,
            schema=schema,
        ),
    )
    check_item_features(chosen)
    layout = replace(layout, schema=chosen)
    notes |= {f"taken_as_{k.value}": [*names] for k, names in inferred.items() if names}
    types = typed_columns(table, layout)
    notes |= _notes_on_text(table, inferred[Kind.CATEGORICAL] if inferred else ())
    renamed = {table.name_in_files(c): c for c in layout.schema.names if c in table.renamed}
    notes |= {"renamed": [f"{old} to {new}" for old, new in renamed.items()]} if renamed else {}
    notes["columns_not_used"] = [table.name_in_files(c) for c in table.types if c not in types]
    with RequestLogWriter(
        to,
        name=name or Path(to).name,
        schema=layout.schema,
        level_names=level_names,
        extra={"notes": notes},
        overwrite=overwrite,
    ) as writer:
        done = written = 0
        counts: Counter[str] = Counter()
        rules = RowRules(level_names, null_level, null_label, null_feedback, null_weight, repeated)
        for rows in shares(table, types, layout, rows_at_once):
            requests = gathered(
                rows,
                layout,
                rules,
                unit=timestamp_unit,
                time_zone=time_zone,
                pattern=timestamp_format,
                time_range=times,
                several_times=several_times,
                min_candidates=min_candidates,
                counts=counts,
            )
            for start in range(0, requests.height, _REQUESTS_PER_FRAME):
                written += 1
                _write(writer, requests[start : start + _REQUESTS_PER_FRAME], layout, time_zone)
                if progress is not None:
                    share = min(1.0, (start + _REQUESTS_PER_FRAME) / requests.height)
                    progress(done + int(rows.height * share), table.rows)
            done += rows.height
            if progress is not None and not requests.height:
                progress(done, table.rows)
        if not written:
            raise DataError(
                f"{abridged(map(str, table.files), 3)}: expected requests, found none that is left "
                f"({', '.join(f'{c:,} {n}' for n, c in counts.items()).replace('_', ' ')}); change "
                "min_candidates or the null_... options"
            )
        writer.extra["notes"] = notes | counts


def _notes_on_text(table: LongTable, categorical: Sequence[str]) -> dict[str, JsonValue]:
    """Return notes on features that were taken for categories and could be numbers."""
    text = {name: table.numbers[name] for name in categorical if name in table.numbers}
    almost = {
        name: table.almost_numbers[name] for name in categorical if name in table.almost_numbers
    }
    notes: dict[str, JsonValue] = {}
    if text:
        notes["numbers_kept_as_text"] = f"{_examples(text)}; numeric=[...] reads them as numbers"
    if almost:
        remedy = "write plain numbers"
        if any("," in value for value in almost.values()):
            remedy = 'decimal="," reads numbers with a decimal comma'
        notes["text_like_numbers"] = f"{_examples(almost)} taken as categorical; {remedy}"
    return notes


def _examples(values: Mapping[str, str]) -> str:
    return abridged(f"{name} ({shown(value)})" for name, value in values.items())


def _write(
    writer: RequestLogWriter, requests: pl.DataFrame, layout: Layout, time_zone: str
) -> None:
    """Write requests with the days of a time zone."""
    if not layout.timestamp or time_zone == "UTC":
        writer.write(requests)
        return
    local = pl.col("timestamp").dt.convert_time_zone(time_zone).dt.date()
    for (day,), part in requests.group_by(local, maintain_order=True):
        writer.write(part, day=day)
