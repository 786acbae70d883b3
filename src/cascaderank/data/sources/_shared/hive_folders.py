"""Columns in the names of folders, such as ``day=2026-01-01``, as Hive and Spark write them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import polars.selectors as cs

from cascaderank.errors import DataError

_NULL = "__HIVE_DEFAULT_PARTITION__"
_PATH = "__path_of_the_file__"


@dataclass(frozen=True)
class HiveColumns:
    """Columns whose values are the same in all rows of a file."""

    types: dict[str, pl.DataType]
    """Int64 if every value is an integer (``month=01`` is 1), unless two texts are the same integer
    (``01`` and ``1``); else String."""
    values: Mapping[Path, dict[str, str | None]]
    """Value of each column, as text, by file."""

    @property
    def path_column(self) -> str | None:
        """Column with the path of the file that :meth:`added_to` needs; ``None`` if none."""
        return _PATH if self.types else None

    def added_to(self, rows: pl.LazyFrame, *, as_text: bool = False) -> pl.LazyFrame:
        """Add the columns that the files do not have themselves.

        Args:
            rows: rows of one or more files, with their paths in the column ``path_column``.
            as_text: whether to add all columns as String.
        """
        if not self.types:
            return rows
        own = rows.collect_schema().names()
        paths = [str(path.absolute()) for path in self.values]
        columns = [
            pl.col(_PATH)
            .replace_strict(paths, [v[name] for v in self.values.values()], return_dtype=pl.String)
            .cast(pl.String if as_text else dtype)
            .alias(name)
            for name, dtype in self.types.items()
            if name not in own
        ]
        return rows.with_columns(columns).drop(_PATH)

    def check(self, path: Path, rows: pl.LazyFrame) -> None:
        """Check that columns that are in a file and in the names of its folders are equal.

        Args:
            path: the file.
            rows: its rows.

        Raises:
            DataError: if a value of the file is not that of its folder.
        """
        own = rows.collect_schema().names() if self.types else []
        for name, text in self.values.get(path, {}).items():
            if name not in own:
                continue
            found, value = cs.by_name(name).cast(pl.String), pl.lit(text, pl.String)
            numbers = [c.cast(pl.Float64, strict=False) for c in (found, value)]
            same = (numbers[0] == numbers[1]) & (numbers[0].abs() < 2**53)  # 007 and 7.0 are equal
            equal = found.eq_missing(value) | same.fill_null(value=False)
            odd = rows.filter(~equal).select(found).head(1).collect()
            if odd.height:
                raise DataError(
                    f"{path}: column '{name}' of the file has the value {odd.item()}, and the "
                    f"folder is '{name}={text}'; rename the column or the folder, or write equal "
                    "values"
                )


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
        >>> found.types, list(found.values.values())
        ({'day': String, 'hour': Int64}, [{'day': '2026-01-01', 'hour': '07'}])
    """
    values = {path: _keys(path) for path in files}
    first = values[files[0]]
    for path, keys in values.items():
        if set(keys) != set(first):
            raise DataError(
                f"{path}: expected the KEY=VALUE folders of {files[0]} ({_folders(first)}), found "
                f"{_folders(keys)}; prepare files of one layout at a time"
            )
    types: dict[str, pl.DataType] = {}
    for name in first:
        column = pl.Series([keys[name] for keys in values.values()], dtype=pl.String)
        numbers = column.cast(pl.Int64, strict=False)
        whole = numbers.null_count() == column.null_count()
        whole = whole and numbers.n_unique() == column.n_unique()
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
    return "/".join(f"{name}=..." for name in keys) or "none"
