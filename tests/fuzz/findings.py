"""What must hold after any command, and what is wrong if it does not."""

import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from tests.fuzz.processes import MEMORY, SECONDS, Outcome
from tests.fuzz.seed import Seed

_NOTICE = re.compile(r"(?!cascaderank |Traceback)(?!.*(Error|Warning)\b).*")
_LONGEST = 2_100  # characters of a message, with the name of the command
_KEPT = (".lock", ".log.unfinished", ".log.unfinished.json")  # hidden, and of use later


def mistakes_of(
    seed: Seed,
    words: tuple[str, ...],
    folder: Path,
    outcome: Outcome,
    before: Mapping[str, str],
    intact: Path,
) -> Iterator[str]:
    """Yield what is wrong with the outcome of a command.

    Args:
        seed: seed of the case.
        words: the command line.
        folder: folder in which the command ran; beside it is the folder of its streams.
        outcome: exit code and streams.
        before: :func:`contents` of the folder before the command.
        intact: folder in which the same command ran on the intact files; ``folder`` itself if the
            words are mutated.
    """
    end = f"\n{outcome.stderr.strip()[-1500:]}"
    if outcome.code is None:
        yield f"runs for more than {SECONDS} seconds{end}"
    elif outcome.code < 0:
        yield f"ended by signal {-outcome.code}; more than {MEMORY:,} bytes cause one{end}"
    elif outcome.code not in (0, 2):
        yield f"ended with exit code {outcome.code}{end}"
    elif outcome.code == 2:
        yield from _of_message(
            outcome.stderr, words, () if folder == intact else {*before, *contents(intact)}
        )
    elif folder != intact:
        try:
            seed.check(folder, intact)
        except Exception as error:  # noqa: BLE001 - a damaged result can raise anything
            yield f"accepted, but {type(error).__name__}: {str(error)[:1500]}"
    temporary = [*(folder.parent / "streams" / "tmp").rglob("*")]
    if temporary:
        yield f"left temporary files: {temporary}"
    after = contents(folder)
    new = after.keys() - before.keys()
    allowed = seed.changes
    if folder == intact:  # an option can name any new path, but none in a data set or run
        allowed += tuple(name for name in new if not name.startswith(("log/", "run/")))
    for name in sorted(before.keys() | new):
        if before.get(name) != after.get(name) and not name.startswith(allowed):
            yield f"changed {name}"
    left = sorted(name for name in new if _is_leftover(name, outcome))
    if left:
        yield f"left {left}"


def _of_message(stderr: str, words: tuple[str, ...], names: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with the message of a refusal, which must name one of the names.

    Notices can come before it, and what Polars itself prints when it panics.
    """
    *notices, line = stderr.rstrip("\n").split("\n")
    start = f"cascaderank {words[0]}: " if names else "cascaderank"
    if not line.startswith(start) or len(line) < len(start) + 10:
        yield f"expected one line that starts with '{start}', found\n{stderr[-1500:]}"
    elif "panicked at" not in stderr and not all(map(_NOTICE.fullmatch, notices)):
        yield f"expected one line, found\n{stderr[-1500:]}"
    elif len(line) > _LONGEST and max(map(len, words)) < _LONGEST // 2:
        yield f"a line of {len(line)} characters: {line[:300]}"
    elif names and not any(name in line for name in (*names, "--set", "'", "data set")):
        yield f"the message names no file, column, feature or setting: {line}"


def _is_leftover(name: str, outcome: Outcome) -> bool:
    """Return whether a new file should not exist: a hidden one, or any of a failed command.

    Allowed are the lock of a run, finished days of a data set, and the folder of a run, which the
    same command completes.
    """
    parts = Path(name).parts
    hidden = [part for part in parts if part.startswith(".")]
    if hidden:
        return hidden[0] not in _KEPT
    return outcome.code == 2 and parts[0] == "out" and parts[1:2] not in (("run",), ("runs",))


def contents(folder: Path) -> dict[str, str]:
    """Return what every path under a folder is: a checksum, the target of a link, or a kind."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            what = f"link to {path.readlink()}"
        elif path.is_file():
            what = sha256(path.read_bytes()).hexdigest()
        else:
            what = "folder" if path.is_dir() else "other"
        found[str(path.relative_to(folder))] = what
    return found
