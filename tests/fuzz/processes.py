"""Commands in processes that are forked from one that has imported everything: fast and limited."""

import multiprocessing
import os
import pkgutil
import resource
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cascaderank

SECONDS = 60
"""Time that a command may take."""

MEMORY = 4 << 30
"""Address space that a command may take, in bytes; 1.5 GB of it are libraries."""


_IMPORTED = ("pandas", "pyarrow.parquet", "rich.progress", "torch._dynamo", "torch._inductor")
"""Modules that commands import beside those of this package."""


@dataclass(frozen=True)
class Outcome:
    """What is left of a command."""

    code: int | None
    """Exit code, negative for a signal; ``None`` if the command was killed after ``SECONDS``."""
    stdout: str
    stderr: str
    seconds: float


def forked(words: tuple[str, ...], folder: Path, streams: Path) -> Outcome:
    """Run a command in a process of its own, with limits of time and memory.

    The process is forked from one that has imported all modules and has run nothing, because the
    threads of Polars do not survive a fork.

    Args:
        words: the command line, without ``cascaderank``.
        folder: working folder.
        streams: empty folder for the output and for ``tmp``, the temporary files.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_modules(), *_IMPORTED])
    (streams / "tmp").mkdir()
    process = context.Process(target=_main, args=(words, folder, streams))
    started = time.monotonic()
    process.start()
    process.join(SECONDS)
    seconds = time.monotonic() - started
    if process.exitcode is None:
        process.kill()
        process.join()
        code = None
    else:
        code = process.exitcode
    process.close()
    texts = ((streams / name).read_text(errors="replace") for name in ("stdout", "stderr"))
    return Outcome(code, *texts, seconds)


@cache
def _modules() -> list[str]:
    """Return the names of all modules of the package that can be imported without a GPU."""
    names = [m.name for m in pkgutil.walk_packages(cascaderank.__path__, "cascaderank.")]
    return [name for name in names if "__main__" not in name and ".fused" not in name]


def _main(words: tuple[str, ...], folder: Path, streams: Path) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        descriptor = os.open(streams / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ |= {"TMPDIR": str(streams / "tmp"), "COLUMNS": "80", "TERM": "dumb"}
    os.chdir(folder)
    sys.argv = ["cascaderank", *words]
    from cascaderank.cli import main

    main()
