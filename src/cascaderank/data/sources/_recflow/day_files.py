"""Files of RecFlow in the official layout: list of days, checks, and reading in batches."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa

from cascaderank.data.sources import Inputs, paths_of
from cascaderank.data.sources._recflow.pickles import check_ends
from cascaderank.data.unreadable import UNREADABLE
from cascaderank.errors import DataError, did_you_mean
from cascaderank.expansion import check_expansion
from cascaderank.regular_files import check_path, check_regular
from cascaderank.schema import abridged

CANDIDATES, HISTORIES = "all_stage", "seq_effective_50_dict"
_SUFFIXES = {CANDIDATES: ".feather", HISTORIES: ".pkl"}
_BYTES_PER_VALUE = 8
_DAMAGED = (pa.ArrowException, OSError)
_LAYOUT = f"expected the folder of RecFlow, with {CANDIDATES}/ and {HISTORIES}/"


@dataclass(frozen=True)
class Day:
    """The two files of a day; either may be missing."""

    name: str
    """Date in ISO format."""
    candidates: Path
    """One row per request and candidate."""
    histories: Path
    """One array per request."""

    @property
    def date(self) -> date:
        """Date in the names of the files."""
        return date.fromisoformat(self.name)

    @property
    def sizes(self) -> tuple[int, int]:
        """Sizes of the two files in bytes; 0 for a missing file."""
        files = (self.candidates, self.histories)
        return tuple(f.stat().st_size if f.is_file() else 0 for f in files)  # type: ignore[return-value]

    def mark(self, options: str) -> str:
        """Return a checksum of options, and of sizes and modification times of the files."""
        facts = [options]
        for file in (self.candidates, self.histories):
            stat = file.stat() if file.is_file() else None
            facts.append(f"{file.name} {stat and (stat.st_size, stat.st_mtime_ns)}")
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def find_days(from_: Inputs) -> list[Day]:
    """Return the days with at least one file, in order of their dates.

    Raises:
        DataError: if ``from_`` is not a single folder of this layout, or a file is not named after
            a day.
    """
    folders = paths_of(from_)
    if len(folders) != 1:
        raise DataError(
            f"{_LAYOUT}; found {len(folders)} folders and files; give one folder with --from"
        )
    folder = folders[0]
    if not (folder / CANDIDATES).is_dir():
        inside = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        found = f"found {abridged(inside)}" if folder.is_dir() else "found no such folder"
        raise DataError(f"{folder}: {_LAYOUT}; {found}{did_you_mean(CANDIDATES, inside)}")
    names, misnamed = set(), []
    for place, suffix in _SUFFIXES.items():
        for file in sorted((folder / place).glob(f"*{suffix}")):
            if file.name.startswith(".") or file.is_dir():
                continue
            if _is_day(file.stem):
                names.add(file.stem)
            else:
                misnamed.append(str(file))
    if misnamed:
        raise DataError(
            f"expected files named after their day, such as 2024-01-13.feather, found "
            f"{abridged(misnamed, 3)}; rename them, or move them out of the folder"
        )
    if not names:
        raise DataError(f"{folder / CANDIDATES}: expected one .feather file per day, found none")
    return [
        Day(name, *(folder / place / f"{name}{suffix}" for place, suffix in _SUFFIXES.items()))
        for name in sorted(names)
    ]


def days_between(days: Sequence[Day]) -> list[str]:
    """Return the dates between the first and the last day that have no file."""
    dates = {day.date for day in days}
    length = (max(dates) - min(dates)).days
    period = (min(dates) + timedelta(days=i) for i in range(length))
    return [d.isoformat() for d in period if d not in dates]


def day_problem(day: Day, columns: Sequence[str]) -> str:
    """Return why a day cannot be read, according to the first and last bytes of its files.

    Args:
        day: files of the day.
        columns: required columns of the table of candidates.

    Returns:
        The messages, or an empty string if no problem was found.
    """
    mistakes = [
        f"{file}: no such file, although {other} exists; fetch it, or remove the other"
        for file, other in (
            (day.candidates, day.histories),
            (day.histories, day.candidates),
        )
        if not file.exists()
    ]
    if day.candidates.exists():
        try:
            names = column_names(day.candidates)
        except DataError as error:
            mistakes.append(str(error))
        else:
            missing = [c for c in columns if c not in names]
            if missing:
                mistakes.append(
                    f"{day.candidates}: expected columns {abridged(missing)}, found "
                    f"{abridged(names, 40)}; fetch it again"
                )
    if day.histories.exists() and (damage := check_ends(day.histories)):
        mistakes.append(f"{day.histories}: {damage}; fetch it again")
    return "; ".join(mistakes)


def column_names(path: Path) -> list[str]:
    """Return the columns of a Feather file.

    Raises:
        DataError: if the file is empty, truncated, or not a Feather file, or its content is far
            larger than the file.
    """
    check_path(path.absolute(), DataError)  # Polars needs UTF-8
    try:
        check_regular(path)
        check_expansion(_values_in(path) * _BYTES_PER_VALUE, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not path.stat().st_size:
        raise DataError(f"{path}: expected a Feather file, found an empty file; fetch it again")
    try:
        with pa.ipc.open_file(pa.OSFile(str(path))) as file:
            return [str(name) for name in file.schema.names]
    except (*_DAMAGED, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: expected a Feather file, found one that is damaged, truncated or of another "
            f"format ({_first_line(error)}); fetch it again"
        ) from None


def _values_in(path: Path) -> int:
    """Return the number of values in a Feather file, by its metadata; 0 if it is damaged."""
    try:
        frame = pl.scan_ipc(path.absolute(), glob=False)
        rows = int(frame.select(pl.len()).collect().item())
        return rows * len(frame.collect_schema())
    except UNREADABLE:  # the reader reports it
        return 0


def batches(path: Path, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Read columns of a Feather file, one record batch at a time.

    Raises:
        DataError: if the file is not a Feather file, or is damaged.
    """
    names = column_names(path)
    options = pa.ipc.IpcReadOptions(included_fields=[names.index(c) for c in columns])
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
    """Cast columns to Int64; pandas stores integers with missing values as floats.

    Raises:
        DataError: if a column has values that are not whole numbers.
    """
    integers: Mapping[str, pl.Series] = {c: _whole(frame[c]) for c in columns}
    for name, column in integers.items():
        if column.dtype != pl.Int64:
            examples = frame[name].drop_nulls()[:3].to_list()
            raise DataError(
                f"{path}: column '{name}': expected whole numbers, found {frame[name].dtype} such "
                f"as {examples}; fetch the file again"
            )
    return frame.with_columns(integers.values())


def _whole(column: pl.Series) -> pl.Series:
    """Return integers and whole floats as Int64, any other column unchanged."""
    if column.dtype.is_float():
        known = column.fill_nan(None)
        whole = known.cast(pl.Int64, strict=False)  # null if beyond 64 bits
        lossless = whole.null_count() == known.null_count() and bool((whole == known).all())
        return whole if lossless else column
    numeric = column.dtype.is_integer() or column.dtype in (pl.Boolean, pl.Null)
    return column.cast(pl.Int64) if numeric else column


def _is_day(name: str) -> bool:
    try:
        date.fromisoformat(name)
    except ValueError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
