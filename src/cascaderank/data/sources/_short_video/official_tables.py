"""Tables of KuaiRand and KuaiRec: reading and checking of exposures, users and videos."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from cascaderank.data.sources import Inputs, paths_of
from cascaderank.data.sources._shared.input_files import shown
from cascaderank.data.sources._shared.long_table import open_long_table
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Kind, Role, Transform, abridged

USER, VIDEO = "user_id", "video_id"
FETCH = "fetch the file again"
"""What to do about a value that no file of the data set has."""

_TAGS = r"^[\[\]\s]*(\d{1,18}([,\s]+|[\]\s]*$))*$"

USER_CATEGORIES = (
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    *(f"onehot_feat{i}" for i in range(18)),
)
USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")


def the_folder(from_: Inputs, holding: str) -> Path:
    """Return the given folder, or the folder ``data`` inside it, whichever has the files.

    Args:
        from_: a single folder.
        holding: shell pattern of a file that the folder must contain.

    Raises:
        DataError: if ``from_`` is not a single folder, or neither folder has such a file.
    """
    paths = paths_of(from_)
    if len(paths) != 1:
        raise DataError(
            f"expected one folder with {holding}, found {len(paths)} paths; give one with --from"
        )
    for folder in (paths[0], paths[0] / "data"):
        if folder.is_dir() and any(folder.glob(holding)):
            return folder
    found = "no such file in it" if paths[0].is_dir() else "no such folder"
    raise DataError(
        f"{paths[0]}: expected a folder with {holding}, found {found}; give another with --from"
    )


def find_files(folder: Path, patterns: Sequence[str], what: str) -> list[Path]:
    """Return the files that match the first pattern with a match, sorted by name.

    Args:
        folder: folder to search.
        patterns: shell patterns, in order of preference.
        what: description of the files, for messages.

    Raises:
        DataError: if no file matches a pattern.
    """
    for pattern in patterns:
        if files := sorted(p for p in folder.glob(pattern) if not p.is_dir()):
            return files
    raise DataError(f"{folder}: expected {what}, found no file named {' or '.join(patterns)}")


def read_columns(
    files: Sequence[Path],
    required: Sequence[str],
    optional: Sequence[str] = (),
    *,
    numbers: Sequence[str] = (),
) -> pl.DataFrame:
    """Read columns of Parquet or CSV files and concatenate their rows.

    Args:
        files: files of one format.
        required: columns that must exist.
        optional: columns that are read if they exist.
        numbers: those columns that hold numbers, or null.

    Raises:
        DataError: if a file is damaged, a column is missing, or a column of numbers has text; for
            CSV, the message names the line.
    """
    table = open_long_table(files)
    for column in required:
        table.check(column, what="an official column of the data set")
    columns = [c for c in dict.fromkeys([*required, *optional]) if c in table.types]
    types = {c: table.types[c] for c in columns}
    for name in (c for c in columns if c in numbers):
        if name in table.numbers:
            types[name] = pl.Float64()
        if not (types[name].is_numeric() or types[name] in (pl.Boolean, pl.Null)):
            raise DataError(
                f"{files[0]}: column '{name}': expected numbers, found {types[name]}"
                f"{table.first_not_number(name)}; fetch the file again"
            )
    return table.collect(table.scan(types))


def whole(frame: pl.DataFrame, columns: Sequence[str], where: Path) -> pl.DataFrame:
    """Cast columns to Int64.

    Args:
        frame: table.
        columns: columns to cast.
        where: file of the table, for messages.

    Raises:
        DataError: if a value is missing, or is not a whole number.
    """
    for name in columns:
        column = frame[name]
        numbers = column.cast(pl.Int64, strict=False) if column.dtype.is_numeric() else None
        invalid = (
            len(column)
            if numbers is None
            else int((numbers.is_null() | (numbers.cast(pl.Float64) != column)).sum())
        )
        if invalid or numbers is None:
            raise DataError(
                f"{where}: column '{name}': expected whole numbers, found {invalid:,} of "
                f"{len(column):,} values that are missing or of another type; fetch the file again"
            )
        frame = frame.with_columns(numbers)
    return frame


def one_per(frame: pl.DataFrame, key: str, where: Path) -> pl.DataFrame:
    """Return the distinct rows, which must have unique keys.

    Args:
        frame: table.
        key: column of the keys.
        where: file of the table, for messages.

    Raises:
        DataError: if two different rows have the same key; the message names it.
    """
    frame = frame.unique(maintain_order=True)
    repeated = frame[key].filter(frame[key].is_duplicated())
    if len(repeated):
        raise DataError(
            f"{where}: expected one row per {key}, found several different rows for "
            f"{repeated.n_unique():,}, first {repeated[0]}; fetch the file again"
        )
    return frame


def read_users(files: Sequence[Path]) -> pl.DataFrame:
    """Read the table of users, with one row per user and the official columns that exist."""
    optional = [*USER_CATEGORIES, *USER_NUMBERS]
    frame = read_columns(files, [USER], optional, numbers=[USER, *USER_NUMBERS])
    frame = whole(frame, [USER], files[0])
    return one_per(categories(frame, USER_CATEGORIES), USER, files[0])


def categories(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Cast columns of categories to integers if all values are whole numbers, else to text."""
    for name in (c for c in columns if c in frame.columns):
        column = frame[name]
        if column.dtype.is_float():
            numbers = column.cast(pl.Int64, strict=False)
            fits = (numbers.cast(pl.Float64) == column).all() and (
                numbers.null_count() == column.null_count()
            )
            column = numbers if fits else _text(column)
        elif not column.dtype.is_integer():
            column = _text(column)
        frame = frame.with_columns(column)
    return frame


def first_two(tags: pl.Series, name: str) -> list[pl.Series]:
    """Return the first and the second tag of texts such as ``"25,65"`` and ``"[25, 65]"``.

    Raises:
        DataError: if a text has anything but integers.

    Examples:
        >>> [s.to_list() for s in first_two(pl.Series(["[8, 3]", "5", None]), "tag")]
        [[8, 5, None], [3, None, None]]
    """
    text = _text(tags)
    strange = text.filter(~text.str.contains(_TAGS))
    if len(strange):
        raise DataError(
            f"column '{name}': expected tags such as '25,65' or '[25, 65]', found "
            f"{shown(strange[0])} and {len(strange) - 1:,} more such values; fetch the file again"
        )
    numbers = text.str.extract_all(r"\d+").cast(pl.List(pl.Int64))
    return [
        numbers.list.get(i, null_on_oob=True).alias(n) for i, n in enumerate((name, f"{name}_2"))
    ]


def _text(column: pl.Series) -> pl.Series:
    if column.dtype.is_nested() or column.dtype == pl.Binary:
        raise DataError(
            f"column '{column.name}': expected numbers or text, found {column.dtype}; fetch the "
            "file again"
        )
    return column.cast(pl.String)


def check_known(exposures: pl.DataFrame, videos: pl.DataFrame, where: Path) -> None:
    """Check that the table of videos has every video of the log.

    Raises:
        DataError: if a video is missing.
    """
    unknown = exposures[VIDEO].unique().sort()
    unknown = unknown.filter(~unknown.is_in(videos[VIDEO].implode()))
    if len(unknown):
        rows = int(exposures[VIDEO].is_in(unknown.implode()).sum())
        raise DataError(
            f"{where}: expected every video of the log, found {len(unknown):,} missing with "
            f"{rows:,} exposures (video_id {abridged(map(str, unknown), 5)}); fetch log and table "
            "of the same version of the data set"
        )


def user_features(users: pl.DataFrame) -> list[Feature]:
    """Return the features of users: their id, and the columns of the table."""
    return [
        Feature(name=USER, role=Role.REQUEST, kind=Kind.CATEGORICAL),
        *(_feature(name, Role.REQUEST, USER_NUMBERS) for name in users.columns if name != USER),
    ]


def video_features(videos: pl.DataFrame, numbers: Sequence[str]) -> list[Feature]:
    """Return the features of videos: their id, and the columns of the table."""
    return [
        Feature(name=VIDEO, role=Role.ITEM, kind=Kind.CATEGORICAL),
        *(_feature(name, Role.ITEM, numbers) for name in videos.columns if name != VIDEO),
    ]


def _feature(name: str, role: Role, numbers: Sequence[str]) -> Feature:
    kind = Kind.NUMERIC if name in numbers else Kind.CATEGORICAL
    log = Transform.LOG1P_STANDARDISE
    return Feature(name=name, role=role, kind=kind, transform=log, missing=True)
