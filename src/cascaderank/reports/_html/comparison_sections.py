"""Sections of a comparison: gains, stages, metrics of the final list, tuning and cost."""

import math
from typing import Any

from cascaderank.reports._html.blocks import DataTable, Picture, Section
from cascaderank.reports._html.comparison_record import ComparisonRecord, MethodRecord
from cascaderank.reports._html.drawing import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    columns_of,
    stage_colour,
)
from cascaderank.reports._html.wording import ends, number, percent
from cascaderank.reports.cells import MARKED, megabytes, p_value, seconds


def better(method: MethodRecord, found: ComparisonRecord) -> str:
    """Return ``"better"`` or ``"worse"`` than the reference, or ``""``, as in the tables."""
    low, high, p = method.gain_low, method.gain_high, method.p_holm
    if found.seeds < 2 or p is None or low is None or high is None or not p < 0.05:
        return ""
    return "better" if low > 0 else "worse" if high < 0 else ""


def gains_section(found: ComparisonRecord) -> Section:
    """Return the section on the joint recall of all methods, and their gains."""
    methods = sorted(found.methods, key=lambda m: -(m.joint_recall or 0.0))
    best = found.trained[0]
    rows = [
        (
            m.name + " (reference)" * (m.name == found.reference),
            number(m.joint_recall),
            ends(m.low, m.high),
            percent(m.share_of_ceiling if m.share_of_ceiling is not None else math.nan),
            number(m.gain, sign="+"),
            ends(m.gain_low, m.gain_high, sign="+"),
            p_value(m.p_holm) or "-",
            better(m, found) or "-",
        )
        for m in methods
    ]
    trained = found.trained
    said = ", ".join(f"{m.name} {number(m.joint_recall)}" for m in trained)
    gains = ", ".join(
        f"{m.name} {number(m.gain, sign='+')} ({ends(m.gain_low, m.gain_high, sign='+')})"
        for m in trained
        if m.gain is not None
    )
    covers = "requests and seeds" if found.seeds > 1 else "requests, as there is one seed"
    return Section(
        key="gains",
        title="Gains: which method is better",
        finding=_gain_sentence(best, found),
        pictures=(
            Picture(
                name="gains",
                caption=f"Left: joint recall with intervals: {said}. Right: gain over "
                f"{found.reference}: {gains or 'none'}. Orange: the reference; small dots: seeds.",
                height=1.0 + 0.42 * len(trained),
                narrow_height=2 * (0.95 + 0.42 * len(trained)),
                draw=lambda figure, narrow: _draw_gains(figure, found, narrow=narrow),
            ),
        ),
        tables=(
            DataTable(
                caption="Joint recall and gain by method",
                head=(
                    "Method",
                    "Joint recall",
                    "Interval",
                    "Of ceiling",
                    "Gain",
                    "Interval",
                    "p, Holm",
                    "Verdict",
                ),
                rows=tuple(rows),
                marked=(methods.index(best),),
            ),
        ),
        notes=(
            f"{percent(found.confidence)} intervals over {covers}. Verdict: {MARKED}; with one "
            f"seed there is none. Ceiling {number(found.ceiling)}: "
            + (
                "the best that the planted preferences allow."
                if found.ceiling_kind == "planted"
                else "a perfect cascade with these quotas."
            ),
        ),
    )


def _gain_sentence(best: MethodRecord, found: ComparisonRecord) -> str:
    if best.name == found.reference:
        return f"No method has a higher joint recall than the reference, {found.reference}."
    verdict = better(best, found)
    certainty = "beyond chance" if verdict else "not beyond chance" if found.seeds > 1 else ""
    return (
        f"{best.name} has the highest joint recall, {number(best.gain, sign='+')} over "
        f"{found.reference}" + f" ({certainty})" * bool(certainty) + "."
    )


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
    said = "; ".join(
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
                caption=f"Ground truth lost by each stage: {said}.",
                height=1.0 + 0.42 * len(trained),
                narrow_height=1.3 + 0.5 * len(trained),
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


def _draw_gains(figure: Any, found: ComparisonRecord, *, narrow: bool) -> None:
    trained = found.trained
    left, right = columns_of(figure, 2, narrow=narrow)
    for row, m in enumerate(trained):
        colour = ORANGE if m.name == found.reference else BLUE
        if m.low is not None and m.high is not None:
            left.plot([m.low, m.high], [row, row], color=colour, lw=2)
        left.plot(m.joint_recall, row, "o", color=colour, ms=6)
        if len(m.by_seed) > 1:
            left.plot(m.by_seed, [row + 0.25] * len(m.by_seed), ".", color=colour, ms=4)
        left.annotate(
            number(m.joint_recall), (m.joint_recall, row), xytext=(0, 6), ha="center",
            textcoords="offset points", fontsize=8.5,
        )  # fmt: skip
        if m.gain is None:
            right.annotate("reference", (0, row), xytext=(4, 0), textcoords="offset points",
                           va="center", color=MUTED, fontsize=8.5)  # fmt: skip
            continue
        shade = {"better": GREEN, "worse": ORANGE}.get(better(m, found), INK)
        if m.gain_low is not None and m.gain_high is not None:
            right.plot([m.gain_low, m.gain_high], [row, row], color=shade, lw=2)
        right.plot(m.gain, row, "s", color=shade, ms=5)
        right.annotate(
            number(m.gain, sign="+"), (m.gain, row), xytext=(0, 6), ha="center",
            textcoords="offset points", fontsize=8.5,
        )  # fmt: skip
    right.axvline(0, color=MUTED, lw=1)
    for axes, label in ((left, "joint recall"), (right, f"gain over {found.reference}")):
        axes.set_xlabel(label)
        axes.xaxis.get_major_locator().set_params(nbins=5)
        names = [m.name for m in trained]
        axes.set_yticks(range(len(trained)), names if narrow or axes is left else [""] * len(names))
        axes.set_ylim(len(trained) - 0.4, -0.8)
        axes.margins(x=0.12)
        axes.grid(axis="x")


def _draw_stages(
    figure: Any, trained: list[MethodRecord], stages: list[str], *, narrow: bool
) -> None:
    (axes,) = columns_of(figure, 1, narrow=narrow)
    handles = []
    for row, m in enumerate(trained):
        start = 0.0
        for t, stage in enumerate(stages):
            bar = axes.barh(row, m.lost[stage], left=start, color=stage_colour(t), height=0.62)
            if row == 0:
                handles.append(bar)
            if m.lost[stage] > 0:
                axes.annotate(
                    number(m.lost[stage]), (start + m.lost[stage] / 2, row), ha="center",
                    va="center", color="#ffffff", weight="bold", fontsize=8.5,
                )  # fmt: skip
            start += m.lost[stage]
    axes.set_yticks(range(len(trained)), [m.name for m in trained])
    axes.invert_yaxis()
    axes.set_xlabel("ground truth lost")
    axes.legend(
        handles, stages, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(len(stages), 3)
    )
