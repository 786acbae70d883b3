"""Sections on the funnel: what survives each stage, and what mending each stage would give."""

import math
from typing import Any

from cascaderank.evaluation.statistics.bootstrap import Summary
from cascaderank.reports._html.blocks import DataTable, Picture, Section
from cascaderank.reports._html.drawing import (
    BLUE,
    GRID,
    INK,
    MUTED,
    ON_FILL,
    ORANGE,
    columns_of,
    shortened,
)
from cascaderank.reports._html.reported_run import ReportedRun
from cascaderank.reports._html.wording import number, percent, span


def funnel_section(reported: ReportedRun, *, list_length: float | None = None) -> Section:
    """Return the section on the ground truth that survives each stage.

    Args:
        reported: the run.
        list_length: mean number of candidates of a test request, if known.
    """
    stages = reported.test.stages
    total = sum(reported.losses.values())
    rows, before = [], list_length
    for name, stage in stages.items():
        after = stage.quota if before is None else min(before, stage.quota)
        rows.append(
            (
                name,
                reported.settings.stages[name].model,
                "-" if before is None else f"{before:,.0f}",
                f"{after:,.0f}",
                number(stage.survival.mean),
                span(stage.survival),
                number(stage.lost.mean),
                span(stage.lost),
                percent(stage.lost.mean / total) if total > 0 else "-",
            )
        )
        before = after
    alive = [1.0, *(stage.survival.mean for stage in stages.values())]
    lost = [stage.lost.mean for stage in stages.values()]
    steps = ", ".join(
        f"{name} keeps {number(stage.survival.mean)} and loses {number(stage.lost.mean)}"
        for name, stage in stages.items()
    )
    worst = max(reported.losses, key=lambda name: reported.losses[name])
    return Section(
        key="funnel",
        title="Funnel: what survives, and where it is lost",
        finding=f"Of the ground truth, {number(alive[-1])} reaches the end; {worst} loses the "
        f"largest part of the rest, {number(reported.losses[worst])} of {number(total)}."
        if total > 0
        else "All of the ground truth reaches the end.",
        pictures=(
            Picture(
                name="funnel",
                caption=f"Share of the ground truth after each stage. Of 1.000 in the lists, "
                f"{steps}. Blue: alive. Orange: lost in this stage. Grey: lost before.",
                height=0.75 + 0.5 * len(alive),
                narrow_height=0.9 + 0.5 * len(alive),
                draw=lambda figure, narrow: _draw_funnel(
                    figure, ["in the list", *stages], alive, [0.0, *lost], narrow=narrow
                ),
            ),
        ),
        tables=(
            DataTable(
                caption="Survival of the ground truth by stage",
                head=(
                    "Stage",
                    "Model",
                    "Candidates in",
                    "Kept",
                    "Alive after",
                    "Interval",
                    "Lost here",
                    "Interval",
                    "Of all losses",
                ),
                rows=tuple(rows),
                text_columns=2,
                marked=(list(stages).index(worst),) if total > 0 else (),
            ),
        ),
        notes=(
            "Means over the test requests with ground truth; intervals are "
            f"{percent(reported.test.confidence)} bootstrap intervals over requests.",
        ),
    )


def attribution_section(reported: ReportedRun) -> Section:
    """Return the section on what each stage costs, and what mending it alone would give."""
    stages, joint = reported.test.stages, reported.test.metrics["joint_recall"]
    mended = {name: stage.ceiling_if_perfect for name, stage in stages.items()}
    best = max(mended, key=lambda name: mended[name].mean)
    rows = [
        (
            name,
            number(stage.lost.mean),
            number(mended[name].mean),
            span(mended[name]),
            number(mended[name].mean - joint.mean, sign="+"),
            number(stage.recall.mean),
            number(stage.ndcg_linear.mean),
            _ranks(stage.depth),
        )
        for name, stage in stages.items()
    ]
    in_words = ", ".join(f"{name} {number(summary.mean)}" for name, summary in mended.items())
    return Section(
        key="attribution",
        title="Attribution: what mending one stage would give",
        finding=f"A perfect {best} alone would raise joint recall from {number(joint.mean)} to "
        f"{number(mended[best].mean)}.",
        pictures=(
            Picture(
                name="attribution",
                caption=f"Joint recall now, {number(joint.mean)} (line), and if one stage alone "
                f"were perfect, with intervals: {in_words}.",
                height=0.95 + 0.42 * len(stages),
                narrow_height=1.1 + 0.42 * len(stages),
                draw=lambda figure, narrow: _draw_mended(figure, joint, mended, narrow=narrow),
            ),
        ),
        tables=(
            DataTable(
                caption="Potential of each stage",
                head=(
                    "Stage",
                    "Lost here",
                    "Joint recall if perfect",
                    "Interval",
                    "Gain",
                    "Recall alone",
                    "NDCG alone",
                    "Ranks short",
                ),
                rows=tuple(rows),
                marked=(list(stages).index(best),),
            ),
        ),
        notes=(
            "A perfect stage ranks its input by ground truth and keeps its quota; the other stages "
            "keep their scores. What it saves can be cut by a later stage, so the gain is at most "
            "the loss. Recall and NDCG alone rank all candidates by this stage. Ranks short: mean "
            "number of ranks by which the lost ground truth missed the quota.",
        ),
    )


def _ranks(depth: Summary) -> str:
    return "-" if math.isnan(depth.mean) else f"{depth.mean:,.1f}"


def _draw_funnel(
    figure: Any, names: list[str], alive: list[float], lost: list[float], *, narrow: bool
) -> None:
    (axes,) = columns_of(figure, 1, narrow=narrow)
    for row, (here, cut) in enumerate(zip(alive, lost, strict=True)):
        before = here + cut
        axes.barh(row, here, color=BLUE, height=0.72)
        axes.barh(row, cut, left=here, color=ORANGE, height=0.72, hatch="////", edgecolor=GRID)
        axes.barh(row, 1 - before, left=before, color=GRID, height=0.72)
        axes.annotate(number(here), (0.012, row), va="center", color=ON_FILL, weight="bold")
        if cut > 0:
            axes.annotate(
                f"-{number(cut)}",
                (1 if before > 0.86 else before, row),  # right of the bar if the space is short
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                annotation_clip=False,
                weight="bold",
            )
    axes.set_yticks(range(len(names)), [shortened(name, narrow=narrow) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the ground truth")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _draw_mended(figure: Any, joint: Summary, mended: dict[str, Summary], *, narrow: bool) -> None:
    (axes,) = columns_of(figure, 1, narrow=narrow)
    axes.axvline(joint.mean, color=MUTED, lw=1.2, ls="--")
    axes.annotate(
        f"now {number(joint.mean)}", (joint.mean, 1), xycoords=("data", "axes fraction"),
        xytext=(0, 3), textcoords="offset points", ha="center", color=MUTED, fontsize=8.5,
    )  # fmt: skip
    for row, summary in enumerate(mended.values()):
        axes.plot([joint.mean, summary.mean], [row, row], color=BLUE, lw=6, solid_capstyle="butt")
        if not math.isnan(summary.low):
            axes.plot([summary.low, summary.high], [row, row], color=INK, lw=1.4)
        axes.plot(summary.mean, row, "o", color=INK, ms=5)
        right = summary.mean if math.isnan(summary.high) else summary.high
        axes.annotate(
            number(summary.mean), (right, row), xytext=(6, 0), textcoords="offset points",
            va="center", weight="bold",
        )  # fmt: skip
    axes.set_yticks(
        range(len(mended)), [shortened(f"perfect {name}", narrow=narrow) for name in mended]
    )
    axes.set_ylim(len(mended) - 0.5, -0.6)
    axes.margins(x=0.12)
    axes.grid(axis="x")
    axes.set_xlabel("joint recall")
