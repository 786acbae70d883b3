"""Plots of a comparison."""

import math
from types import ModuleType
from typing import Any

from cascaderank.experiments.results import Comparison, MethodResult
from cascaderank.extras import require
from cascaderank.reports import cells
from cascaderank.reports.figure_files import STYLE, figure_bytes
from cascaderank.reports.plot_axes import axes_for

# The palette of Okabe and Ito, distinguishable with colour blindness. The reference is orange.
_REFERENCE = "#D55E00"
_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES, _MARKERS = ("-", "--", ":", "-."), "os^Dv"
_LIGHT, _GREY, _CEILING = "#e6e6e6", "#6b6b6b", "#b22222"
_MARGIN = 0.8
"""Baselines farther than this below the intervals of the trained methods, as a multiple of their
span, are listed in the notes instead of drawn; so is a ceiling as far above."""


def plot_files(comparison: Comparison) -> dict[str, bytes]:
    """Draw a comparison; equal comparisons result in equal bytes.

    The left panel shows the joint recall of each method with its interval, its seeds and the
    published value, and the ceiling as a line. Baselines are grey; those far below all trained
    methods are listed in the notes instead. The right panel shows the share of the ground truth
    that remains after each stage. If the folds are days, a panel below shows the joint recall per
    day.

    Args:
        comparison: result of the comparison.

    Returns:
        Contents of the files by extension: ``png`` and ``svg``.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra="report")
    with matplotlib.rc_context(STYLE):
        figure = _draw(comparison, require("matplotlib.figure", extra="report"))
        return {"png": figure_bytes(figure), "svg": figure_bytes(figure, "svg")}


def plot_joint_recall(comparison: Comparison, ax: Any = None) -> Any:
    """Draw the joint recall of the methods of a comparison, with intervals and seeds.

    Args:
        comparison: result of the comparison.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    axes = axes_for(ax)
    _joint_recall(axes, comparison, _shown(comparison)[1])
    return axes


def plot_survival(comparison: Comparison, ax: Any = None) -> Any:
    """Draw the share of the ground truth that remains after each stage, by method.

    Args:
        comparison: result of the comparison.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    axes, (_, methods) = axes_for(ax), _shown(comparison)
    _survival(axes, methods)
    axes.tick_params(axis="y", left=True, labelleft=True)
    axes.set_yticks(range(len(methods)), [cells.name(m) for m in methods])
    return axes


def _shown(c: Comparison) -> tuple[list[MethodResult], list[MethodResult]]:
    """Return the methods with a joint recall, lowest first, and those that are not far below."""
    defined = sorted(
        (m for m in c.methods if not math.isnan(m.joint_recall)), key=lambda m: m.joint_recall
    )
    low, _ = _range([m for m in defined if m.trained])
    return defined, [m for m in defined if m.trained or m.joint_recall >= low]


def _draw(c: Comparison, module: ModuleType) -> Any:
    defined, methods = _shown(c)
    trained = [m for m in defined if m.trained]
    omitted = [
        f"{cells.name(m)} {cells.share(m.joint_recall, places=3)}"
        for m in defined
        if m not in methods
    ]
    days = bool(cells.days(c))
    heights = [0.9 + 0.36 * len(methods), *[2.6] * days]
    longest = max((len(cells.name(m)) for m in methods), default=0)
    figure = module.Figure(figsize=(9.5 + 0.07 * longest, sum(heights) + 1.5), layout="constrained")
    figure.suptitle(cells.title(c), x=0.008, ha="left", fontsize=11)
    grid = figure.add_gridspec(1 + days, 2, width_ratios=[1.25, 1], height_ratios=heights)
    left = figure.add_subplot(grid[0, 0])
    right = figure.add_subplot(grid[0, 1], sharey=left)
    omitted += _joint_recall(left, c, methods)
    _survival(right, methods)
    if days:
        _by_day(figure.add_subplot(grid[1, :]), c, trained)
    figure.supxlabel("\n".join(_notes(c, omitted)), x=0.008, ha="left", fontsize=8, color="#444444")
    return figure


def _joint_recall(axes: Any, c: Comparison, methods: list[MethodResult]) -> list[str]:
    """Draw the joint recall of the methods, one row each; return what is outside the range."""
    low, high = _range(methods)
    published = [m.published.mean for m in methods if m.published]
    diamonds = all(low <= x <= high for x in published)
    for row, m in enumerate(methods):
        colour = _REFERENCE if m.name == c.reference else _COLOURS[0] if m.trained else _GREY
        if len(m.by_seed) > 1:
            below = [row - 0.22] * len(m.by_seed)
            axes.plot(m.by_seed, below, ".", color=colour, alpha=0.6, ms=5, mew=0, zorder=2)
        if not math.isnan(m.low):
            width = 2 if m.trained else 1
            axes.plot([m.low, m.high], [row, row], color=colour, lw=width, zorder=3)
        inside = colour if m.trained else "white"
        axes.plot(m.joint_recall, row, "o", color=colour, mfc=inside, ms=6, zorder=4)
        if m.published and diamonds:
            axes.plot(m.published.mean, row, "D", mfc="none", mec="black", ms=6, zorder=5)
        elif m.published:  # outside the range: written at the right
            axes.annotate(
                f"◇ {cells.share(m.published.mean)}", (1, row),
                xycoords=("axes fraction", "data"), xytext=(-2, -7.5), textcoords="offset points",
                va="center", ha="right", fontsize=7.5,
            )  # fmt: skip
    ceiling, omitted = f"ceiling ({c.ceiling_kind})", []
    if low <= c.ceiling <= high:
        axes.axvline(c.ceiling, color=_CEILING, lw=1, zorder=1)
        axes.annotate(
            ceiling, (c.ceiling, 1), xycoords=("data", "axes fraction"), xytext=(-3, -2), va="top",
            ha="right", textcoords="offset points", rotation=90, color=_CEILING, fontsize=7.5,
        )  # fmt: skip
    else:
        omitted.append(f"{ceiling} {cells.share(c.ceiling, places=3)}")
    axes.margins(x=0.06)
    signs = {"better": " †", "worse": " ‡", "": ""}
    axes.set_yticks(range(len(methods)), [cells.name(m) + signs[cells.mark(m)] for m in methods])
    for label, m in zip(axes.get_yticklabels(), methods, strict=True):
        label.set_color("black" if m.trained else _GREY)
    axes.set_ylim(-0.6, len(methods) - 0.4)
    axes.grid(axis="x", color=_LIGHT, lw=0.7)
    axes.set_axisbelow(True)
    axes.set_title("joint recall")
    return omitted


def _range(methods: list[MethodResult]) -> tuple[float, float]:
    """Lowest and highest value that is drawn with the intervals of these methods."""
    ends = [x for m in methods for x in (m.low, m.high, *m.by_seed) if not math.isnan(x)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = _MARGIN * max(high - low, 0.01)
    return low - margin, high + margin


def _survival(axes: Any, methods: list[MethodResult]) -> None:
    stages = list(methods[0].stage_survival) if methods else []
    for row, m in enumerate(methods):
        values = [m.stage_survival[stage] for stage in stages]
        axes.plot(values, [row] * len(values), color="#cccccc", lw=1.5, zorder=1)
    handles: list[Any] = []
    for i, stage in enumerate(stages):
        alive = [m.stage_survival[stage] for m in methods]
        marker, colour = _MARKERS[i % len(_MARKERS)], _COLOURS[(i + 1) % len(_COLOURS)]
        line = axes.plot(alive, range(len(methods)), marker, color=colour, ms=6, zorder=2)
        handles += line
    axes.tick_params(axis="y", left=False, labelleft=False)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=_LIGHT, lw=0.7)
    axes.set_axisbelow(True)
    axes.set_title("alive after")
    # Handles, because a label that starts with an underscore is not in the legend by itself.
    legend = axes.legend(
        handles, stages,
        loc="lower right", bbox_to_anchor=(1, 0.995), ncols=max(1, min(4, len(stages))),
        frameon=False, fontsize=7.5, handlelength=0.8, handletextpad=0.4, columnspacing=1.0,
        borderpad=0,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _by_day(axes: Any, c: Comparison, methods: list[MethodResult]) -> None:
    days = cells.days(c)
    others = 0
    for m in reversed(methods):  # best first, as in the rows above
        colour, style = _REFERENCE, "-"
        if m.name != c.reference:
            colour = _COLOURS[others % len(_COLOURS)]
            style = _STYLES[others // len(_COLOURS) % len(_STYLES)]
            others += 1
        axes.plot(days, m.by_fold, style, marker="o", ms=3.5, lw=1.4, color=colour, label=m.name)
    axes.set_title("joint recall by test day")
    axes.grid(axis="y", color=_LIGHT, lw=0.7)
    step = -(-len(days) // 10)
    axes.set_xticks(range(0, len(days), step), days[::step])
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)


def _notes(c: Comparison, omitted: list[str]) -> list[str]:
    """Legend of the symbols, one line each."""
    bars = f"bar: {c.confidence:.0%} interval over requests and seeds"
    if c.seeds > 1:
        bars += "; small dots: single seeds"
    lines = [
        f"{bars}; orange: {c.reference}, the reference; "
        "alive: share of the ground truth that remains"
    ]
    if any(not m.trained for m in c.methods):
        lines[0] += "; grey: baselines"
    if any(cells.mark(m) for m in c.methods):
        lines.append(f"† better, ‡ worse than the reference: {cells.MARKED}")
    if any(m.sees_more for m in c.methods):
        lines.append(f"{cells.SEES_MORE} uses features that a stage of the cascade may not use")
    if c.published:
        lines.append(
            f"◇ published: {c.published['source'].split(', mean')[0]}; {c.published['note']}"
        )
    if omitted:
        lines.append(f"off the scale: {', '.join(omitted)}")
    return lines
