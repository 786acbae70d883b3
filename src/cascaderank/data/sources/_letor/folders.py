"""Published folder layouts of LETOR data sets: files of a train/test split, and folds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cascaderank.data.sources import Inputs, paths_of
from cascaderank.data.sources._letor.side_files import has_sizes, is_side_file_of
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
    """A file and the part of the official split that it holds."""

    path: Path
    given: str | None
    """Name of the part, such as ``train`` or ``fold-1``; ``None`` if the files define no split."""


def letor_files(from_: Inputs, fold: int | None) -> list[LetorFile]:
    """Return the files to read and, from their names, the part of the split of each.

    Args:
        from_: files and folders; or one folder that contains ``Fold1``, ``Fold2`` and so on.
        fold: number of the fold to read from a folder of folds. If ``None``, the test files of all
            folds are read, which together hold every query once; each is the part
            ``fold-<number>``.

    Raises:
        DataError: if a file or folder does not exist or is empty, or the folds do not have the
            layout of LETOR.
    """
    paths = paths_of(from_)
    folds = {folder: _folds(folder) for folder in paths if folder.is_dir()}
    folds = {folder: inside for folder, inside in folds.items() if inside}
    if not folds:
        if fold is not None:
            raise DataError(
                f"fold={fold}: expected a folder with Fold1, Fold2 and so on, found none; give it "
                "with --from, or leave fold out"
            )
        return _with_parts(_files(paths))
    if len(paths) > 1:
        raise DataError(
            f"{next(iter(folds))}: expected a folder of folds alone, found {len(paths)} paths; "
            "give one path"
        )
    inside = folds[paths[0]]
    if fold is not None:
        if fold not in inside:
            numbers = ", ".join(map(str, inside))
            raise DataError(f"{paths[0]}: expected fold={fold}, found folds {numbers}; give one")
        return _with_parts(_files([inside[fold]]))
    return _all_folds(paths[0], inside)


def _files(from_: Inputs) -> list[Path]:
    """Return files, and those of folders that match a pattern or have sizes of queries beside."""
    files = input_files(from_, PATTERNS, what=_WHAT, also=has_sizes)
    return [path for path in files if not any(is_side_file_of(path, other) for other in files)]


def _folds(folder: Path) -> dict[int, Path]:
    matched = {p: re.fullmatch(r"fold0*([1-9]\d*)", p.name.lower()) for p in folder.iterdir()}
    folds = {int(m[1]): p for p, m in matched.items() if m and p.is_dir()}
    return dict(sorted(folds.items()))


def _with_parts(paths: Sequence[Path]) -> list[LetorFile]:
    """Assign parts by file names, if every name is that of a part and train and test exist."""
    parts = [_part_of(path) for path in paths]
    is_split = {"train", "test"} <= {*parts} <= {*GIVEN}
    return [
        LetorFile(path, part if is_split else None) for path, part in zip(paths, parts, strict=True)
    ]


def _part_of(path: Path) -> str | None:
    words = path.name.lower().removesuffix(".gz").split(".")
    words = [words[0], words[-1], *words[1:-1]]  # train.txt, mq2008.train, or set1.train.txt
    names = [part for word in words for part, ns in _NAMES.items() if word in ns]
    return names[0] if names else None


def _all_folds(folder: Path, inside: dict[int, Path]) -> list[LetorFile]:
    if list(inside) != list(range(1, len(inside) + 1)) or len(inside) < 3:
        raise DataError(
            f"{folder}: expected Fold1, Fold2, Fold3 and so on, found "
            f"{', '.join(p.name for p in inside.values())}; set fold=NUMBER to read a single one"
        )
    tests: dict[int, list[Path]] = {}
    for number, fold in inside.items():
        by_part: dict[str | None, list[Path]] = {}
        for path in _files([fold]):
            by_part.setdefault(_part_of(path), []).append(path)
        tests[number] = by_part.get("test", [])
        if not tests[number]:
            raise DataError(
                f"{fold}: expected a file named test.txt, found none; fetch the fold again"
            )
        # The folds rotate: the test queries of a fold are the validation queries of the next.
        previous = tests.get(number - 1)
        validation = by_part.get("validation", [])
        if previous and validation and _queries(validation) != _queries(previous):
            raise DataError(
                f"{validation[0]}: expected the queries of {previous[0]}, as in the folds of "
                f"LETOR, found others; set fold={number} to read this fold alone"
            )
    return [LetorFile(path, f"{FOLD}{n}") for n, paths in tests.items() for path in paths]


def _queries(paths: Sequence[Path]) -> set[bytes]:
    matches = (_QUERY.search(line) for path in paths for line in read_lines(path))
    return {match[1] for match in matches if match}
