"""CSV files: validation of every line, types of columns, and lazy frames of the fields as text.

Every line is parsed twice, by :mod:`csv`, which finds mistakes and their places, and by Polars,
which is fast. Only text that both read alike passes the first.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import polars as pl
import polars.selectors as cs

from cascaderank.data.sources._shared.hive_folders import HiveColumns
from cascaderank.data.sources._shared.input_files import read_lines, shown
from cascaderank.errors import DataError
from cascaderank.schema import abridged

Decimal = Literal[".", ","]
"""Decimal mark of numbers."""

_BLANK = " \t"
_INTEGER = r"^-?(0|[1-9][0-9]{0,18})$"  # integers that print as the same text again
_DIGITS = r"^[-+]?[0-9]+([eE][0-9]+)?$"
_EXACT = r"^[-+]?(0|[1-9][0-9]{0,14})$"  # integers that are the same text again as float64
_FRACTION = r"\.|[eE][-+]"
_ALMOST = r"^[-+]?[$€£]?\s?[0-9]+([., '][0-9]{3})*([.,][0-9]+)?\s?[%$€£]?$"


@dataclass(frozen=True)
class CsvDialect:
    """How the lines of one CSV file are read."""

    separator: str
    """Character between fields."""
    decimal: Decimal = "."
    """Decimal mark of numbers."""
    quotes: bool = True
    """Whether fields can be in quotes; otherwise a quote is a character as any other."""


@dataclass
class CsvColumns:
    """Properties of the columns of several CSV files."""

    types: dict[str, pl.DataType] = field(default_factory=dict)
    """Int64 if every value is an integer that is the same text when it is written again; Float64 if
    every value is a number, unless the text of one is no number in ordinary notation; else
    String."""
    numbers: dict[str, str] = field(default_factory=dict)
    """Columns of type String whose values are all numbers, such as ``00712``, ``12e5`` and integers
    beyond 64 bits, each with a value."""
    almost_numbers: dict[str, str] = field(default_factory=dict)
    """Other columns of type String whose values all look like numbers, such as ``0,5`` and ``12%``,
    each with a value."""
    rows: int = 0
    """Number of rows of all files."""


def dialect_of(path: Path, separator: str | None, decimal: Decimal) -> CsvDialect:
    """Return the dialect of a file by its name: tabs in ``.tsv`` and ``.tab``, else commas.

    Args:
        path: the file.
        separator: character between fields; ``None`` to choose it by the name.
        decimal: decimal mark.
    """
    if separator is None:
        name = path.name.lower().removesuffix(".gz")
        separator = "\t" if name.endswith((".tsv", ".tab")) else ","
    return CsvDialect(separator, decimal)


def csv_rows(path: Path, dialect: CsvDialect) -> Iterator[tuple[int, list[str]]]:
    """Yield the header and the non-blank rows, each with the number of its last line.

    Raises:
        DataError: if a line is not valid CSV in UTF-8; the message names the line.
    """
    for line, row, _ in _records(path, dialect.separator):
        yield line, row


def _records(path: Path, separator: str) -> Iterator[tuple[int, list[str], str]]:
    """Yield line number and fields of each row, and its text if it has quotes or odd line ends."""
    line = 0
    text: list[str] = []

    def lines() -> Iterator[str]:
        nonlocal line
        for content in read_lines(path, quotes=True):
            line += 1
            text.append(content.decode())
            yield text[-1]

    try:
        for row in csv.reader(lines(), delimiter=separator, strict=True):
            is_plain = len(text) == 1 and '"' not in text[0] and "\r" not in text[0][:-2]
            is_plain = is_plain and not text[0].endswith("\r")
            if row:
                yield line, row, "" if is_plain else "".join(text)
            elif "\r\r" in "".join(text):  # Polars reads a row in it
                raise _odd_line_end(path, line)
            text.clear()
    except UnicodeDecodeError:
        raise DataError(
            f"{path}, line {line}: expected UTF-8 text; convert the file to UTF-8"
        ) from None
    except csv.Error as error:
        if "new-line character" in str(error):
            raise _odd_line_end(path, line) from None
        raise DataError(f"{path}, line {line}: invalid CSV: {error}; correct the line") from None


def _odd_line_end(path: Path, line: int) -> DataError:
    return DataError(
        f"{path}, line {line}: expected lines that end with \\n or \\r\\n, found another carriage "
        "return; convert the line ends"
    )


class _Quotes:
    r"""Decide whether the quotes of a file enclose fields, or are characters as any other.

    :mod:`csv` reads ``5" phone`` as it is written; Polars would look for the end of the quotes.
    """

    def __init__(self, path: Path, separator: str) -> None:
        mark = re.escape(separator)
        plain = rf'(?:"(?:[^"]|"")*+"|[^"{mark}\r\n]*+)'
        self._path = path
        self._valid = re.compile(rf"{plain}(?:{mark}{plain})*+(?:\r?\n)?")
        self._opening = re.compile(rf'(?:^|{mark})"')
        self._enclosing = self._stray = 0

    def check(self, line: int, text: str) -> None:
        """Check the text of a row that has quotes or odd line ends.

        Raises:
            DataError: if a line ends with other carriage returns, or the file has quotes of both
                kinds.
        """
        is_valid = self._valid.fullmatch(text)
        if not is_valid and '"' not in text:
            raise _odd_line_end(self._path, line)
        if not is_valid and self._valid.fullmatch(text.rstrip("\r\n")):
            raise _odd_line_end(self._path, line)
        if self._opening.search(text):
            self._enclosing = self._enclosing or line
        if not is_valid:
            self._stray = self._stray or line
            if "\r" in text.rstrip("\n").removesuffix("\r"):
                raise _odd_line_end(self._path, line)
        if self._enclosing and self._stray:
            raise DataError(
                f"{self._path}, line {self._stray}: invalid CSV: a quote inside a field without "
                f"quotes, in a file with fields in quotes (line {self._enclosing}); put the field "
                'into quotes, and write "" for the quote'
            )

    @property
    def enclose(self) -> bool:
        return not self._stray


def scan_csv_files(
    files: Sequence[Path], dialects: Sequence[CsvDialect], hive: HiveColumns
) -> pl.LazyFrame:
    """Return all rows; values are text, those of folder names too, and an empty field is null."""
    paths = hive.path_column
    scans = [
        pl.scan_csv(
            path.absolute(),
            separator=dialect.separator,
            quote_char='"' if dialect.quotes else None,
            infer_schema=False,
            glob=False,
            include_file_paths=paths,
        ).filter(
            ~pl.all_horizontal(pl.all().exclude(paths or []).is_null())  # blank lines
        )
        for path, dialect in zip(files, dialects, strict=True)
    ]
    columns = scans[0].collect_schema().names()
    rows = pl.concat([scan.select(cs.by_name(columns)) for scan in scans])
    return hive.added_to(rows, as_text=True)


def as_numbers(values: pl.Expr, decimal: Decimal) -> pl.Expr:
    """Return the text of numbers without blanks around it, with a point; null if it is empty."""
    values = values.str.strip_chars(_BLANK)
    if decimal == ",":
        values = values.str.replace(",", ".", literal=True)
    return values.replace("", None)


def checked_csv_files(
    files: Sequence[Path], dialects: Sequence[CsvDialect]
) -> tuple[list[str], list[CsvDialect], int]:
    """Read every line of CSV files.

    Returns:
        The header of the first file, the dialect of each file with the use of its quotes, and the
        number of rows.

    Raises:
        DataError: if a file is damaged or has other columns than the first; the message names file
            and line.
    """
    header: list[str] = []
    found: list[CsvDialect] = []
    rows = 0
    for path, dialect in zip(files, dialects, strict=True):
        names: list[str] = []
        separator, quotes = dialect.separator, _Quotes(path, dialect.separator)
        for line, row, text in _records(path, separator):
            if text:
                quotes.check(line, text)
            if not names:
                names = row
                header = header or row
                if "" in row or len(set(row)) < len(row):
                    raise DataError(
                        f"{path}, line {line}: expected a header of unique names, found "
                        f"{shown(separator.join(row))}"
                    )
                check_columns(path, row, files[0], header)
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
        found.append(replace(dialect, quotes=quotes.enclose))
    return header, found, rows


def csv_columns(rows: pl.LazyFrame, header: Sequence[str], decimal: Decimal) -> CsvColumns:
    """Infer the types of columns from the text of all their fields.

    Args:
        rows: frame of text.
        header: names of the columns.
        decimal: decimal mark.
    """
    texts = {name: as_numbers(cs.by_name(name), decimal) for name in header}
    columns = CsvColumns(rows=rows.select(pl.len()).collect().item())

    def passed(names: Sequence[str], test: Callable[[pl.Expr], pl.Expr]) -> list[str]:
        """Return the columns whose text passes a test."""
        tests = [test(texts[name]).alias(str(i)) for i, name in enumerate(names)]
        results = rows.select(tests).collect().row(0) if tests else ()
        return [name for name, result in zip(names, results, strict=True) if result]

    # One test after another, each of the columns that need it: there are many rows.
    numbers = passed(header, _are_numbers)
    integers = passed(numbers, _are_integers)
    other = [name for name in numbers if name not in integers]
    odd = passed([n for n in other if n not in passed(other, _any_has_decimals)], _any_is_odd)
    almost = passed([name for name in header if name not in numbers], _almost_numbers)
    for name in header:
        columns.types[name] = pl.Float64() if name in numbers else pl.String()
        if name in integers:
            columns.types[name] = pl.Int64()
        elif name in odd or name in almost:
            columns.types[name] = pl.String()
            value = rows.select(cs.by_name(name).drop_nulls().first()).collect().item()
            (columns.numbers if name in odd else columns.almost_numbers)[name] = value
    return columns


def _are_numbers(text: pl.Expr) -> pl.Expr:
    return text.cast(pl.Float64, strict=False).null_count() == text.null_count()


def _are_integers(text: pl.Expr) -> pl.Expr:
    in_range = text.cast(pl.Int64, strict=False).null_count() == text.null_count()
    return text.str.contains(_INTEGER).all() & in_range


def _any_has_decimals(text: pl.Expr) -> pl.Expr:
    return text.str.contains(_FRACTION).any()


def _any_is_odd(text: pl.Expr) -> pl.Expr:
    return (text.str.contains(_DIGITS) & ~text.str.contains(_EXACT)).any()


def _almost_numbers(text: pl.Expr) -> pl.Expr:
    return text.str.contains(_ALMOST).all()


def check_columns(path: Path, columns: Sequence[str], first: Path, expected: Sequence[str]) -> None:
    """Check that a file has the columns of the first one, in any order.

    Raises:
        DataError: if columns are missing or added; the message names them.
    """
    missing = [c for c in expected if c not in columns]
    extra = [c for c in columns if c not in expected]
    if missing or extra:
        differences = [f"without {abridged(missing)}"] * bool(missing)
        differences += [f"with {abridged(extra)}"] * bool(extra)
        raise DataError(
            f"{path}: expected the columns of {first}, found them {' and '.join(differences)}; "
            "prepare files of one layout at a time"
        )
