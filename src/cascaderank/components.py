"""Everything that can be named in a config, with its documentation."""

import inspect
import re
from typing import Any

from cascaderank.data.sources import SOURCES
from cascaderank.losses import LOSSES
from cascaderank.metrics import METRICS
from cascaderank.objectives import OBJECTIVES
from cascaderank.registry import Registry
from cascaderank.sorting import OPERATORS
from cascaderank.stages import STAGES

SHELVES: dict[str, Registry[Any]] = {
    "losses": LOSSES,
    "metrics": METRICS,
    "stages": STAGES,
    "objectives": OBJECTIVES,
    "operators": OPERATORS,
    "sources": SOURCES,
}
"""The registries by what they hold."""

_ANNEALED = re.compile(r"Annotated\[Union\[.*\bAnnealed\b.*custom_error_context=None\)\]")
"""A number or a table, as pydantic must be told to tell them apart."""


def catalogue() -> dict[str, dict[str, str]]:
    """Return what there is: by kind, then by name, one line each.

    Examples:
        >>> catalogue()["stages"]["linear"]
        'Score a candidate by a weighted sum of its numbers and one weight per category.'
    """
    return {
        shelf: {name: documentation(shelf, name).partition("\n")[0] for name in registry}
        for shelf, registry in SHELVES.items()
    }


def documentation(shelf: str, name: str) -> str:
    r"""Return what is written about one thing.

    Raises:
        ConfigError: if there is no such thing.

    Examples:
        >>> print(documentation("metrics", "recall").partition("\n")[0])
        Share of the ground truth among the ``m`` best by score, per list: Recall@m@k.
    """
    return inspect.getdoc(SHELVES[shelf][name]) or ""


def options(shelf: str, name: str) -> dict[str, str]:
    """Return the options of one thing, as they are declared, with their defaults.

    Raises:
        ConfigError: if there is no such thing.

    Examples:
        >>> options("stages", "mlp")["dim"]
        'int = 8'
    """
    return {
        option: _ANNEALED.sub("float | {start, end, shape}", declared)
        for option, parameter in SHELVES[shelf].options(name).items()
        for declared in [str(parameter.replace(kind=parameter.POSITIONAL_OR_KEYWORD))]
        for _, _, declared in [declared.partition(": ")]
    }
