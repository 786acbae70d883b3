"""Every error a user can cause, in one tree.

::

    CascadeRankError            catch this to catch them all
    ├── ConfigError             a setting or an argument is wrong       (also a ValueError)
    ├── ShapeError              tensors that do not agree               (also a ValueError)
    ├── DataError               a file or a data set is wrong           (also a ValueError)
    │   └── SchemaError         data and model speak of other features
    ├── RunError                a run folder cannot be used
    │   └── DivergedError       training broke down
    └── MissingExtraError       an optional package is not installed    (also an ImportError)

A message says what was expected, what was found, where, and what to do. Anything else that
escapes the library is a bug in it.
"""

import difflib
from collections.abc import Iterable


class CascadeRankError(Exception):
    """Base of all errors of this library."""


class ConfigError(CascadeRankError, ValueError):
    """A setting or an argument is unknown, misspelt or out of range."""


class ShapeError(CascadeRankError, ValueError):
    """Tensors do not have the shapes or the kinds of numbers they must have."""


class DataError(CascadeRankError, ValueError):
    """A file or a data set is missing, damaged, or not what it must be."""


class SchemaError(DataError):
    """A data set does not have the features that a model was built for."""


class RunError(CascadeRankError):
    """A run folder is missing, incomplete, or belongs to another run."""


class DivergedError(RunError):
    """Training broke down: the loss is no longer a number."""


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
