"""A source: CSV files with one request per line and its candidates in the last column."""

import csv
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress, checked_options, paths_of
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Feature, Kind, Role, Schema

COLUMNS = ("request", "time", "user", "candidates")
LEVELS = ("retrieved", "ranked", "shown")
"""Funnel levels, lowest first."""

SCHEMA = Schema(
    features=(
        Feature(name="user", role=Role.REQUEST, kind=Kind.CATEGORICAL),
        Feature(name="item", role=Role.ITEM, kind=Kind.CATEGORICAL),
    )
)


@SOURCES.register
@checked_options
def sessions_source(
    from_: Inputs,
    to: str | os.PathLike[str],
    *,
    min_candidates: int = 1,
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    r"""Convert CSV files with one request per line to a request log.

    The columns are ``request``, ``time`` (ISO 8601 with a time zone), ``user`` and ``candidates``:
    ``item/level/click`` for each candidate, separated by spaces. A level is ``retrieved``,
    ``ranked`` or ``shown``, and a click 0 or 1.

    Args:
        from_: files or folders; from a folder, its ``.csv`` files.
        to: folder of the request log to write.
        min_candidates: requests with fewer candidates are dropped; 1 or more.
        name: name of the data set; default the name of the folder ``to``.
        overwrite: replace an existing request log.
        progress: callback that receives the number of files read so far and the total.

    Raises:
        ConfigError: if an option is unknown, of a wrong type or out of range.
        DataError: if a file is missing, damaged or of another layout.

    Examples:
        >>> import tempfile
        >>> from cascaderank.data.log.request_log import RequestLog
        >>> with tempfile.TemporaryDirectory() as name:
        ...     file, log = Path(name, "monday.csv"), Path(name, "log")
        ...     line = "r1,2024-05-01T08:00:00Z,u1,7/shown/1 9/ranked/0"
        ...     _ = file.write_text(f"request,time,user,candidates\n{line}\n")
        ...     sessions_source(file, log)
        ...     next(RequestLog.open(log).frames())["level"].to_list()
        [[2, 1]]

    Source: this project.
    """
    if min_candidates < 1:
        raise ConfigError(f"min_candidates must be at least 1; got {min_candidates}")
    files, dropped = _files(from_), 0
    with RequestLogWriter(
        to, name=name or Path(to).name, schema=SCHEMA, level_names=LEVELS, overwrite=overwrite
    ) as writer:
        for done, file in enumerate(files, start=1):
            requests = list(_requests(file))
            kept = [r for r in requests if len(r["item"]) >= min_candidates]
            dropped += len(requests) - len(kept)
            writer.write(pl.DataFrame(kept))
            if progress is not None:
                progress(done, len(files))
        writer.extra["notes"] = {"requests_with_too_few_candidates": dropped}


def _files(from_: Inputs) -> list[Path]:
    """Return the given files and the CSV files of the given folders."""
    paths = paths_of(from_)
    if not paths:
        raise DataError("expected CSV files, found no file or folder; give one with --from")
    files = []
    for path in paths:
        inside = sorted(path.glob("*.csv")) if path.is_dir() else [path]
        if not inside or not path.exists():
            raise DataError(f"{path}: expected CSV files, found none; give a file or a folder")
        files += inside
    return files


def _requests(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the requests of a file, one row of the request log each.

    Raises:
        DataError: if the file is empty or not of this layout; the message names file and line.
    """
    columns = ", ".join(COLUMNS)
    with file.open(encoding="utf-8", newline="") as text:
        rows = csv.reader(text)
        try:
            header = next(rows, None)
            if header != list(COLUMNS):
                found = "an empty file" if header is None else ", ".join(header)
                raise DataError(f"{file}: expected the columns {columns}; found {found}")
            for row in rows:
                try:
                    yield _request(*row)
                except (TypeError, ValueError) as error:
                    where = f"{file}, line {rows.line_num}"
                    raise DataError(f"{where}: expected {columns}; found {row} ({error})") from None
        except (UnicodeDecodeError, csv.Error):
            raise DataError(f"{file}: expected a CSV file in UTF-8; found other bytes") from None


def _request(request: str, time: str, user: str, candidates: str) -> dict[str, Any]:
    """Return the row of one request."""
    split = [candidate.split("/") for candidate in candidates.split()]
    return {
        "request_id": request,
        "timestamp": datetime.fromisoformat(time),
        "user": user,
        "item": [item for item, _, _ in split],
        "level": [LEVELS.index(level) for _, level, _ in split],
        "feedback": [float(click) for _, _, click in split],
    }
