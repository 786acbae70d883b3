"""A comparison as a plot."""

import io
import math
from types import ModuleType
from typing import Any

from cascaderank.experiments import cells
from cascaderank.experiments.summary import Comparison, MethodResult
from cascaderank.extras import require

# Okabe and Ito: told apart by colour-blind eyes. The reference has orange wherever it is drawn.
_REFERENCE = "#D55E00"
_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES, _MARKS = ("-", "--", ":", "-."), "os^Dv"
_LIGHT, _GREY, _CEILING = "#e6e6e6", "#6b6b6b", "#b22222"
_FAR = 0.8
"""In lengths of what the intervals of the trained methods span: so far off it is not drawn."""


def plot_files(comparison: Comparison) -> dict[str, bytes]:
    """Draw a comparison; equal comparisons give equal bytes.

    Left the joint recall of each trained method with its interval, its seeds, what a paper
    reports, and baselines and ceiling as lines. Right how much of the ground truth is alive after
    each stage. Below, if folds are days, recall day by day.

    Args:
        comparison: what was found.

    Returns:
        Contents of files by ending: ``png`` and ``svg``.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra="report")
    style = {
        "svg.hashsalt": "cascaderank",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
    }
    with matplotlib.rc_context(style):
        figure = _draw(comparison, require("matplotlib.figure", extra="report"))
        files = {}
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=160, metadata=metadata)
            files[kind] = content.getvalue()
    return files


def _draw(c: Comparison, module: ModuleType) -> Any:
    methods = [m for m in c.methods if m.trained and not math.isnan(m.joint_recall)]
    methods.sort(key=lambda m: m.joint_recall)
    days = c.folds > 1 and all(name.startswith("day ") for name in c.fold_names)
    heights = [0.9 + 0.36 * len(methods), *[2.6] * days]
    longest = max((len(m.name) for m in methods), default=0)
    figure = module.Figure(figsize=(9.5 + 0.07 * longest, sum(heights) + 1.5), layout="constrained")
    figure.suptitle(cells.title(c), x=0.008, ha="left", fontsize=11)
    grid = figure.add_gridspec(1 + days, 2, width_ratios=[1.25, 1], height_ratios=heights)
    left = figure.add_subplot(grid[0, 0])
    right = figure.add_subplot(grid[0, 1], sharey=left)
    far = _joint_recall(left, c, methods)
    _survival(right, methods)
    if days:
        _by_day(figure.add_subplot(grid[1, :]), c, methods)
    figure.supxlabel("\n".join(_notes(c, far)), x=0.008, ha="left", fontsize=8, color="#444444")
    return figure


def _joint_recall(axes: Any, c: Comparison, methods: list[MethodResult]) -> list[str]:
    """Draw the joint recall of methods, a row each; return what is too far off to be drawn."""
    ends = [x for m in methods for x in (m.low, m.high, *m.by_seed) if not math.isnan(x)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    reach = _FAR * max(high - low, 0.01)

    def near(x: float) -> bool:
        return low - reach <= x <= high + reach

    published = [m.published.mean for m in methods if m.published]
    diamonds = all(map(near, published))
    for row, m in enumerate(methods):
        colour = _REFERENCE if m.name == c.reference else _COLOURS[0]
        if len(m.by_seed) > 1:
            below = [row - 0.22] * len(m.by_seed)
            axes.plot(m.by_seed, below, ".", color=colour, alpha=0.6, ms=5, mew=0, zorder=2)
        if not math.isnan(m.low):
            axes.plot([m.low, m.high], [row, row], color=colour, lw=2, zorder=3)
        axes.plot(m.joint_recall, row, "o", color=colour, ms=6, zorder=4)
        if m.published and diamonds:
            axes.plot(m.published.mean, row, "D", mfc="none", mec="black", ms=6, zorder=5)
        elif m.published:  # too far off to be drawn: told at the right
            axes.annotate(
                f"◇ {cells.share(m.published.mean)}", (1, row),
                xycoords=("axes fraction", "data"), xytext=(-2, -7.5), textcoords="offset points",
                va="center", ha="right", fontsize=7.5,
            )  # fmt: skip
    far = []
    lines = [(m.name, m.joint_recall, _GREY, "--") for m in c.methods if not m.trained]
    for name, x, colour, line in [
        *lines,
        (f"ceiling ({c.ceiling_kind})", c.ceiling, _CEILING, "-"),
    ]:
        if not near(x):
            far.append(f"{name} {cells.share(x, places=3)}")
            continue
        axes.axvline(x, color=colour, ls=line, lw=1, zorder=1)
        axes.annotate(
            name, (x, 1), xycoords=("data", "axes fraction"), xytext=(-3, -2), va="top", ha="right",
            textcoords="offset points", rotation=90, color=colour, fontsize=7.5,
        )  # fmt: skip
    axes.margins(x=0.06)
    signs = {"better": " †", "worse": " ‡", "": ""}
    axes.set_yticks(range(len(methods)), [m.name + signs[cells.mark(m)] for m in methods])
    axes.set_ylim(-0.6, len(methods) - 0.4)
    axes.grid(axis="x", color=_LIGHT, lw=0.7)
    axes.set_axisbelow(True)
    axes.set_title("joint recall")
    return far


def _survival(axes: Any, methods: list[MethodResult]) -> None:
    stages = list(methods[0].stage_survival) if methods else []
    for row, m in enumerate(methods):
        values = [m.stage_survival[stage] for stage in stages]
        axes.plot(values, [row] * len(values), color="#cccccc", lw=1.5, zorder=1)
    for i, stage in enumerate(stages):
        alive = [m.stage_survival[stage] for m in methods]
        mark, colour = _MARKS[i % len(_MARKS)], _COLOURS[(i + 1) % len(_COLOURS)]
        axes.plot(alive, range(len(methods)), mark, color=colour, ms=6, label=stage, zorder=2)
    axes.tick_params(axis="y", left=False, labelleft=False)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=_LIGHT, lw=0.7)
    axes.set_axisbelow(True)
    axes.set_title("alive after")
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 0.995), ncols=max(1, min(4, len(stages))),
        frameon=False, fontsize=7.5, handlelength=0.8, handletextpad=0.4, columnspacing=1.0,
        borderpad=0,
    )  # fmt: skip


def _by_day(axes: Any, c: Comparison, methods: list[MethodResult]) -> None:
    days = [name.removeprefix("day ") for name in c.fold_names]
    others = 0
    for m in reversed(methods):  # the best first, as the rows above
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


def _notes(c: Comparison, far: list[str]) -> list[str]:
    """What the marks mean, a line each."""
    told = f"bar: {c.confidence:.0%} interval over requests and seeds"
    if c.seeds > 1:
        told += "; small dots: single seeds"
    found = [f"{told}; orange: {c.reference}, the reference; alive: share of the ground truth left"]
    if any(cells.mark(m) for m in c.methods):
        found.append(f"† better, ‡ worse than the reference: {cells.MARKED}")
    if c.published:
        found.append(
            f"◇ published: {c.published['source'].split(', mean')[0]}; {c.published['note']}"
        )
    if far:
        found.append(f"off the scale: {', '.join(far)}")
    return found
