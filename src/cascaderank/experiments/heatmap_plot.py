"""Heat maps as a picture: a row per (m, k) trained for, a column per (m, k) judged at."""

import io
from typing import Any

import numpy as np

from cascaderank.experiments.heatmap import Heatmap
from cascaderank.extras import require


def heatmap_png(found: Heatmap) -> bytes:
    """Draw one map per loss; equal heat maps give equal bytes.

    A cell holds the recall. Its colour is the difference to the mean of its column, the same
    scale for all losses: recalls at different (m, k) are not comparable, models at one are.

    Args:
        found: what :func:`~cascaderank.experiments.heatmap.heatmap` gave.

    Returns:
        A PNG file.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra="report")
    figures = require("matplotlib.figure", extra="report")
    heads = [f"{a}@{b}" for a, b in found.grid]
    side = 1.4 + 0.62 * len(heads)
    with matplotlib.rc_context({"font.size": 8.5, "axes.titlesize": 9.5}):
        figure = figures.Figure(
            figsize=(side * len(found.losses) + 1.0, side + 0.9), layout="constrained"
        )
        figure.suptitle(
            f"{found.dataset}: Recall@m@k, {found.requests:,} test requests", x=0.01, ha="left"
        )
        maps = [np.array(of.recall) for of in found.losses]
        apart = [values - values.mean(0) for values in maps]
        reach = max(float(np.abs(values).max()) for values in apart) or 1e-3
        axes = figure.subplots(1, len(maps), squeeze=False)[0]
        for at, of, values, shades in zip(axes, found.losses, maps, apart, strict=True):
            image = at.imshow(shades, cmap="PuOr_r", vmin=-reach, vmax=reach)
            _label(at, heads, values, shades, reach)
            at.set_title(f"{of.loss}\nconsistency {of.consistency:.2f}, regret {of.regret:.3f}")
        axes[0].set_ylabel("trained for m@k")
        figure.colorbar(image, ax=list(axes), label="less the mean of the column", shrink=0.8)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=160, metadata={"Software": None})
    return content.getvalue()


def _label(at: Any, heads: list[str], values: Any, shades: Any, reach: float) -> None:
    places = range(len(heads))
    at.set_xticks(places, heads, rotation=45, ha="right", rotation_mode="anchor")
    at.set_yticks(places, heads)
    at.set_xlabel("judged at m@k")
    for row in places:
        for column in places:
            dark = abs(shades[row, column]) > 0.6 * reach
            at.annotate(
                f"{values[row, column]:.3f}".removeprefix("0"), (column, row), ha="center",
                va="center", fontsize=7, color="white" if dark else "black",
                weight="bold" if row == column else "normal",
            )  # fmt: skip
