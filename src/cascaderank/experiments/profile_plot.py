"""Recall against cost, as a picture."""

import io
import math
from collections.abc import Mapping

from cascaderank.evaluation.profile import Profile
from cascaderank.extras import require


def profile_png(found: Mapping[str, tuple[float, Profile]]) -> bytes:
    """Draw a point per run, left against multiply-adds and right against milliseconds.

    Both are of a request with the most candidates that were profiled. A run without a recall is
    left out.

    Args:
        found: joint recall and profile, by name of the run.

    Returns:
        A PNG file.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra="report")
    figures = require("matplotlib.figure", extra="report")
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    known = {name: of for name, of in found.items() if not math.isnan(of[0])}
    with matplotlib.rc_context(style):
        figure = figures.Figure(figsize=(9.5, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for name, (recall, profile) in known.items():
            walk = profile.walks[-1]
            for axes, cost in ((left, walk.multiply_adds), (right, 1e3 * walk.timing.p50)):
                axes.plot(cost, recall, "o", color="#0072B2", ms=6)
                axes.annotate(
                    name, (cost, recall), xytext=(5, 4), textcoords="offset points", fontsize=8
                )
        longest = max((p.walks[-1].candidates for _, p in found.values()), default=0)
        for axes, told in ((left, "multiply-adds"), (right, "milliseconds, median")):
            axes.set_xscale("log")
            axes.margins(0.25, 0.15)
            axes.set_xlabel(f"{told}, of a request with {longest:,} candidates")
            axes.grid(color="#e6e6e6", lw=0.7)
            axes.set_axisbelow(True)
        left.set_ylabel("joint recall")
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=160, metadata={"Software": None})
    return content.getvalue()
