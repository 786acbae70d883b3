"""Files of RecFlow in the official layout: which days there are, and which of them can be read."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa

from cascaderank.data.sources import Inputs
from cascaderank.data.sources._recflow.pickles import check_ends
from cascaderank.errors import DataError, did_you_mean
from cascaderank.schema import abridged

CANDIDATES, HISTORIES = "all_stage", "seq_effective_50_dict"
_SUFFIXES = {CANDIDATES: ".feather", HISTORIES: ".pkl"}
_DAMAGED = (pa.ArrowException, OSError)
_LAYOUT = f"expected the folder of RecFlow, with {CANDIDATES}/ and {HISTORIES}/ in it"


@dataclass(frozen=True)
class Day:
    """The two files of a day that a request log is made from; they may not exist."""

    name: str
    candidates: Path
    """One row per request and candidate."""
    histories: Path
    """An array per request."""

    @property
    def date(self) -> date:
        """The day that the files are named after."""
        return date.fromisoformat(self.name)

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of the two files; 0 for one that is not there."""
        files = (self.candidates, self.histories)
        return tuple(f.stat().st_size if f.is_file() else 0 for f in files)  # type: ignore[return-value]

    def mark(self, options: str) -> str:
        """Return a checksum of options and of size and time of the files, to tell a change."""
        told = [options]
        for file in (self.candidates, self.histories):
            stat = file.stat() if file.is_file() else None
            told.append(f"{file.name} {stat and (stat.st_size, stat.st_mtime_ns)}")
        return hashlib.sha256("\n".join(told).encode()).hexdigest()


def find_days(from_: Inputs) -> list[Day]:
    """Return the days that there is any file of, first day first.

    Raises:
        DataError: if there is not one folder of this layout, or files are not named after days.
    """
    folders = [Path(from_)] if isinstance(from_, str | Path) else [Path(p) for p in from_ or ()]
    if len(folders) != 1:
        raise DataError(
            f"{_LAYOUT}; found {len(folders)} folders and files; name one folder with --from"
        )
    folder = folders[0]
    if not (folder / CANDIDATES).is_dir():
        found = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        told = f"found {abridged(found)}" if folder.is_dir() else "found no such folder"
        raise DataError(f"{folder}: {_LAYOUT}; {told}{did_you_mean(CANDIDATES, found)}")
    names, strange = set(), []
    for place, suffix in _SUFFIXES.items():
        for file in sorted((folder / place).glob(f"*{suffix}")):
            if file.name.startswith("."):
                continue
            if _is_day(file.stem):
                names.add(file.stem)
            else:
                strange.append(str(file))
    if strange:
        raise DataError(
            f"expected files named after their day, such as 2024-01-13.feather, found "
            f"{abridged(strange, 3)}; rename them, or take them out of the folder"
        )
    if not names:
        raise DataError(f"{folder / CANDIDATES}: expected a .feather file per day, found none")
    return [
        Day(name, *(folder / place / f"{name}{suffix}" for place, suffix in _SUFFIXES.items()))
        for name in sorted(names)
    ]


def days_between(days: Sequence[Day]) -> list[str]:
    """Return the dates between the first day and the last that there is no file of."""
    dates = {day.date for day in days}
    length = (max(dates) - min(dates)).days
    every = (min(dates) + timedelta(days=i) for i in range(length))
    return [d.isoformat() for d in every if d not in dates]


def day_problem(day: Day, columns: Sequence[str]) -> str:
    """Return what keeps a day from being read, as far as the ends of its files tell; or nothing.

    Args:
        day: its two files.
        columns: those that the table of candidates must have.
    """
    mistakes = [
        f"{file}: no such file, though there is {other.name}; fetch it, or take the other away"
        for file, other in (
            (day.candidates, day.histories),
            (day.histories, day.candidates),
        )
        if not file.is_file()
    ]
    if day.candidates.is_file():
        try:
            found = column_names(day.candidates)
        except DataError as error:
            mistakes.append(str(error))
        else:
            missing = [c for c in columns if c not in found]
            if missing:
                mistakes.append(
                    f"{day.candidates}: expected columns {abridged(missing)}, found "
                    f"{abridged(found, 40)}"
                )
    if day.histories.is_file() and (wrong := check_ends(day.histories)):
        mistakes.append(f"{day.histories}: {wrong}; fetch it again")
    return "; ".join(mistakes)


def column_names(path: Path) -> list[str]:
    """Return the columns of a Feather file.

    Raises:
        DataError: if it is no such file, or its end is missing.
    """
    try:
        with pa.ipc.open_file(pa.OSFile(str(path))) as file:
            return [str(name) for name in file.schema.names]
    except (*_DAMAGED, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: expected a Feather file, found one that is damaged, truncated or of another "
            f"kind ({_first_line(error)}); fetch it again"
        ) from None


def batches(path: Path, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Read some columns of a Feather file, one of its batches at a time.

    Raises:
        DataError: if it is no such file, or damaged anywhere.
    """
    found = column_names(path)
    options = pa.ipc.IpcReadOptions(included_fields=[found.index(c) for c in columns])
    with pa.ipc.open_file(pa.OSFile(str(path)), options=options) as file:
        for number in range(file.num_record_batches):
            try:
                batch = file.get_batch(number)
                batch.validate(full=True)
                frame = pl.from_arrow(batch)
            except (*_DAMAGED, pl.exceptions.PolarsError) as error:
                raise DataError(
                    f"{path}: damaged in batch {number + 1} of {file.num_record_batches} "
                    f"({_first_line(error)}); fetch it again"
                ) from None
            if isinstance(frame, pl.DataFrame):
                yield frame.select(columns)


def whole_numbers(path: Path, frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Return a frame with some columns as Int64; pandas writes integers with gaps as floats.

    Raises:
        DataError: if a column holds anything but whole numbers.
    """
    taken: Mapping[str, pl.Series] = {c: _whole(frame[c]) for c in columns}
    for name, column in taken.items():
        if column.dtype != pl.Int64:
            some = frame[name].drop_nulls()[:3].to_list()
            raise DataError(
                f"{path}: column '{name}': expected whole numbers, found {frame[name].dtype} such "
                f"as {some}; fetch the file again"
            )
    return frame.with_columns(taken.values())


def _whole(column: pl.Series) -> pl.Series:
    """Integers as Int64, and so whole floats; what is neither stays as it is."""
    if column.dtype.is_float():
        known = column.fill_nan(None)
        whole = known.cast(pl.Int64, strict=False)  # null if beyond 64 bits
        return whole if bool((whole == known).all()) and _as_full(whole, known) else column
    numeric = column.dtype.is_integer() or column.dtype in (pl.Boolean, pl.Null)
    return column.cast(pl.Int64) if numeric else column


def _as_full(column: pl.Series, other: pl.Series) -> bool:
    return column.null_count() == other.null_count()


def _is_day(name: str) -> bool:
    try:
        date.fromisoformat(name)
    except ValueError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
