"""One lazy table over several Parquet or CSV files; it need not fit in memory."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from cascaderank.data.sources._shared.hive_folders import HiveColumns, hive_columns
from cascaderank.data.sources._shared.input_files import read_lines, shown
from cascaderank.errors import DataError, did_you_mean
from cascaderank.schema import abridged

_INTEGER = r"^-?(0|[1-9][0-9]{0,17})$"  # integers that print as the same text again
_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class LongTable:
    """Rows of several files of one format, in the order of the files."""

    files: Sequence[Path]
    is_csv: bool
    separator: str
    types: dict[str, pl.DataType]
    """Data type by column. For CSV: Int64 if every value is an integer in canonical notation,
    Float64 if every value is a number, else String. An empty field is null."""
    rows: int
    """Total number of rows."""
    hive: HiveColumns
    """Columns that the names of folders hold; they are among ``types``."""

    def scan(self, types: dict[str, pl.DataType] | None = None) -> pl.LazyFrame:
        """Return a lazy frame of the given columns, or all; those of CSV are cast to ``types``."""
        types = self.types if types is None else types
        if not self.is_csv:
            return _parquet(self.files, self.hive).select(list(types))
        return _csv(self.files, self.separator, self.hive).select(
            pl.col(name).replace("", None).cast(dtype) for name, dtype in types.items()
        )

    def sample(self, rows: int) -> pl.DataFrame:
        """Return the first rows of every file, about ``rows`` in all, with all columns.

        Raises:
            DataError: if the files cannot be read.
        """
        per_file = max(1, rows // len(self.files))
        parts = []
        for path in self.files:
            part = replace(self, files=[path])
            parts.append(part.collect(part.scan().head(per_file)))
        return pl.concat(parts, how="vertical_relaxed")

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Collect a lazy frame that :meth:`scan` returned.

        Raises:
            DataError: if the files cannot be read.
        """
        try:
            return rows.collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(
                f"{abridged(map(str, self.files), 3)}: cannot be read: {_first_line(error)}"
            ) from None

    def first(self, column: str, wrong: Callable[[str], bool]) -> str:
        """Return the place of the first wrong field of a CSV column, for a message; else ``""``."""
        if self.is_csv and column not in self.hive.types:
            for path in self.files:
                rows = _csv_rows(path, self.separator)
                index = next(rows)[1].index(column)
                for line, row in rows:
                    if wrong(row[index]):
                        return f", first in {path}, line {line}: {shown(row[index])}"
        return ""

    def first_null(self, column: str) -> str:
        """Return the place of the first null of a column, for a message; else ``""``.

        Raises:
            DataError: if the files cannot be read.
        """
        if self.is_csv:
            return self.first(column, lambda text: not text)
        for path in self.files:
            rows = _parquet([path], self.hive).select(column).with_row_index()
            found = self.collect(rows.filter(pl.col(column).is_null()).head(1))
            if found.height:
                return f", first in {path}, row {found['index'][0] + 1}"
        return ""

    def check(self, column: str, *, what: str) -> str:
        """Return the name of a column that exists.

        Args:
            column: name to look up.
            what: purpose of the column, for the message.

        Raises:
            DataError: if no column has this name; the nearest name is suggested.
        """
        if column not in self.types:
            raise DataError(
                f"{self.files[0]}: expected a column '{column}' ({what})"
                f"{did_you_mean(column, self.types)}; found {abridged(self.types)}"
            )
        return column


def open_long_table(files: Sequence[Path], *, separator: str = ",") -> LongTable:
    """Open files with the same columns, either all Parquet or all CSV with a header.

    Every line of a CSV file is read, to check its number of fields and to infer the types of
    columns.

    Args:
        files: at least one; the format is detected from the content.
        separator: one character between the fields of CSV files.

    Raises:
        DataError: if a file is empty, damaged, or has other columns than the first (the message
            names file and line), if a column of a folder name is also in a file with another value,
            or if no file has a row.
    """
    if len(separator) != 1:
        raise DataError(f"separator must be one character; got {separator!r}")
    hive = hive_columns(files)
    kinds = [_is_parquet(path) for path in files]
    if len(set(kinds)) > 1:
        odd, formats = files[kinds.index(not kinds[0])], ["CSV", "Parquet"]
        raise DataError(
            f"{odd}: expected {formats[kinds[0]]} as in {files[0]}, found {formats[not kinds[0]]}; "
            "prepare files of one format at a time"
        )
    if kinds[0]:
        types, rows = _parquet_types(files, hive)
    else:
        types, rows = _csv_types(files, separator, hive)
    if not rows:
        raise DataError(f"{abridged(map(str, files), 3)}: expected candidates, found no rows")
    return LongTable(files, not kinds[0], separator, types, rows, hive)


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not start:
        raise DataError(f"{path}: expected Parquet or CSV, found an empty file; fetch it again")
    if start != _PARQUET_MAGIC and path.suffix.lower() == ".parquet":
        raise DataError(
            f"{path}: damaged Parquet file (it does not begin with PAR1); fetch or write it again"
        )
    return start == _PARQUET_MAGIC


def _check_columns(
    path: Path, columns: Sequence[str], first: Path, expected: Sequence[str]
) -> None:
    missing = [c for c in expected if c not in columns]
    extra = [c for c in columns if c not in expected]
    if missing or extra:
        differences = [f"without {abridged(missing)}"] * bool(missing)
        differences += [f"with {abridged(extra)}"] * bool(extra)
        raise DataError(
            f"{path}: expected the columns of {first}, found them {' and '.join(differences)}; "
            "prepare files of one layout at a time"
        )


def _check_hive(path: Path, scan: pl.LazyFrame, hive: HiveColumns) -> None:
    """Check that columns that are in the file and in the names of its folders are equal."""
    own = scan.collect_schema().names() if hive.types else []
    for name, text in hive.values[path].items():
        if name not in own:
            continue
        found, value = pl.col(name).cast(pl.String), pl.lit(text, pl.String)
        numbers = [c.cast(pl.Float64, strict=False) for c in (found, value)]
        equal = found.eq_missing(value) | (numbers[0] == numbers[1]).fill_null(value=False)
        rows = scan.filter(~equal).select(found).head(1).collect()
        if rows.height:
            raise DataError(
                f"{path}: column '{name}' of the file has the value {rows.item()}, and the folder "
                f"is '{name}={text}'; rename the column or the folder, or write equal values"
            )


def _parquet_file(path: Path, hive: HiveColumns | None = None) -> pl.LazyFrame:
    paths = hive.path_column if hive else None
    return pl.scan_parquet(path, hive_partitioning=False, glob=False, include_file_paths=paths)


def _parquet(files: Sequence[Path], hive: HiveColumns) -> pl.LazyFrame:
    scans = [_parquet_file(path, hive) for path in files]
    columns = scans[0].collect_schema().names()
    rows = pl.concat([scan.select(columns) for scan in scans], how="vertical_relaxed")
    return hive.added_to(rows)


def _parquet_types(files: Sequence[Path], hive: HiveColumns) -> tuple[dict[str, pl.DataType], int]:
    expected: dict[str, pl.DataType] = {}
    rows = 0
    for path in files:
        try:
            scan = _parquet_file(path)
            _check_hive(path, scan, hive)
            types = dict(scan.collect_schema())
            rows += int(scan.select(pl.len()).collect().item())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(
                f"{path}: damaged Parquet file ({_first_line(error)}); fetch or write it again"
            ) from None
        expected = expected or types
        _check_columns(path, list(types), files[0], list(expected))
        for column, dtype in types.items():
            other = expected[column]
            if pl.Null in (dtype, other):  # a file in which every value is null
                expected[column] = other if dtype == pl.Null else dtype
            elif dtype != other and not (dtype.is_numeric() and other.is_numeric()):
                raise DataError(
                    f"{path}: expected column '{column}' to hold {other} as in {files[0]}, "
                    f"found {dtype}; write the files with one type"
                )
    return dict(_parquet(files, hive).collect_schema()), rows


def _csv_rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the header and the non-blank rows, each with the number of its last line."""
    line = 0

    def text() -> Iterator[str]:
        nonlocal line
        for line, content in enumerate(read_lines(path), 1):
            yield content.decode("utf-8-sig" if line == 1 else "utf-8")

    try:
        for row in csv.reader(text(), delimiter=separator, strict=True):
            if row:
                yield line, row
    except UnicodeDecodeError:
        raise DataError(
            f"{path}, line {line}: expected UTF-8 text; convert the file to UTF-8"
        ) from None
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: invalid CSV: {error}; correct the line") from None


def _csv(files: Sequence[Path], separator: str, hive: HiveColumns) -> pl.LazyFrame:
    """Return all rows; values are text, those of folder names too."""
    paths = hive.path_column
    scans = [
        pl.scan_csv(
            path, separator=separator, infer_schema=False, glob=False, include_file_paths=paths
        ).filter(
            ~pl.all_horizontal(pl.all().exclude(paths or []).is_null())  # blank lines
        )
        for path in files
    ]
    columns = scans[0].collect_schema().names()
    return hive.added_to(pl.concat([scan.select(columns) for scan in scans]), as_text=True)


def _csv_types(
    files: Sequence[Path], separator: str, hive: HiveColumns
) -> tuple[dict[str, pl.DataType], int]:
    header: list[str] = []
    rows = 0
    for path in files:
        names: list[str] = []
        for line, row in _csv_rows(path, separator):
            if not names:
                names = row
                header = header or row
                if "" in row or len(set(row)) < len(row):
                    raise DataError(
                        f"{path}, line {line}: expected a header of unique names, found "
                        f"{shown(separator.join(row))}"
                    )
                _check_columns(path, row, files[0], header)
            elif len(row) != len(names) or not any(row):
                fields = len(row) if any(row) else "only empty fields"
                raise DataError(
                    f"{path}, line {line}: expected {len(names)} fields as in the header, "
                    f"found {fields}: {shown(separator.join(row))}"
                )
            else:
                rows += 1
        if not names:
            raise DataError(f"{path}: expected CSV with a header, found no line; fetch it again")
        if any(name in names for name in hive.types):
            _check_hive(path, _csv([path], separator, HiveColumns({}, {})), hive)
    values = {name: pl.col(name).replace("", None) for name in header}
    tests = [v.str.contains(_INTEGER).all().alias(f"integer {n}") for n, v in values.items()]
    tests += [
        (v.cast(pl.Float64, strict=False).null_count() == v.null_count()).alias(f"number {n}")
        for n, v in values.items()
    ]
    passed = _csv(files, separator, hive).select(tests).collect().row(0, named=True)
    types: dict[str, pl.DataType] = {}
    for name in header:
        types[name] = pl.Float64() if passed[f"number {name}"] else pl.String()
        if passed[f"integer {name}"]:
            types[name] = pl.Int64()
    return types | {name: t for name, t in hive.types.items() if name not in types}, rows


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
