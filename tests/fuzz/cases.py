"""Cases of the fuzzer: a copy of a seed with one mutated file, or a mutated command line."""

import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.command_words import mutated_words
from tests.fuzz.findings import contents, mistakes_of
from tests.fuzz.mutations import mutations_of
from tests.fuzz.places import PLACES
from tests.fuzz.processes import Outcome
from tests.fuzz.seeds import SEEDS

_OF_PLACES = 0.15  # of the cases
_TWICE = 0.1  # of the cases have two mutations

Run = Callable[[tuple[str, ...], Path, Path], Outcome]
"""Runs a command, given as words, in a folder; the second folder is for its streams."""


@dataclass(frozen=True)
class Case:
    """A mutated copy of a seed."""

    folder: Path
    """Working folder of the command; beside it is the folder of its streams."""
    words: tuple[str, ...]
    """The command line, without ``cascaderank``."""
    file: str
    """Path of the mutated file in the folder; empty if the words are mutated."""
    mutation: str

    @property
    def streams(self) -> Path:
        return self.folder.parent / "streams"

    def __str__(self) -> str:
        what = f"{self.mutation} of {self.file}" if self.file else self.mutation
        return f"{what}, cascaderank {shlex.join(self.words)[:1000]}"


class Fuzzer:
    """Make and run cases of one seed.

    Args:
        name: name of the seed, of :data:`tests.fuzz.seeds.SEEDS`.
        folder: empty folder for all files.
        run: runs a command.
    """

    def __init__(self, name: str, folder: Path, run: Run) -> None:
        self._folder, self._run = folder, run
        self._intact: dict[tuple[str, ...], Path] = {}
        (folder / "seed" / "out").mkdir(parents=True)
        self.name, self.seed = name, SEEDS[name](folder / "seed")

    def findings(self, number: int) -> Iterator[str]:
        """Run a case and yield what is wrong, with the command that repeats it."""
        case = self.case(number)
        for mistake in self.mistakes(case):
            yield f"python -m tests.fuzz {self.name} {number}: {case}: {mistake}"
        shutil.rmtree(case.folder.parent)

    def case(self, number: int) -> Case:
        """Return the case of a number; its folder is made."""
        random = Random(f"{self.name} {number}")
        folder = self.copy(f"case-{number}")
        words = random.choice(self.seed.commands)
        if not self.seed.damaged:
            return Case(folder, mutated_words(random, words), "", "other words")
        paths = self.seed.paths(folder)
        path, other = random.choice(paths), random.choice(paths)
        if random.random() < _OF_PLACES:
            chosen = [random.choice(PLACES)]
            chosen[0](random, path)
        else:
            count = 1 + (random.random() < _TWICE)
            chosen = [random.choice(mutations_of(path.name)) for _ in range(count)]
            for mutate in chosen:
                path.write_bytes(mutate(random, path.read_bytes(), other.read_bytes()))
        mutation = " and ".join(one.__name__ for one in chosen)
        return Case(folder, words, str(path.relative_to(folder)), mutation)

    def mistakes(self, case: Case) -> list[str]:
        """Run the command of a case and return what is wrong."""
        intact = self.intact(case.words) if case.file else case.folder
        before = contents(case.folder)
        outcome = self._outcome(case)
        return [*mistakes_of(self.seed, case.words, case.folder, outcome, before, intact)]

    def intact(self, words: tuple[str, ...]) -> Path:
        """Return the folder in which a command was run on the intact files."""
        if words not in self._intact:
            folder = self.copy(f"intact-{len(self._intact)}")
            outcome = self._outcome(Case(folder, words, "", "none"))
            assert outcome.code == 0, f"{words}: {outcome}"
            self._intact[words] = folder
        return self._intact[words]

    def copy(self, name: str) -> Path:
        """Return the path of a new copy of the seed."""
        return Path(shutil.copytree(self._folder / "seed", self._folder / name / "files"))

    def _outcome(self, case: Case) -> Outcome:
        case.streams.mkdir()
        outcome = self._run(case.words, case.folder, case.streams)
        if outcome.code == 0:
            (case.folder / "out").mkdir(exist_ok=True)
            (case.folder / "out" / "stdout").write_text(outcome.stdout)
        return outcome
