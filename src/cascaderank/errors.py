"""All errors that a user can cause, in one hierarchy.

::

    CascadeRankError            base class: catches all of them
    ├── ConfigError             invalid setting or argument             (also a ValueError)
    ├── ShapeError              tensors of inconsistent shape or dtype  (also a ValueError)
    ├── DataError               invalid file or data set                (also a ValueError)
    │   └── SchemaError         data and model have different features
    ├── RunError                unusable run folder
    │   └── DivergedError       training diverged
    └── MissingExtraError       an optional package is not installed    (also an ImportError)

A message states what was expected, what was found, where, and what to do. Any other exception that
escapes the library is a bug.
"""

import difflib
import math
import re
from collections.abc import Iterable
from reprlib import Repr

_LONGEST = 2_000  # characters of a message
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class CascadeRankError(Exception):
    r"""Base of all errors of this library.

    A message can quote a file of any content: control characters are escaped, since a terminal
    would execute them, and the middle of more than 2,000 characters is left out.

    Examples:
        >>> print(DataError("expected a name, found '\x1b[2J'"))
        expected a name, found '\x1b[2J'
        >>> len(str(DataError(f"found {'9' * 1_000_000}; write a number")))
        2000
    """

    def __str__(self) -> str:
        text = printable(super().__str__())
        if len(text) <= _LONGEST:
            return text
        return f"{text[: _LONGEST // 2]} ... {text[5 - _LONGEST // 2 :]}"  # the end has the remedy


def printable(text: str) -> str:
    r"""Escape control characters other than tabs and line breaks: a terminal would execute them.

    Examples:
        >>> printable("id \x1b[31m7")
        'id \\x1b[31m7'
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


class ConfigError(CascadeRankError, ValueError):
    """A setting or an argument is unknown, misspelt or out of range."""


class ShapeError(CascadeRankError, ValueError):
    """Tensors do not have the required shapes or dtypes."""


class DataError(CascadeRankError, ValueError):
    """A file or a data set is missing, damaged or invalid."""


class SchemaError(DataError):
    """A data set does not have the features that a model was built for."""


class RunError(CascadeRankError):
    """A run folder is missing, incomplete, or belongs to another run."""


class DivergedError(RunError):
    """Training diverged: the loss is not finite."""


class MissingExtraError(CascadeRankError, ImportError):
    """An optional package is needed and not installed."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known name, or an empty string.

    Examples:
        >>> did_you_mean("lcorn", ["bce", "lcron"])
        " (did you mean 'lcron'?)"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, in the singular for 1.

    Args:
        count: number; thousands are separated by commas.
        noun: noun in the singular.
        plural: noun in the plural; default: with an ``s`` at the end.

    Examples:
        >>> counted(1, "request"), counted(2_000, "request"), counted(0, "query", "queries")
        ('1 request', '2,000 requests', '0 queries')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def shown(value: object) -> str:
    """Return a value as text for a message, as ``repr`` does, of limited length.

    Examples:
        >>> shown([True, "a"]), shown("x" * 1000)[:12], len(shown("x" * 1000))
        ("[true, 'a']", "'xxxxxxxxxxx", 200)
        >>> shown(10**5000)
        'an integer of about 5001 digits'
    """
    return _SHORT.repr(value)


class _Short(Repr):
    """Text of values, with booleans as in TOML and JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxother = 4, 200
        self.maxlist = self.maxtuple = self.maxdict = 20
        self.maxstring = 200

    def repr_bool(self, value: bool, _: int) -> str:  # noqa: FBT001
        return str(value).lower()

    def repr_int(self, value: int, _: int) -> str:
        digits = int(value.bit_length() * math.log10(2)) + 1
        return repr(value) if digits <= 40 else f"an integer of about {digits} digits"


_SHORT = _Short()
