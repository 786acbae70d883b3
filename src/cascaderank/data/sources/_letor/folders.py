"""Folders of LETOR data sets as they are published: parts of a split, and folds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cascaderank.data.sources import Inputs
from cascaderank.data.sources._shared.input_files import input_files, read_lines
from cascaderank.data.split import FOLD, GIVEN
from cascaderank.errors import DataError

PATTERNS = ("*.txt", "*.dat", "*.svm", "*.svmlight", "*.libsvm", "*.letor")
_WHAT = "LETOR files"
_NAMES = {
    "train": ("train", "training", "trainingset"),
    "validation": ("vali", "valid", "validation", "validationset", "val", "dev"),
    "test": ("test", "testset"),
}
_QUERY = re.compile(rb"\sqid:([^\s:#]+)")


@dataclass(frozen=True)
class LetorFile:
    """A file, and which part of the split that came with the data it is."""

    path: Path
    given: str | None


def letor_files(from_: Inputs, fold: int | None) -> list[LetorFile]:
    """Return the files of what was named, with the parts that their names tell.

    Args:
        from_: files and folders; or one folder with ``Fold1``, ``Fold2`` and so on in it.
        fold: of such a folder the fold to read. If not given, the test files of all folds are
            read, which together are every query once, and each is the part ``fold-<number>``.

    Raises:
        DataError: if there is no such file or folder, or folds are not what they must be.
    """
    named = [Path(p) for p in ([from_] if isinstance(from_, str | Path) else [*(from_ or ())])]
    folds = {folder: _folds(folder) for folder in named if folder.is_dir()}
    folds = {folder: inside for folder, inside in folds.items() if inside}
    if not folds:
        if fold is not None:
            raise DataError(
                f"fold={fold}: expected a folder with Fold1, Fold2 and so on; named none"
            )
        return _with_parts(input_files(from_, PATTERNS, what=_WHAT))
    if len(named) > 1:
        raise DataError(f"{next(iter(folds))}: has folds, so name it alone")
    inside = folds[named[0]]
    if fold is not None:
        if fold not in inside:
            raise DataError(f"{named[0]}: no fold {fold}; there are {', '.join(map(str, inside))}")
        return _with_parts(input_files(inside[fold], PATTERNS, what=_WHAT))
    return _all_folds(named[0], inside)


def _folds(folder: Path) -> dict[int, Path]:
    matched = {p: re.fullmatch(r"fold0*([1-9]\d*)", p.name.lower()) for p in folder.iterdir()}
    found = {int(m[1]): p for p, m in matched.items() if m and p.is_dir()}
    return dict(sorted(found.items()))


def _with_parts(paths: Sequence[Path]) -> list[LetorFile]:
    """Parts by the names of files, if all of them tell one and there are two at least."""
    parts = [_part_of(path) for path in paths]
    whole = {"train", "test"} <= {*parts} <= {*GIVEN}
    return [
        LetorFile(path, part if whole else None) for path, part in zip(paths, parts, strict=True)
    ]


def _part_of(path: Path) -> str | None:
    stem = path.name.lower().partition(".")[0]
    return next((part for part, names in _NAMES.items() if stem in names), None)


def _all_folds(folder: Path, inside: dict[int, Path]) -> list[LetorFile]:
    if list(inside) != list(range(1, len(inside) + 1)) or len(inside) < 3:
        raise DataError(
            f"{folder}: expected Fold1, Fold2, Fold3 and so on, found "
            f"{', '.join(p.name for p in inside.values())}; say fold=NUMBER to read one"
        )
    tests: dict[int, list[Path]] = {}
    for number, fold in inside.items():
        by_part: dict[str | None, list[Path]] = {}
        for path in input_files(fold, PATTERNS, what=_WHAT):
            by_part.setdefault(_part_of(path), []).append(path)
        tests[number] = by_part.get("test", [])
        if not tests[number]:
            raise DataError(f"{fold}: expected a file called test.txt; found none")
        # Round they go: what one fold tests by, the next one validates by.
        before = tests.get(number - 1)
        validation = by_part.get("validation", [])
        if before and validation and _queries(validation) != _queries(before):
            raise DataError(
                f"{validation[0]}: expected the queries of {before[0]}, as folds of LETOR have it, "
                f"found others; say fold={number} to read this fold alone"
            )
    return [LetorFile(path, f"{FOLD}{n}") for n, paths in tests.items() for path in paths]


def _queries(paths: Sequence[Path]) -> set[bytes]:
    found = (_QUERY.search(line) for path in paths for line in read_lines(path))
    return {match[1] for match in found if match}
