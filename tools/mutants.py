"""Mutation testing: apply one small change at a time to the source and check that a test fails.

A table is a TOML file of mutants::

    [[mutant]]
    file = "src/cascaderank/training/trainer.py"
    old = "self.cascade.eval()"    # must occur exactly once in the file
    new = "pass"
    tests = ["tests/training/test_wiring.py"]
    why = "validation in training mode, with dropout"

A mutant is killed if its tests fail, and survives if they pass. Run from anywhere:
``python tools/mutants.py tools/mutants/training.toml``.
"""

import argparse
import ast
import fnmatch
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Not copied: version control, environments, caches, and outputs beside the sources.
_IGNORED = (".*", "__pycache__", "*.egg-info")
_OUTPUTS = ("site", "build", "dist", "runs", "datasets")
_PYTEST = ("-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider")
_NO_TESTS = (4, 5)  # exit codes of pytest: wrong arguments, no tests collected


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change to one source file, and the tests that should detect it."""

    file: str
    old: str
    new: str
    tests: list[str]
    why: str

    def apply(self, root: Path) -> str:
        """Return the source of the mutated file.

        Raises:
            ValueError: if ``old`` does not occur exactly once, ``new`` equals it, or the result is
                not Python.
        """
        source = (root / self.file).read_text(encoding="utf-8")
        count = source.count(self.old)
        if count != 1:
            raise ValueError(f"{self.file}: expected one occurrence of {self.old!r}, found {count}")
        if self.new == self.old:
            raise ValueError(f"{self.file}: new equals old: {self.old!r}")
        mutated = source.replace(self.old, self.new)
        try:
            ast.parse(mutated)
        except SyntaxError as error:
            raise ValueError(f"{self.file}: {self.new!r} does not parse: {error}") from None
        return mutated


def read_mutants(table: Path) -> list[Mutant]:
    """Return the mutants of a table, in its order."""
    content = tomllib.loads(table.read_text(encoding="utf-8"))
    return [Mutant(**mutant) for mutant in content["mutant"]]


def _left_out(folder: str, names: Sequence[str]) -> set[str]:
    """Return the names in a folder that are not copied; ``src/cascaderank/runs`` is no output."""
    patterns = (*_IGNORED, *_OUTPUTS) if Path(folder) == ROOT else _IGNORED
    return {name for pattern in patterns for name in fnmatch.filter(names, pattern)}


def run_tests(root: Path, tests: Sequence[str], *, timeout: float) -> bool:
    """Run tests in a copy of the repository and return whether they pass.

    Tests that run for longer than ``timeout`` seconds fail.

    Raises:
        ValueError: if no test was found.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(root / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",  # stale bytecode would hide a mutant
    }
    command = [sys.executable, *_PYTEST, *tests]
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode in _NO_TESTS:
        raise ValueError(f"no tests in {' '.join(tests)}:\n{done.stdout.decode()[-2000:]}")
    return done.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run mutants and return 1 if one survived, 2 if the tests fail without a mutant, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="+", type=Path, help="TOML files of mutants")
    parser.add_argument(
        "--only", action="append", type=int, metavar="N", help="number of a mutant, from 1"
    )
    parser.add_argument("--timeout", type=float, default=600, help="seconds for the tests of one")
    options = parser.parse_args(arguments)
    mutants = [mutant for table in options.tables for mutant in read_mutants(table)]
    chosen = [(n, mutant) for n, mutant in enumerate(mutants, 1) if n in (options.only or [n])]
    killed = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        root = Path(folder) / "repository"
        shutil.copytree(ROOT, root, ignore=_left_out)
        targets = sorted({test for _, mutant in chosen for test in mutant.tests})
        if not run_tests(root, targets, timeout=10 * options.timeout):
            print("the tests fail without a mutant; repair them first")
            return 2
        for n, mutant in chosen:
            path = root / mutant.file
            original = path.read_text(encoding="utf-8")
            path.write_text(mutant.apply(root), encoding="utf-8")
            survived = run_tests(root, mutant.tests, timeout=options.timeout)
            path.write_text(original, encoding="utf-8")
            killed += not survived
            result = "survived" if survived else "killed"
            print(f"{n:3}  {result:8}  {mutant.file}: {mutant.why}", flush=True)
    share = 100 * killed / len(chosen) if chosen else 100.0
    print(f"{killed} of {len(chosen)} killed ({share:.0f} %)")
    return 0 if killed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
