"""Plot of joint recall against serving cost."""

import io
import math
import os
from collections.abc import Mapping
from pathlib import Path

from cascaderank.evaluation.profile import Profile
from cascaderank.extras import require

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
    ticker = require("matplotlib.ticker", extra="report")
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    known = {name: run for name, run in found.items() if not math.isnan(run[0])}
    labels = _labels(list(known))
    with matplotlib.rc_context(style):
        figure = figures.Figure(figsize=(9.5, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        costs = {
            name: (profile.walks[-1].multiply_adds, 1e3 * profile.walks[-1].timing.p50)
            for name, (_, profile) in known.items()
        }
        longest = max((p.walks[-1].candidates for _, p in found.values()), default=0)
        for i, (axes, label) in enumerate(
            ((left, "multiply-adds"), (right, "median milliseconds"))
        ):
            for j, (name, cost) in enumerate(costs.items()):
                axes.plot(
                    cost[i],
                    known[name][0],
                    linestyle="",
                    marker=_MARKERS[j % len(_MARKERS)],
                    color=_COLOURS[j % len(_COLOURS)],
                    alpha=0.8,
                    ms=7,
                    label=labels[name] if i == 0 else None,
                )
            all_costs = [cost[i] for cost in costs.values()]
            if all_costs and max(all_costs) > _LOG_SCALE_RATIO * min(all_costs) > 0:
                axes.set_xscale("log")
                axes.xaxis.set_minor_formatter(ticker.NullFormatter())
            else:
                axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
            number = ticker.EngFormatter() if i == 0 else ticker.FormatStrFormatter("%g")
            axes.xaxis.set_major_formatter(number)
            axes.margins(0.15)
            axes.set_xlabel(f"{label}, of a request with {longest:,} candidates")
            axes.grid(color="#e6e6e6", lw=0.7)
            axes.set_axisbelow(True)
        left.set_ylabel("joint recall")
        if known:  # in a legend, labels of equal points do not cover each other
            figure.legend(loc="outside right center", frameon=False, fontsize=8)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=160, metadata={"Software": None})
    return content.getvalue()


def _labels(names: list[str]) -> dict[str, str]:
    """Return the names without the folders that all share; of a long one, its end."""
    folder = os.path.commonpath([str(Path(name).parent) for name in names]) if names else ""
    short = {name: name.removeprefix(folder).lstrip("/") for name in names}
    return {
        name: text if len(text) <= _LABEL_LENGTH else f"…{text[1 - _LABEL_LENGTH :]}"
        for name, text in short.items()
    }
