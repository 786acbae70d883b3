"""Plot of a heat map: a row per (m, k) of training, a column per (m, k) of evaluation."""

from typing import Any

import numpy as np

from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.experiments.heatmap import Heatmap
from cascaderank.extras import require
from cascaderank.reports.figure_files import figure_bytes
from cascaderank.reports.plot_axes import axes_for


def heatmap_png(found: Heatmap) -> bytes:
    """Draw one map per loss; equal heat maps result in equal bytes.

    A cell contains the recall. Its colour is the difference to the mean of its column, on one scale
    for all losses, because models are comparable at the same (m, k) but recalls at different (m, k)
    are not.

    Args:
        found: result of :func:`~cascaderank.experiments.heatmap.heatmap`.

    Returns:
        Contents of a PNG file.

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
        maps = [np.array(result.recall) for result in found.losses]
        differences = [values - values.mean(0) for values in maps]
        limit = max(float(np.abs(values).max()) for values in differences) or 1e-3
        axes = figure.subplots(1, len(maps), squeeze=False)[0]
        for panel, result, values, shades in zip(
            axes, found.losses, maps, differences, strict=True
        ):
            image = panel.imshow(shades, cmap="PuOr_r", vmin=-limit, vmax=limit)
            _label(panel, heads, values, shades, limit)
            scores = f"consistency {result.consistency:.2f}, regret {result.regret:.3f}"
            panel.set_title(f"{result.loss}\n{scores}")
        axes[0].set_ylabel("trained for m@k")
        figure.colorbar(image, ax=list(axes), label="difference to column mean", shrink=0.8)
        return figure_bytes(figure)


def plot_heatmap(found: Heatmap, loss: str, ax: Any = None) -> Any:
    """Draw the map of one loss, as :func:`heatmap_png` does.

    Args:
        found: result of :func:`~cascaderank.experiments.heatmap.heatmap`.
        loss: name of the loss.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        ConfigError: if the heat map does not have the loss.
        MissingExtraError: if matplotlib is not installed.
    """
    maps = {result.loss: np.array(result.recall) for result in found.losses}
    if loss not in maps:
        raise ConfigError(
            f"the heat map has no loss '{loss}'{did_you_mean(loss, maps)}; it has {', '.join(maps)}"
        )
    axes = axes_for(ax)
    differences = {name: values - values.mean(0) for name, values in maps.items()}
    limit = max(float(np.abs(values).max()) for values in differences.values()) or 1e-3
    axes.imshow(differences[loss], cmap="PuOr_r", vmin=-limit, vmax=limit)
    heads = [f"{a}@{b}" for a, b in found.grid]
    _label(axes, heads, maps[loss], differences[loss], limit)
    axes.set_ylabel("trained for m@k")
    axes.set_title(loss)
    return axes


def _label(axes: Any, heads: list[str], values: Any, shades: Any, limit: float) -> None:
    """Draw tick labels, and the recall in each cell; the diagonal is bold."""
    ticks = range(len(heads))
    axes.set_xticks(ticks, heads, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, heads)
    axes.set_xlabel("evaluated at m@k")
    for row in ticks:
        for column in ticks:
            dark = abs(shades[row, column]) > 0.6 * limit
            axes.annotate(
                f"{values[row, column]:.3f}".removeprefix("0"), (column, row), ha="center",
                va="center", fontsize=7, color="white" if dark else "black",
                weight="bold" if row == column else "normal",
            )  # fmt: skip
