"""Axes that plot functions draw on: those of the caller, or new ones."""

from typing import Any

from cascaderank.extras import require


def axes_for(ax: Any = None) -> Any:
    """Return the given axes, or those of a new figure of ``matplotlib.pyplot``.

    Args:
        ax: matplotlib axes, or ``None``.

    Raises:
        MissingExtraError: if matplotlib is not installed.

    Examples:
        >>> axes_for("the axes of the caller")
        'the axes of the caller'
    """
    if ax is not None:
        return ax
    return require("matplotlib.pyplot", extra="report").subplots(layout="constrained")[1]
