"""Long tables: Parquet or CSV files with one row per candidate, a common format of exports."""

import os
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress, checked_options
from cascaderank.data.sources._long.grouping import gathered, shares
from cascaderank.data.sources._long.layout import columns_that_are_no_features, typed_columns
from cascaderank.data.sources._long.schema_inference import chosen_features, read_schema
from cascaderank.data.sources._shared.input_files import input_files
from cascaderank.data.sources._shared.long_table import open_long_table
from cascaderank.data.sources._shared.timestamps import TimestampUnit
from cascaderank.errors import ConfigError
from cascaderank.schema import Kind, Role, Transform

_PATTERNS = ("*.parquet", "*.pq", "*.csv", "*.tsv")
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
    level: str = "",
    level_names: tuple[str, ...] = (),
    position: str = "",
    label: str = "",
    feedback: str = "",
    request_features: tuple[str, ...] = (),
    item_features: tuple[str, ...] = (),
    history_features: tuple[str, ...] = (),
    categorical: tuple[str, ...] = (),
    numeric: tuple[str, ...] = (),
    missing: tuple[str, ...] = (),
    buckets: dict[str, int] | None = None,
    vocabulary: dict[str, str] | None = None,
    transform: Transform = Transform.STANDARDISE,
    schema: Path | None = None,
    separator: str = ",",
    rows_at_once: int = 10_000_000,
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    r"""Convert Parquet or CSV files with one row per candidate to a request log.

    Rows are grouped by request id, wherever they are in the files, and keep the order of the files.
    At most about ``rows_at_once`` rows of the used columns are in memory. If the files have more,
    they are read several times, each time for another part of the requests.

    Args:
        from_: files or folders; from a folder, ``.parquet``, ``.pq``, ``.csv`` and ``.tsv`` files
            (CSV also with ``.gz``). All files are Parquet or all are CSV, with the same columns.
        to: folder of the request log to write.
        request_id: column of the request id.
        timestamp: column of the time of the request; default the column ``timestamp``, if it
            exists. Times without a zone are taken as UTC.
        timestamp_unit: ``"s"``, ``"ms"`` or ``"us"`` since 1970, required if the column holds
            numbers; ``"iso"`` if it holds text such as ``2024-05-01T12:00:00Z``.
        level: column of the funnel level that the candidate reached: integers from 0, the lowest,
            or names. For this and the next three options, the default is the column of that name,
            if it exists.
        level_names: names of the levels, lowest first; required if the table has levels.
        position: column of the rank within the level, from 1; 0 if unknown.
        label: column of the relevance.
        feedback: column of the user's response.
        request_features: columns that describe the request, constant over the rows of a request.
            This and the next five options accept names and shell patterns such as ``"user_*"``.
        item_features: columns that describe the candidate, or the pair of request and candidate.
        history_features: list columns of events before the request, oldest first, constant over
            the rows of a request; null is an empty history. Parquet only.
        categorical: features that are categorical. The kind of a feature that is in neither list
            is inferred and reported: integers, strings and booleans are categorical, other types
            numeric.
        numeric: features that are numeric.
        missing: features that may be null; their NaN are read as null.
        buckets: number of hash buckets of hashed features or vocabularies, by name.
        vocabulary: shared vocabulary by feature, such as ``{history_video = "video"}``.
        transform: transformation that models apply to every numeric feature.
        schema: JSON file with the schema of the features, instead of the options
            ``request_features`` to ``vocabulary``.
        separator: character between the fields of CSV files.
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
    if rows_at_once < 1:
        raise ConfigError(f"rows_at_once must be at least 1; got {rows_at_once}")
    files = input_files(from_, _PATTERNS, what="Parquet or CSV files")
    table = open_long_table(files, separator=separator)
    layout = columns_that_are_no_features(
        table,
        request_id=request_id,
        timestamp=timestamp,
        candidates={
            "level": level,
            "position": position,
            "label": label,
            "feedback": feedback,
        },
    )
    roles = {
        Role.REQUEST: request_features,
        Role.ITEM: item_features,
        Role.HISTORY: history_features,
    }
    kinds = {Kind.CATEGORICAL: categorical, Kind.NUMERIC: numeric}
    notes: dict[str, JsonValue] = {"files": len(files)}
    if schema is not None:
        if any([*roles.values(), *kinds.values(), missing, buckets, vocabulary]):
            raise ConfigError(
                "expected schema=FILE or the options of features, found both; leave one of them out"
            )
        layout = replace(layout, schema=read_schema(schema))
    else:
        chosen, inferred = chosen_features(
            table,
            layout.taken,
            roles=roles,
            kinds=kinds,
            missing=missing,
            buckets=buckets or {},
            vocabulary=vocabulary or {},
            transform=transform,
        )
        layout = replace(layout, schema=chosen)
        notes |= {f"taken_as_{k.value}": [*names] for k, names in inferred.items() if names}
    types = typed_columns(table, layout)
    notes["columns_not_used"] = [c for c in table.types if c not in types]
    with RequestLogWriter(
        to,
        name=name or Path(to).name,
        schema=layout.schema,
        level_names=level_names,
        extra={"notes": notes},
        overwrite=overwrite,
    ) as writer:
        done = 0
        for rows in shares(table, types, layout, rows_at_once):
            requests = gathered(rows, layout, level_names, timestamp_unit)
            for start in range(0, requests.height, _REQUESTS_PER_FRAME):
                writer.write(requests[start : start + _REQUESTS_PER_FRAME])
                if progress is not None:
                    share = min(1.0, (start + _REQUESTS_PER_FRAME) / requests.height)
                    progress(done + int(rows.height * share), table.rows)
            done += rows.height
