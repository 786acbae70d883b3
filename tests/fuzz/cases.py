"""Cases of the fuzzer: a seed, one mutated file, one command, and what must hold afterwards."""

import re
import shlex
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random

from tests.fuzz.command_words import mutated_words
from tests.fuzz.mutations import mutations_of
from tests.fuzz.places import PLACES
from tests.fuzz.processes import MEMORY, SECONDS, Outcome, forkserver, run
from tests.fuzz.seeds import SEEDS, Seed

_OF_PLACES = 0.15  # of the cases
_TWICE = 0.1
_NOTICE = re.compile(r"(?!cascaderank |Traceback)(?!.*(Error|Warning)\b).*")


@dataclass(frozen=True)
class Case:
    """A mutated copy of a seed."""

    folder: Path
    words: tuple[str, ...]
    file: str
    """The mutated file, relative to the folder."""
    mutation: str


class Fuzzer:
    """Run cases of one seed.

    Args:
        name: name of the seed, of :data:`tests.fuzz.seeds.SEEDS`.
        folder: empty folder for all files.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        (folder / "seed" / "out").mkdir(parents=True)
        self.seed: Seed = SEEDS[name](folder / "seed")
        self._context = forkserver()
        self._intact: dict[tuple[str, ...], Path] = {}

    def mistakes(self, number: int) -> Iterator[str]:
        """Run a case and yield what is wrong, with all that is needed to see it again."""
        case = self.case(number)
        for mistake in self._mistakes(case):
            yield (
                f"python -m tests.fuzz {self.name} {number}: {case.mutation} of {case.file}, "
                f"cascaderank {shlex.join(case.words)[:1000]}: {mistake}"
            )
        shutil.rmtree(case.folder.parent)

    def case(self, number: int) -> Case:
        """Make the case of a number: a copy of the seed with one mutated file."""
        random = Random(f"{self.name} {number}")
        folder = self.folder / f"case-{number}" / "files"
        shutil.copytree(self.folder / "seed", folder)
        words = random.choice(self.seed.commands)
        if not self.seed.damaged:
            return Case(folder, mutated_words(random, words), "", "mutated_words")
        paths = sorted(p for pattern in self.seed.damaged for p in folder.glob(pattern))
        path, other = random.choice(paths), random.choice(paths)
        if random.random() < _OF_PLACES:
            chosen = [random.choice(PLACES)]
            chosen[0](random, path)
        else:
            chosen = [
                random.choice(mutations_of(path.name))
                for _ in range(1 + (random.random() < _TWICE))
            ]
            for mutate in chosen:
                path.write_bytes(mutate(random, path.read_bytes(), other.read_bytes()))
        mutation = " and ".join(one.__name__ for one in chosen)
        return Case(folder, words, str(path.relative_to(folder)), mutation)

    def outcome(self, case: Case) -> Outcome:
        """Run the command of a case; its output is written beside its folder."""
        streams = case.folder.parent / "streams"
        streams.mkdir()
        return run(self._context, case.words, case.folder, streams)

    def intact(self, words: tuple[str, ...]) -> Path:
        """Return the folder in which a command was run on the intact files."""
        if words not in self._intact:
            folder = self.folder / f"intact-{len(self._intact)}" / "files"
            shutil.copytree(self.folder / "seed", folder)
            outcome = self.outcome(Case(folder, words, "", ""))
            assert outcome.code == 0, f"{words}: {outcome}"
            (folder / "out" / "stdout").write_text(outcome.stdout)
            self._intact[words] = folder
        return self._intact[words]

    def _mistakes(self, case: Case) -> Iterator[str]:
        intact = self.intact(case.words) if case.file else case.folder
        before = contents(case.folder)
        outcome = self.outcome(case)
        after = contents(case.folder)
        shown = f"\n{outcome.stderr.strip()[-1500:]}"
        if outcome.code is None:
            yield f"runs for more than {SECONDS} seconds{shown}"
        elif outcome.code < 0:
            yield f"ended by signal {-outcome.code}, which too much memory ({MEMORY:,}) causes{shown}"
        elif outcome.code not in (0, 2):
            yield f"ended with exit code {outcome.code}{shown}"
        elif outcome.code == 2:
            yield from refusal_mistakes(case, outcome.stderr, before)
        else:
            (case.folder / "out" / "stdout").write_text(outcome.stdout)
            try:
                self.seed.check(case.folder, intact)
            except Exception as error:  # noqa: BLE001 - whatever a damaged result raises
                yield f"accepted, but {type(error).__name__}: {str(error)[:1500]}"
        temporary = [*(case.folder.parent / "streams" / "tmp").rglob("*")]
        if temporary:
            yield f"left temporary files: {temporary}"
        allowed = self.seed.changes
        if not case.file:  # any new path is that of an option, unless it is in a data set or run
            allowed += tuple(n for n in after.keys() - before.keys() if not n.startswith(("log/", "run/")))
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name) and not name.startswith(allowed):
                yield f"changed {name}"
        left = [n for n in after.keys() - before.keys() if is_leftover(n, outcome)]
        if left:
            yield f"left {sorted(left)}"


def refusal_mistakes(case: Case, stderr: str, names: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with the message of a refused file."""
    *notices, line = stderr.rstrip("\n").split("\n")
    start = f"cascaderank {case.words[0]}: " if case.file else "cascaderank"
    if not line.startswith(start) or len(line) < len(start) + 10 or line == start:
        yield f"expected one line that starts with '{start}', found\n{stderr[-1500:]}"
    elif not all(_NOTICE.fullmatch(notice) for notice in notices):
        yield f"expected one line, found\n{stderr[-1500:]}"
    elif len(line) > 2100 and max(map(len, case.words)) < 1000:
        yield f"a line of {len(line)} characters: {line[:300]}"
    elif case.file and not any(part in line for part in (*names, "--set", "'")):
        yield f"the message names no file, column, feature or setting: {line}"


def is_leftover(name: str, outcome: Outcome) -> bool:
    """Return whether a new file should not be there: a hidden one, or any of a failed command.

    Allowed are the lock of a run, days that are finished, and the folder of a run, which the same
    command completes.
    """
    parts = Path(name).parts
    hidden = [part for part in parts if part.startswith(".")]
    if hidden and hidden[0] not in (".lock", ".log.unfinished", ".log.unfinished.json"):
        return True
    return (
        outcome.code == 2
        and parts[0] == "out"
        and not (hidden or parts[1:2] in (("run",), ("runs",)))
    )


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
