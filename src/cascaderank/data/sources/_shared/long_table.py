"""One lazy table over several Parquet or CSV files; it need not fit in memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import polars as pl
import polars.selectors as cs

from cascaderank.data.sources._shared.csv_files import (
    CsvDialect,
    Decimal,
    as_numbers,
    checked_csv_files,
    csv_columns,
    csv_rows,
    dialect_of,
    scan_csv_files,
)
from cascaderank.data.sources._shared.hive_folders import HiveColumns, hive_columns
from cascaderank.data.sources._shared.input_files import check_no_copies, read_lines, shown
from cascaderank.data.sources._shared.parquet_files import (
    is_parquet,
    parquet_types,
    scan_parquet_file,
    scan_parquet_files,
)
from cascaderank.data.unreadable import UNREADABLE
from cascaderank.errors import DataError, did_you_mean
from cascaderank.schema import abridged

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class LongTable:
    """Rows of several files of one format, in the order of the files."""

    files: Sequence[Path]
    dialects: Sequence[CsvDialect]
    """Dialect of each CSV file; empty for Parquet."""
    types: dict[str, pl.DataType]
    """Data type by column. For CSV: Int64 if every value is an integer in canonical notation,
    Float64 if every value is a number, else String. Text that is not that of a number, such as
    ``00712``, ``12e5`` and an integer beyond 64 bits, is String, unless other values of the column
    have decimals. An empty field is null."""
    rows: int
    """Total number of rows."""
    hive: HiveColumns
    """Columns that the names of folders hold; they are among ``types``."""
    numbers: Mapping[str, str] = field(default_factory=dict)
    """Columns of CSV with the type String that can be read as Float64, each with a value."""
    almost_numbers: Mapping[str, str] = field(default_factory=dict)
    """Columns of CSV whose values look like numbers and are none, such as ``0,5``, with a value."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Names in the files of the columns that have another name here."""

    @property
    def is_csv(self) -> bool:
        """Whether the files are CSV."""
        return bool(self.dialects)

    def with_names(self, names: Mapping[str, str]) -> "LongTable":
        """Return the table with other names for some columns.

        Args:
            names: new name by present name.
        """

        def new(values: Mapping[str, _T]) -> dict[str, _T]:
            return {names.get(name, name): value for name, value in values.items()}

        return replace(
            self,
            types=new(self.types),
            numbers=new(self.numbers),
            almost_numbers=new(self.almost_numbers),
            renamed={**self.renamed, **{n: self.renamed.get(o, o) for o, n in names.items()}},
        )

    def name_in_files(self, column: str) -> str:
        """Return the name that a column has in the files."""
        return self.renamed.get(column, column)

    def scan(self, types: Mapping[str, pl.DataType] | None = None) -> pl.LazyFrame:
        """Return a lazy frame of the given columns, or all, cast to ``types``."""
        rows, columns = self._rows(), []
        for name, dtype in (self.types if types is None else types).items():
            values: pl.Expr = cs.by_name(self.name_in_files(name))
            if self.is_csv and dtype.is_numeric():
                values = as_numbers(values, self.dialects[0].decimal).cast(dtype)
            elif self.is_csv:
                values = values.replace("", None).cast(dtype)
            elif dtype != self.types[name]:
                values = values.cast(dtype)
            columns.append(values.alias(name))
        return rows.select(columns)

    def _rows(self, files: Sequence[Path] | None = None) -> pl.LazyFrame:
        """Return the rows of some files, or all, with their own names and types."""
        files = self.files if files is None else files
        if self.is_csv:
            dialect_by_file = dict(zip(self.files, self.dialects, strict=True))
            return scan_csv_files(files, [dialect_by_file[path] for path in files], self.hive)
        types = {self.name_in_files(name): dtype for name, dtype in self.types.items()}
        return scan_parquet_files(files, types, self.hive)

    def sample(self, rows: int) -> pl.DataFrame:
        """Return the first rows of every file, about ``rows`` in all, with all columns.

        Raises:
            DataError: if the files cannot be read.
        """
        per_file = max(1, rows // len(self.files))
        parts = []
        for i, path in enumerate(self.files):
            part = replace(self, files=[path], dialects=self.dialects[i : i + 1])
            parts.append(part.collect(part.scan().head(per_file)))
        return pl.concat(parts)

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Collect a lazy frame that :meth:`scan` returned.

        Raises:
            DataError: if the files cannot be read.
        """
        try:
            return rows.collect()
        except UNREADABLE as error:
            reason = str(error).strip().partition("\n")[0]
            raise DataError(
                f"{abridged(map(str, self.files), 3)}: cannot be read: {reason}"
            ) from None

    def first(self, column: str, wrong: Callable[[str], bool]) -> str:
        """Return the place of the first wrong field of a CSV column, for a message; else ``""``."""
        name = self.name_in_files(column)
        if self.is_csv and name not in self.hive.types:
            for path, dialect in zip(self.files, self.dialects, strict=True):
                rows = csv_rows(path, dialect)
                index = next(rows)[1].index(name)
                for line, row in rows:
                    if wrong(row[index]):
                        return f", first in {path}, line {line}: {shown(row[index])}"
        return ""

    def first_not_number(self, column: str, *, whole: bool = False) -> str:
        """Return the place of the first field of a CSV column that is no number, and what to do.

        Args:
            column: name of the column.
            whole: whether only integers are numbers.
        """
        comma = self.is_csv and self.dialects[0].decimal == ","

        def is_wrong(text: str) -> bool:
            text = text.strip(" \t")
            text = text.replace(",", ".", 1) if comma else text
            if whole:
                return bool(text) and not text.removeprefix("-").isdigit()
            try:
                float(text or 0)
            except ValueError:
                return True
            return "_" in text

        place, value = self.first(column, is_wrong), self.almost_numbers.get(column, "")
        return place + ("; set decimal=',' to read it as a number" if "," in value else "")

    def first_null(self, column: str) -> str:
        """Return the place of the first null of a column, for a message; else ``""``.

        Raises:
            DataError: if the files cannot be read.
        """
        if self.is_csv:
            return self.first(column, lambda text: not text)
        for path in self.files:
            values = cs.by_name(self.name_in_files(column))
            rows = self._rows([path]).select(values.alias("value")).with_row_index()
            found = self.collect(rows.filter(pl.col("value").is_null()).head(1))
            if found.height:
                return f", first in {path}, row {found['index'][0] + 1}"
        return ""

    def exceeds(self, column: str, most: int) -> bool:
        """Return whether a column of integers, or of lists of them, has a larger number.

        Raises:
            DataError: if the files cannot be read.
        """
        values: pl.Expr = pl.col("value")
        if self.types[column].is_nested():
            values = values.explode()
        rows = self._rows().select(cs.by_name(self.name_in_files(column)).alias("value"))
        return bool(self.collect(rows.select((values > most).any())).item())

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


def open_long_table(
    files: Sequence[Path],
    *,
    separator: str | None = None,
    decimal: Decimal = ".",
    copies: bool = False,
) -> LongTable:
    """Open files with the same columns, either all Parquet or all CSV with a header.

    Every line of a CSV file is read, to check its number of fields and to infer the types of
    columns.

    Args:
        files: at least one; the format is detected from the content.
        separator: one character between the fields of CSV files; ``None`` for a tab in files named
            ``.tsv`` or ``.tab``, and a comma in others.
        decimal: decimal mark of the numbers of CSV files.
        copies: whether several files may have the same content; files without rows always may.

    Raises:
        DataError: if a file is empty, damaged, a copy of another, or has other columns or types
            than the first (the message names file and line), if a column of a folder name is also
            in a file with another value, or if no file has a row.
    """
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise DataError(f"separator must be one character; got {separator!r}")
    hive = hive_columns(files)
    kinds = [is_parquet(path) for path in files]
    if len(set(kinds)) > 1:
        odd, formats = files[kinds.index(not kinds[0])], ["CSV", "Parquet"]
        raise DataError(
            f"{odd}: expected {formats[kinds[0]]} as in {files[0]}, found {formats[not kinds[0]]}; "
            "prepare files of one format at a time"
        )
    if not copies:
        has_rows = _parquet_has_rows if kinds[0] else _csv_has_rows
        check_no_copies([path for path in files if has_rows(path)], hive.values)
    if kinds[0]:
        types, rows = parquet_types(files, hive)
        table = LongTable(files=files, dialects=(), types=types, rows=rows, hive=hive)
    else:
        table = _open_csv(files, hive, separator, decimal)
    if not table.rows:
        raise DataError(f"{abridged(map(str, files), 3)}: expected candidates, found no rows")
    return table


def _parquet_has_rows(path: Path) -> bool:
    try:
        return bool(scan_parquet_file(path).select(pl.len()).collect().item())
    except UNREADABLE:  # the reader reports it
        return True


def _csv_has_rows(path: Path) -> bool:
    """Whether a file has a line after its header."""
    lines = (line for line in read_lines(path, quotes=True) if line.strip())
    return len(list(islice(lines, 2))) == 2


def _open_csv(
    files: Sequence[Path], hive: HiveColumns, separator: str | None, decimal: Decimal
) -> LongTable:
    dialects: Sequence[CsvDialect] = [dialect_of(path, separator, decimal) for path in files]
    header, dialects, rows = checked_csv_files(files, dialects)
    try:
        if any(name in header for name in hive.types):
            for path, dialect in zip(files, dialects, strict=True):
                hive.check(path, scan_csv_files([path], [dialect], HiveColumns({}, {})))
        found = csv_columns(scan_csv_files(files, dialects, hive), header, decimal)
    except UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{abridged(map(str, files), 3)}: invalid CSV: {reason}") from None
    if found.rows != rows:
        raise DataError(
            f"{abridged(map(str, files), 3)}: expected {rows:,} rows, found {found.rows:,}; "
            "write every field with quotes or line ends in quotes"
        )
    return LongTable(
        files=files,
        dialects=dialects,
        types=found.types | {n: t for n, t in hive.types.items() if n not in found.types},
        rows=rows,
        hive=hive,
        numbers=found.numbers,
        almost_numbers=found.almost_numbers,
    )
