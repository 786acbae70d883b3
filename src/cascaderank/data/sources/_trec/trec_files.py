"""Selection of TREC runs and judgments from folders, by the content of files."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from cascaderank.data.sources import Inputs, paths_of
from cascaderank.data.sources._shared.input_files import input_files, read_lines, shown
from cascaderank.data.sources._trec.trec_lines import LAYOUTS, parsed
from cascaderank.errors import DataError
from cascaderank.schema import abridged

_WHAT = "runs and qrels"
_NAMED_SO = ("*.run", "*.trec", "*.res", "*qrels*")


def trec_files(from_: Inputs) -> tuple[list[Path], dict[str, str]]:
    """Return the runs and judgments among files and folders, and what was skipped.

    Args:
        from_: files and folders. A file that is named here must be a run or judgments. From a
            folder, all files directly inside it whose first line is that of a run or of judgments
            are returned, sorted by name; a file that is named ``*.run``, ``*.trec``, ``*.res`` or
            ``*qrels*`` must be one of both. Hidden files are ignored.

    Returns:
        At least one file, and the reason for each skipped file and folder by its path.

    Raises:
        DataError: if a path does not exist, a file is empty or given twice, a file is damaged, or
            a folder has neither runs nor judgments.
    """
    files: list[Path] = []
    skipped: dict[str, str] = {}
    for path in paths_of(from_):
        if not path.is_dir():
            files.append(path)
            continue
        chosen, others = _inside(path)
        if not chosen:
            reasons = [f"{Path(name).name}: {reason}" for name, reason in others.items()]
            raise DataError(
                f"{path}: expected {_WHAT} in this folder, found "
                f"{abridged(reasons, 3) if reasons else 'no file'}; give a folder with runs"
            )
        files += chosen
        skipped |= others
    return input_files(files, (), what=_WHAT), skipped


def _inside(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """Return the files of a folder that are runs or judgments, and the reason for each other."""
    chosen: list[Path] = []
    skipped: dict[str, str] = {}
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        if path.is_dir():
            skipped[str(path)] = "a folder inside the folder; give it with --from, too"
        elif not path.is_file() and not _is_named_so(path):
            skipped[str(path)] = "no regular file"
        elif _is_named_so(path) or not (reason := _reason_to_skip(path)):
            chosen.append(path)
        else:
            skipped[str(path)] = reason
    return chosen, skipped


def _is_named_so(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return any(fnmatchcase(name, pattern) for pattern in _NAMED_SO)


def _reason_to_skip(path: Path) -> str:
    """Return why a file is neither a run nor judgments; an empty string if it is one of both."""
    try:
        for line in read_lines(path, quotes=True):
            # A run with carriage returns as line ends is one, to be refused with the reason.
            if fields := line.decode().partition("\r")[0].split():
                return "" if _is_entry(fields) else f"neither run nor qrels: {shown(line, 40)}"
    except UnicodeDecodeError:
        return "not text"
    return "empty"


def _is_entry(fields: Sequence[str]) -> bool:
    try:
        return len(fields) in LAYOUTS and bool(parsed(fields))
    except ValueError:
        return False
