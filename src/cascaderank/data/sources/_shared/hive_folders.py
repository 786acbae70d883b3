"""Columns in the names of folders, such as ``day=2026-01-01``, as Hive and Spark write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from cascaderank.errors import DataError

_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class HiveColumns:
    """Columns whose values are the same in all rows of a file."""

    types: dict[str, pl.DataType]
    """Int64 if every value is an integer (``month=01`` is 1), else String."""
    values: Sequence[dict[str, str | None]]
    """Value of each column, as text, by file."""

    def columns(self, index: int) -> list[pl.Expr]:
        """Return the columns of one file, by its number."""
        return [
            pl.lit(value, pl.String).cast(self.types[name]).alias(name)
            for name, value in self.values[index].items()
        ]


def hive_columns(files: Sequence[Path]) -> HiveColumns:
    """Read the names of the folders of files.

    Args:
        files: paths as they were given; ``KEY=VALUE`` in the name of any folder of a path is a
            column. Values are URL-decoded; ``__HIVE_DEFAULT_PARTITION__`` is null.

    Raises:
        DataError: if the folders of a file have one key with two values, or files have other keys
            than the first.

    Examples:
        >>> found = hive_columns([Path("logs/day=2026-01-01/hour=07/part-0.parquet")])
        >>> found.types, found.values
        ({'day': String, 'hour': Int64}, [{'day': '2026-01-01', 'hour': '07'}])
    """
    values = [_keys(path) for path in files]
    for path, keys in zip(files, values, strict=True):
        if set(keys) != set(values[0]):
            raise DataError(
                f"{path}: expected folders {_folders(values[0])} as of {files[0]}, found "
                f"{_folders(keys)}; prepare files of one layout at a time"
            )
    types: dict[str, pl.DataType] = {}
    for name in values[0]:
        column = pl.Series([keys[name] for keys in values], dtype=pl.String)
        whole = column.cast(pl.Int64, strict=False).null_count() == column.null_count()
        types[name] = pl.Int64() if whole else pl.String()
    return HiveColumns(types, values)


def _keys(path: Path) -> dict[str, str | None]:
    keys: dict[str, str | None] = {}
    for folder in path.parts[:-1]:
        name, equals, text = folder.partition("=")
        if not equals or not name:
            continue
        value = None if text == _NULL else unquote(text)
        if keys.setdefault(unquote(name), value) != value:
            raise DataError(
                f"{path}: expected one folder for '{name}', found two values; rename a folder"
            )
    return keys


def _folders(keys: dict[str, str | None]) -> str:
    return "/".join(f"{name}=..." for name in keys) or "without KEY=VALUE"
