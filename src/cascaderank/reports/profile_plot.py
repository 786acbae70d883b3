"""Plot of joint recall against serving cost."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cascaderank.evaluation.profile import Profile
from cascaderank.extras import require
from cascaderank.reports.figure_files import figure_bytes
from cascaderank.reports.plot_axes import axes_for

Cost = Literal["multiply_adds", "milliseconds"]
"""Cost of a request."""

_LOG_SCALE_RATIO = 10  # costs that differ by a larger factor are drawn on a logarithmic scale
_LABEL_LENGTH = 32
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Colours of Okabe and Ito, distinguishable by the colour-blind."""
_MARKERS = "osD^v"


def profile_png(found: Mapping[str, tuple[float, Profile]]) -> bytes:
    """Draw joint recall against multiply-adds (left) and median latency (right), a point per run.

    Both costs are those of a request with the largest number of candidates profiled. Runs whose
    recall is NaN are omitted.

    Args:
        found: joint recall (NaN if undefined) and profile, by name of the run.

    Returns:
        Contents of a PNG file.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra="report")
    figures = require("matplotlib.figure", extra="report")
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure = figures.Figure(figsize=(9.5, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _draw(left, found, "multiply_adds", legend=True)
        _draw(right, found, "milliseconds", legend=False)
        left.set_ylabel("joint recall")
        if any(not math.isnan(recall) for recall, _ in found.values()):
            # In a legend, labels of equal points do not cover each other.
            figure.legend(loc="outside right center", frameon=False, fontsize=8)
        return figure_bytes(figure)


def plot_tradeoff(
    found: Mapping[str, tuple[float, Profile]], cost: Cost = "multiply_adds", ax: Any = None
) -> Any:
    """Draw joint recall against one cost, a point per run, as :func:`profile_png` does.

    Args:
        found: joint recall (NaN if undefined) and profile, by name of the run.
        cost: ``"multiply_adds"``, or ``"milliseconds"``, the median latency.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    axes = axes_for(ax)
    _draw(axes, found, cost, legend=True)
    axes.set_ylabel("joint recall")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
    return axes


def _draw(
    axes: Any, found: Mapping[str, tuple[float, Profile]], cost: Cost, *, legend: bool
) -> None:
    ticker = require("matplotlib.ticker", extra="report")
    known = {name: run for name, run in found.items() if not math.isnan(run[0])}
    labels = _labels(list(known))
    longest = max((p.walks[-1].candidates for _, p in found.values()), default=0)
    adds = cost == "multiply_adds"
    costs = []
    for j, (name, (recall, profile)) in enumerate(known.items()):
        walk = profile.walks[-1]
        costs.append(walk.multiply_adds if adds else 1e3 * walk.timing.p50)
        axes.plot(
            costs[-1],
            recall,
            linestyle="",
            marker=_MARKERS[j % len(_MARKERS)],
            color=_COLOURS[j % len(_COLOURS)],
            alpha=0.8,
            ms=7,
            label=labels[name] if legend else None,
        )
    if costs and max(costs) > _LOG_SCALE_RATIO * min(costs) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    else:
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    number = ticker.EngFormatter() if adds else ticker.FormatStrFormatter("%g")
    axes.xaxis.set_major_formatter(number)
    axes.margins(0.15)
    label = "multiply-adds" if adds else "median milliseconds"
    axes.set_xlabel(f"{label}, of a request with {longest:,} candidates")
    axes.grid(color="#e6e6e6", lw=0.7)
    axes.set_axisbelow(True)


def _labels(names: list[str]) -> dict[str, str]:
    """Return the names without the folders that all share; of a long one, its end."""
    folder = os.path.commonpath([str(Path(name).parent) for name in names]) if names else ""
    short = {name: name.removeprefix(folder).lstrip("/") for name in names}
    return {
        name: text if len(text) <= _LABEL_LENGTH else f"…{text[1 - _LABEL_LENGTH :]}"
        for name, text in short.items()
    }
