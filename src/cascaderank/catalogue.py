"""Everything that can be named in a config, with the first line of its documentation."""

import inspect
from collections.abc import Iterable

from cascaderank.data.sources import SOURCES
from cascaderank.losses import LOSSES
from cascaderank.metrics import METRICS
from cascaderank.objectives import OBJECTIVES
from cascaderank.sorting import OPERATORS
from cascaderank.stages import STAGES


def catalogue() -> dict[str, dict[str, str]]:
    """Return what there is: by kind, then by name, one line each.

    Examples:
        >>> catalogue()["stages"]["linear"]
        'Score a candidate by a weighted sum of its numbers and one weight per category.'
    """
    return {
        "losses": _lines((name, LOSSES[name]) for name in LOSSES),
        "metrics": _lines((name, METRICS[name]) for name in METRICS),
        "stages": _lines((name, STAGES[name]) for name in STAGES),
        "objectives": _lines((name, OBJECTIVES[name]) for name in OBJECTIVES),
        "operators": _lines((name, OPERATORS[name]) for name in OPERATORS),
        "sources": _lines((name, SOURCES[name]) for name in SOURCES),
    }


def _lines(things: Iterable[tuple[str, object]]) -> dict[str, str]:
    return {name: (inspect.getdoc(thing) or "").partition("\n")[0] for name, thing in things}
