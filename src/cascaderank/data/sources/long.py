"""Long tables: Parquet or CSV with one row per candidate, as logs are usually exported."""

from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from cascaderank.data.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress
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
def long_source(
    from_: Inputs,
    to: Path,
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
    r"""Make a request log from Parquet or CSV files with one row per candidate.

    The rows of a request may be anywhere, in any of the files: they are gathered by their request
    id, and keep the order in which the files hold them. Memory holds the chosen columns of
    ``rows_at_once`` rows; if there are more, the files are read several times, each time for
    another share of the requests.

    Args:
        from_: files or folders; of a folder, ``.parquet``, ``.pq``, ``.csv`` and ``.tsv`` files
            (CSV also with ``.gz``). All Parquet or all CSV, with the same columns.
        to: folder of the request log to write.
        request_id: column that tells which request a row belongs to.
        timestamp: column with the time of the request; not given, ``timestamp`` if there is such
            a column. Times without a zone are UTC.
        timestamp_unit: ``"s"``, ``"ms"`` or ``"us"`` since 1970, needed if the column holds
            numbers; ``"iso"`` if it holds text such as ``2024-05-01T12:00:00Z``.
        level: column that tells how far a candidate got: numbers from 0, the lowest, or names;
            like the three that follow, not given, the column of that name if there is one.
        level_names: names of the levels, lowest first; needed if there are levels.
        position: column with the rank inside the level, from 1; 0 is unknown.
        label: column with the relevance.
        feedback: column with what the user did.
        request_features: columns that describe the request, the same on all rows of a request.
            These lists take names and shell patterns such as ``"user_*"``.
        item_features: columns that describe the candidate, or the pair of request and candidate.
        history_features: list columns of what came before the request, oldest first, the same on
            all rows of a request; null is an empty history. Parquet only.
        categorical: features that are categories. The kind of a feature that is in neither list is
            inferred, and reported: integers, strings and booleans are categories, all else
            numbers.
        numeric: features that are numbers.
        missing: features that may be null; NaN is read as null there.
        buckets: of categorical features or vocabularies that are hashed, into how many.
        vocabulary: of features that share one, such as ``{history_video = "video"}``.
        transform: what a model does to every numeric feature before it sees it.
        schema: JSON file that says all this of the features, instead of the seven options above.
        separator: between the fields of CSV files.
        rows_at_once: how many rows are gathered in memory.
        name: of the data set; not given, that of the folder ``to``.
        overwrite: replace a request log that is there.
        progress: called with rows written and rows in all.

    Raises:
        ConfigError: if the options do not say what is what, or contradict each other.
        DataError: if a file is missing or damaged, or a value is not what it must be.

    Examples:
        >>> import tempfile
        >>> from cascaderank.data.request_log import RequestLog
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
            raise ConfigError("say schema=FILE, or the features one by one; both were given")
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
        name=name or to.name,
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
