"""Section of a comparison on the joint recall of all methods, and their gains."""

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
    shortened,
)
from cascaderank.reports._html.wording import ends, number, percent
from cascaderank.reports.cells import MARKED, SEES_MORE, p_value


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
            m.name + f" {SEES_MORE}" * m.sees_more + " (reference)" * (m.name == found.reference),
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
    in_words = ", ".join(f"{m.name} {number(m.joint_recall)}" for m in trained)
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
                caption=f"Left: joint recall with intervals: {in_words}. Right: gain over "
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
            *[f"{SEES_MORE} uses features that a stage of the cascade may not use."]
            * any(m.sees_more for m in methods),
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
        names = [shortened(m.name, narrow=narrow) for m in trained]
        axes.set_yticks(range(len(trained)), names if narrow or axes is left else [""] * len(names))
        axes.set_ylim(len(trained) - 0.4, -0.8)
        axes.margins(x=0.12)
        axes.grid(axis="x")
