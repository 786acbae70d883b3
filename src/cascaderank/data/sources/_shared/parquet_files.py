"""Parquet files with the same columns as one lazy frame; types may differ where values do not."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
import polars.selectors as cs

from cascaderank.data.sources._shared.csv_files import check_columns
from cascaderank.data.sources._shared.hive_folders import HiveColumns
from cascaderank.data.unreadable import UNREADABLE
from cascaderank.errors import DataError
from cascaderank.expansion import check_expansion, content_size
from cascaderank.regular_files import check_path, open_file

_MAGIC = b"PAR1"
_LARGEST_WHOLE: dict[type[pl.DataType], int] = {pl.Float32: 2**24, pl.Float64: 2**53}
"""Largest number up to which all integers are exact, by type."""


def is_parquet(path: Path) -> bool:
    """Return whether the content of a file is Parquet.

    Raises:
        DataError: if the file cannot be read, is empty, or is Parquet by its name alone.
    """
    check_path(path.absolute(), DataError)  # Polars needs UTF-8
    try:
        with open_file(path) as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not start:
        raise DataError(f"{path}: expected Parquet or CSV, found an empty file; fetch it again")
    if start != _MAGIC and path.suffix.lower() == ".parquet":
        raise DataError(
            f"{path}: damaged Parquet file (it does not begin with PAR1); fetch or write it again"
        )
    return start == _MAGIC


def scan_parquet_file(path: Path, hive: HiveColumns | None = None) -> pl.LazyFrame:
    """Return the rows of one file, with its path in the column that ``hive`` needs."""
    paths = hive.path_column if hive else None
    return pl.scan_parquet(
        path.absolute(), hive_partitioning=False, glob=False, include_file_paths=paths
    )


def scan_parquet_files(
    files: Sequence[Path], types: Mapping[str, pl.DataType], hive: HiveColumns
) -> pl.LazyFrame:
    """Return the rows of all files, with the types that :func:`parquet_types` returned."""
    scans = []
    for path in files:
        scan = scan_parquet_file(path, hive)
        own = scan.collect_schema()
        columns = [
            cs.by_name(name) if own[name] == dtype else cs.by_name(name).cast(dtype)
            for name, dtype in types.items()
            if name in own
        ]
        columns += [pl.col(hive.path_column)] if hive.path_column else []
        scans.append(scan.select(columns))
    return hive.added_to(pl.concat(scans))


def parquet_types(files: Sequence[Path], hive: HiveColumns) -> tuple[dict[str, pl.DataType], int]:
    """Return the type of each column of all files together, and the number of rows.

    Raises:
        DataError: if a file is damaged or has other columns than the first, a column differs from
            the value in the name of a folder, or two files hold a column as types of which neither
            holds all values of both.
    """
    expected: dict[str, pl.DataType] = {}
    origins: dict[str, list[tuple[Path, pl.DataType]]] = {}
    rows = 0
    for path in files:
        try:
            check_expansion(content_size(path), path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        try:
            scan = scan_parquet_file(path)
            hive.check(path, scan)
            types = dict(scan.collect_schema())
            rows += int(scan.select(pl.len()).collect().item())
        except UNREADABLE as error:
            raise _damaged(path, error) from None
        expected = expected or types
        check_columns(path, list(types), files[0], list(expected))
        for column, dtype in types.items():
            common = _common(expected[column], dtype)
            if common is None:
                raise DataError(
                    f"{path}: expected column '{column}' to hold {expected[column]} as in "
                    f"{files[0]}, found {dtype}; write the files with one type"
                )
            expected[column] = common
            if all(dtype != other for _, other in origins.setdefault(column, [])):
                origins[column].append((path, dtype))
    for column, found in origins.items():
        if len(found) > 1 and expected[column].is_numeric():
            expected[column] = _exact_type(files, column, found, expected[column])
    return expected | {n: t for n, t in hive.types.items() if n not in expected}, rows


def _common(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """Return the type for values of both types; ``None`` if there is none."""
    if one == other:
        return one
    if pl.Null in (one, other):  # a file without rows, or in which every value is null
        return other if one == pl.Null else one
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        inner = [t() if isinstance(t, type) else t for t in (one.inner, other.inner)]
        common = _common(*inner) if pl.Null in inner else None
        return None if common is None else pl.List(common)
    if _is_text(one) and _is_text(other):
        return pl.String()
    if one.is_numeric() and other.is_numeric():
        frames = [pl.DataFrame(schema={"": dtype}) for dtype in (one, other)]
        return pl.concat(frames, how="vertical_relaxed").schema[""]
    return None


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def _exact_type(
    files: Sequence[Path],
    column: str,
    found: Sequence[tuple[Path, pl.DataType]],
    common: pl.DataType,
) -> pl.DataType:
    """Check that a numeric type holds all integers of a column exactly.

    Args:
        files: all files.
        column: name of the column.
        found: the types of the column, each with its first file.
        common: type that Polars would choose.

    Returns:
        The type; Int64 if the column has integers of several types.

    Raises:
        DataError: if the type does not hold an integer of a file; the message names both files.
    """
    if not any(dtype.is_integer() for _, dtype in found):
        return common
    target = pl.Int64() if all(dtype.is_integer() for _, dtype in found) else common
    most = _LARGEST_WHOLE.get(type(target), 2**63 - 1)
    for path in files:
        scan = scan_parquet_file(path)
        dtype = scan.collect_schema()[column]
        if not dtype.is_integer():
            continue
        values = cs.by_name(column)
        try:
            frame = scan.select(values.min().alias("least"), values.max().alias("most")).collect()
        except UNREADABLE as error:
            raise _damaged(path, error) from None
        extreme = max((v for v in frame.row(0) if v is not None), key=abs, default=0)
        if abs(extreme) > most:
            place, other = next((p, t) for p, t in found if t != dtype)
            raise DataError(
                f"{path}: column '{column}' holds {dtype} with the number {extreme}, and {other} "
                f"in {place}; as {target}, different numbers would be equal; write the files with "
                "one type"
            )
    return target


def _damaged(path: Path, error: BaseException) -> DataError:
    reason = str(error).strip().partition("\n")[0]
    return DataError(f"{path}: damaged Parquet file ({reason}); fetch or write it again")
