"""A seed: a small valid input with the commands that read it, and what they must yield."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Check = Callable[[Path, Path], None]
"""Asserts that the output ``out`` in the first folder is right; in the second is that of the intact
files."""


@dataclass(frozen=True)
class Seed:
    """An input in a folder that is the working folder of its commands; ``out`` is for results."""

    commands: tuple[tuple[str, ...], ...]
    damaged: tuple[str, ...]
    """Patterns of the files to mutate."""
    check: Check
    cases: int = 100
    """Number of cases of the slow test."""
    changes: tuple[str, ...] = ("out",)
    """Files and folders that the commands may write."""

    def paths(self, folder: Path) -> list[Path]:
        """Return the files of a copy of the seed that can be mutated."""
        return sorted(path for pattern in self.damaged for path in folder.glob(pattern))


def prepare(source: str, *words: str) -> tuple[tuple[str, ...], ...]:
    return (("prepare", source, *words, "--to", "out/log"),)
