"""Sources: conversions of files of other layouts, and of simulations, into request logs.

A source is a function ``name_source(from_, to, *, ...) -> None`` in a module ``name`` of this
package, decorated with ``@SOURCES.register`` and, below it, ``@checked_options``:

- ``from_``: files and folders to read, in the given order, or a single one; empty if none was
  given. :func:`paths_of` returns them as a list.
- ``to``: folder to write, a string or a path, with a
  :class:`~cascaderank.data.log.request_log.RequestLogWriter`.
- ``overwrite: bool`` and ``progress``, keyword-only: passed by the caller; not options.
- every other keyword-only parameter is an option of the source, ``--set name=value`` on the
  command line. Its annotation declares the accepted type, and every option has a default.

A source may have an entry in :data:`DRY_RUNS`, which proposes its options from the files without
writing anything: ``cascaderank prepare NAME --dry-run``.

Facts about the conversion that a user should see (counts of dropped rows, inferred types) belong
in ``writer.extra["notes"]``, a mapping that ``cascaderank prepare`` prints. A source that has a
feature which identifies items writes its name to ``writer.extra["item"]``, or the identities
themselves into the column ``item_key``; results then name items.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec

from pydantic import JsonValue

from cascaderank.data.log.destination import check_inputs
from cascaderank.errors import ConfigError, DataError
from cascaderank.registry import Registry
from cascaderank.regular_files import check_path, system_errors

_P = ParamSpec("_P")

Inputs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""Files and folders to read."""

Progress = Callable[[int, int], None]
"""Called repeatedly with the amount of work done so far and the total amount."""

NOT_OPTIONS = ("overwrite", "progress")
"""Keyword-only parameters of sources that the caller passes; ``--set`` does not accept them."""


def paths_of(from_: Inputs | None) -> list[Path]:
    """Return the files and folders to read as a list of paths; empty if none was given.

    Raises:
        DataError: if the system cannot look up a path, such as one that is too long.

    Examples:
        >>> [path.name for path in paths_of("monday.csv")], paths_of(None)
        (['monday.csv'], [])
    """
    if isinstance(from_, str | os.PathLike):
        from_ = [from_]
    return [check_path(path, DataError) for path in from_ or ()]


SOURCES: Registry[Callable[..., None]] = Registry("source", __name__, suffix="_source")


@dataclass(frozen=True)
class Proposal:
    """Options of a source that were inferred from its files, for editing."""

    toml: str
    """File of options, with comments on the columns; ``prepare --options FILE`` reads it."""
    facts: dict[str, JsonValue]
    """The same as values: ``options``, ``columns`` and counts."""


DRY_RUNS: dict[str, Callable[..., Proposal]] = {}
"""By source: function ``(from_, **options)`` that proposes options; modules of sources add to it.
:func:`propose` calls it."""


def propose(source: str, from_: Inputs, **options: object) -> Proposal:
    r"""Infer the options of a source from a part of its files, without writing anything.

    Args:
        source: name of a registered source.
        from_: files and folders to read.
        options: options that are already decided.

    Raises:
        ConfigError: if no source has the name, the source infers no options, or an option is
            invalid.
        DataError: if a file is missing or damaged.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "rows.csv"
        ...     _ = file.write_text("visit,video,click\n1,7,0\n1,8,1\n")
        ...     proposal = propose("long", file, request_id="visit", label="click")
        >>> for feature in proposal.facts["options"]["schema"]["features"]:
        ...     print(feature["name"], feature["role"], feature["kind"])
        video item categorical
    """
    if SOURCES[source] and source not in DRY_RUNS:
        raise ConfigError(
            f"source '{source}' infers no options from files; expected {' or '.join(DRY_RUNS)}"
        )
    with system_errors(DataError):
        return DRY_RUNS[source](from_, **options)


def checked_options(source: Callable[_P, None]) -> Callable[_P, None]:
    """Decorate a source so that options of a wrong name or type are refused before any work.

    Options arrive as the declared types, such as a list as a tuple, whether the source is called
    from Python or from the command line.

    Args:
        source: function that is registered in :data:`SOURCES` under its own name.

    Returns:
        A function with the same signature. It raises
        :class:`~cascaderank.errors.ConfigError` if an option is unknown or of a wrong type, and
        :class:`~cascaderank.errors.DataError` if the folder to write is or contains an input, or
        the system refuses to read or write a file.
    """
    name = source.__name__.removesuffix("_source")
    expected = signature(source)

    @wraps(source)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> None:
        options = {k: v for k, v in kwargs.items() if k not in ("from_", "to", *NOT_OPTIONS)}
        kwargs.update(SOURCES.checked_options(name, options, finite=False))
        given = expected.bind_partial(*args, **kwargs).arguments
        if isinstance(to := given.get("to"), str | os.PathLike):
            check_path(to, DataError)
            check_inputs(to, paths_of(given.get("from_")))
        with system_errors(DataError):
            source(*args, **kwargs)

    return checked


def __getattr__(name: str) -> Callable[..., None]:
    return SOURCES.attribute(name)


def __dir__() -> list[str]:
    return ["SOURCES", *(f"{name}_source" for name in SOURCES)]
