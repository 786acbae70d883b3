"""Sections of a comparison on its stages, the metrics of the final list, and training."""

from typing import Any

from cascaderank.reports._html.blocks import DataTable, Picture, Section
from cascaderank.reports._html.comparison_record import ComparisonRecord, MethodRecord
from cascaderank.reports._html.drawing import (
    ON_FILL,
    columns_of,
    shortened,
    stage_colour,
)
from cascaderank.reports._html.wording import ends, number
from cascaderank.reports.cells import megabytes, p_value, seconds


def stages_section(found: ComparisonRecord) -> Section:
    """Return the section on what each stage loses, by method."""
    trained = found.trained
    stages = list(trained[0].stage_survival)
    best = trained[0]
    worst = max(best.lost, key=lambda name: best.lost[name])
    rows = [
        (
            m.name,
            stage,
            number(m.stage_survival[stage]),
            number(m.lost[stage]),
            number(m.stage_recall[stage]),
            number(m.stage_ndcg[stage]),
        )
        for m in found.methods
        for stage in stages
    ]
    in_words = "; ".join(
        f"{m.name}: {', '.join(f'{stage} {number(x)}' for stage, x in m.lost.items())}"
        for m in trained
    )
    return Section(
        key="stages",
        title="Stages: where each method loses ground truth",
        finding=f"With {best.name}, {worst} loses most: {number(best.lost[worst])} of "
        f"{number(sum(best.lost.values()))}.",
        pictures=(
            Picture(
                name="stages",
                caption=f"Ground truth lost by each stage: {in_words}.",
                height=1.0 + 0.42 * len(trained),
                narrow_height=1.0 + 0.4 * len(trained) + 0.2 * len(stages),
                draw=lambda figure, narrow: _draw_stages(figure, trained, stages, narrow=narrow),
            ),
        ),
        tables=(
            DataTable(
                caption="Stages by method",
                head=("Method", "Stage", "Alive after", "Lost here", "Recall alone", "NDCG alone"),
                rows=tuple(rows),
                text_columns=2,
                folded=len(rows) > 12,
            ),
        ),
    )


def lists_section(found: ComparisonRecord) -> Section:
    """Return the section on further metrics of the final list."""
    rows = [
        (
            m.name,
            x.metric,
            number(x.mean),
            ends(x.low, x.high),
            number(x.gain, sign="+"),
            ends(x.gain_low, x.gain_high, sign="+"),
            p_value(x.p_holm) or "-",
        )
        for m in found.methods
        for x in m.final_metrics
    ]
    head = ("Method", "Metric", "Mean", "Interval", "Gain", "Interval", "p, Holm")
    return Section(
        key="lists",
        title="Final list: further metrics",
        tables=(
            DataTable(
                caption="Metrics of the final list",
                head=head,
                rows=tuple(rows),
                text_columns=2,
                folded=len(rows) > 12,
            ),
        )
        if rows
        else (),
        finding="" if rows else "No further metrics.",
    )


def effort_section(found: ComparisonRecord) -> Section:
    """Return the section on the time and memory of training."""
    trained = [m for m in found.trained if m.seconds is not None]
    slowest = max(trained, key=lambda m: m.seconds or 0.0, default=None)
    return Section(
        key="effort",
        title="Cost of training",
        finding=f"A run of {slowest.name} took longest, {seconds(slowest.seconds)} s."
        if slowest
        else "",
        tables=(
            DataTable(
                caption="Cost of training",
                head=("Method", "Seconds per run", "Most memory, MB", "Points tried"),
                rows=tuple(
                    (
                        m.name,
                        seconds(m.seconds),
                        megabytes(m.peak_memory) or "-",
                        str(max((len(t.tried) for t in m.tuning), default=0) or "-"),
                    )
                    for m in trained
                ),
            ),
        ),
    )


def _draw_stages(
    figure: Any, trained: list[MethodRecord], stages: list[str], *, narrow: bool
) -> None:
    (axes,) = columns_of(figure, 1, narrow=narrow)
    handles = []
    # Bars without space for their number; the caption and the table have all.
    least = (0.2 if narrow else 0.07) * max(sum(m.lost.values()) for m in trained)
    for row, m in enumerate(trained):
        start = 0.0
        for t, stage in enumerate(stages):
            bar = axes.barh(row, m.lost[stage], left=start, color=stage_colour(t), height=0.62)
            if row == 0:
                handles.append(bar)
            if m.lost[stage] > least:
                axes.annotate(
                    number(m.lost[stage]), (start + m.lost[stage] / 2, row), ha="center",
                    va="center", color=ON_FILL, weight="bold", fontsize=8.5,
                )  # fmt: skip
            start += m.lost[stage]
    axes.set_yticks(range(len(trained)), [shortened(m.name, narrow=narrow) for m in trained])
    axes.invert_yaxis()
    axes.set_xlabel("ground truth lost")
    axes.legend(
        handles,
        stages,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=1 if narrow else min(len(stages), 3),
    )
