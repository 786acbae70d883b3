"""Sources: what a request log can be made from, one per file.

A source is a function ``name_source(from_, to, *, ...) -> None``:

- ``from_``: the files and folders to read, in the order they were given, or just one of them;
  empty if none were.
- ``to``: the folder to write, with a :class:`~cascaderank.data.request_log.RequestLogWriter`.
- ``overwrite: bool`` and ``progress``, keyword-only: passed on by whoever calls; no options.
- every other keyword-only parameter is an option of the source, ``--set name=value`` on the
  command line. Its annotation says what it takes, and all have defaults.

What a reader should know about the conversion (counts of what was left out, what was inferred)
goes to ``writer.extra["notes"]``, a mapping that ``cascaderank prepare`` prints.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from cascaderank.registry import Registry

Inputs = Path | Sequence[Path]
"""Files and folders to read."""

Progress = Callable[[int, int], None]
"""Called now and then with how much is done, and how much there is to do in all."""

NOT_OPTIONS = ("overwrite", "progress")
"""Keyword-only parameters of sources that the caller fills, not the user's ``--set``."""

SOURCES: Registry[Callable[..., None]] = Registry("source", __name__, suffix="_source")


def __getattr__(name: str) -> Callable[..., None]:
    return SOURCES.attribute(name)


def __dir__() -> list[str]:
    return ["SOURCES", *(f"{name}_source" for name in SOURCES)]
