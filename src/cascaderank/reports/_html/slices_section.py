"""Section on slices: where the cascade is worse than elsewhere, beyond chance."""

from collections.abc import Sequence
from typing import Any

from cascaderank.evaluation import Slice
from cascaderank.reports._html.blocks import DataTable, Picture, Section
from cascaderank.reports._html.drawing import BLUE, INK, MUTED, ORANGE, columns_of, shortened
from cascaderank.reports._html.slice_groupings import details_of
from cascaderank.reports._html.wording import ends, number
from cascaderank.reports.cells import p_value

LEVEL = 0.05
"""Level of the adjusted p values below which a slice is flagged."""

_DRAWN, _LISTED, _PER_FEATURE = 8, 20, 3


def slices_section(slices: Sequence[Slice], *, requests: int) -> Section:
    """Return the section on slices.

    Args:
        slices: tested slices, worst first.
        requests: number of requests whose ground truth was sliced by items.
    """
    title = "Slices: where the cascade is worse than elsewhere"
    flagged = [s for s in slices if s.p_holm < LEVEL]
    if not slices:
        return Section(
            key="slices", title=title, finding="No slice has enough requests for a test."
        )
    shown = _shown([*flagged, *(s for s in slices if s.p_holm >= LEVEL and s.difference < 0)])
    finding = (
        f"None of {len(slices):,} slices is worse than the rest beyond chance."
        if not flagged
        else f"{len(flagged):,} of {len(slices):,} slices {'is' if len(flagged) == 1 else 'are'} "
        f"worse than the rest beyond chance; first {_described(flagged[0])}."
    )
    drawn = shown[:_DRAWN]
    return Section(
        key="slices",
        title=title,
        finding=finding,
        pictures=(
            Picture(
                name="slices",
                caption="Joint recall in the worst slices with intervals, and in the rest (grey "
                f"line). Orange: worse beyond chance. {_sentences(drawn)}",
                height=0.8 + 0.36 * len(drawn),
                narrow_height=0.9 + 0.52 * len(drawn),
                draw=lambda figure, narrow: _draw(figure, drawn, narrow=narrow),
            ),
        )
        if drawn
        else (),
        tables=(
            DataTable(
                caption="Worst slices first",
                head=(
                    "Slice",
                    "Joint recall",
                    "Interval",
                    "Rest",
                    "Difference",
                    "Units",
                    "p, Holm",
                    "Lost mostly by",
                ),
                rows=tuple(
                    (
                        f"{s.feature} = {s.name}",
                        number(s.mean),
                        ends(s.low, s.high),
                        number(s.rest),
                        number(s.difference, sign="+"),
                        f"{s.units:,}",
                        p_value(s.p_holm),
                        _stage(s),
                    )
                    for s in shown
                ),
                marked=tuple(i for i, s in enumerate(shown) if s.p_holm < LEVEL),
            ),
        ),
        notes=(
            "A slice by a property of the request has a unit per request; a slice by a feature of "
            "items has a unit per request with such items in its ground truth, over "
            f"{requests:,} requests. p: one-sided, adjusted for all {len(slices):,} slices. "
            f"Of a feature, the worst {_PER_FEATURE} are listed. Features overlap, so one weakness "
            "can be flagged several times.",
        ),
    )


def _shown(slices: Sequence[Slice]) -> list[Slice]:
    """Return the first slices, but only a few of each feature."""
    shown: list[Slice] = []
    for s in slices:
        if sum(other.feature == s.feature for other in shown) < _PER_FEATURE:
            shown.append(s)
    return shown[:_LISTED]


def _described(s: Slice) -> str:
    stage = details_of(s.details)
    lost = f", lost by {stage}" if stage else ""
    return f"{s.feature} = {s.name}: {number(s.mean)} against {number(s.rest)} elsewhere{lost}"


def _sentences(slices: Sequence[Slice]) -> str:
    return "; ".join(f"{s.feature} = {s.name} {number(s.mean)}" for s in slices) + "."


def _stage(s: Slice) -> str:
    stage = details_of(s.details)
    if not stage:
        return "-"
    own, rest = s.details[stage]
    return f"{stage}: {number(own)} against {number(rest)}"


def _draw(figure: Any, slices: Sequence[Slice], *, narrow: bool) -> None:
    (axes,) = columns_of(figure, 1, narrow=narrow)
    for row, s in enumerate(slices):
        colour = ORANGE if s.p_holm < LEVEL else BLUE
        axes.plot([s.low, s.high], [row, row], color=colour, lw=2)
        axes.plot(s.mean, row, "o", color=colour, ms=6)
        axes.plot([s.rest, s.rest], [row - 0.32, row + 0.32], color=MUTED, lw=2)
        axes.annotate(
            number(s.mean), (s.mean, row), xytext=(0, 6), textcoords="offset points",
            ha="center", fontsize=8.5, color=INK,
        )  # fmt: skip
    between = " =\n" if narrow else " = "
    names = [
        shortened(s.feature, narrow=narrow) + between + shortened(s.name, narrow=narrow)
        for s in slices
    ]
    axes.set_yticks(range(len(slices)), names, fontsize=8 if narrow else 9)
    axes.set_ylim(len(slices) - 0.5, -0.8)
    axes.grid(axis="x")
    axes.set_xlabel("joint recall")


def gain_slices_section(slices: Sequence[Slice], *, method: str, reference: str) -> Section:
    """Return the section on slices where the gain of a method is smaller than elsewhere.

    Args:
        slices: tested slices of the gain per request, worst first.
        method: name of the method.
        reference: name of the reference.
    """
    title = f"Slices: where {method} gains less over {reference}"
    flagged = [s for s in slices if s.p_holm < LEVEL]
    if not slices:
        return Section(
            key="slices", title=title, finding="No slice has enough requests for a test."
        )
    finding = f"In none of {len(slices):,} slices is the gain smaller than elsewhere beyond chance."
    if flagged:
        worst = flagged[0]
        finding = (
            f"In {len(flagged):,} of {len(slices):,} slices the gain is smaller than elsewhere "
            f"beyond chance; first {worst.feature} = {worst.name}: "
            f"{number(worst.mean, sign='+')} against {number(worst.rest, sign='+')}."
        )
    shown = _shown([*flagged, *(s for s in slices if s.p_holm >= LEVEL and s.difference < 0)])
    return Section(
        key="slices",
        title=title,
        finding=finding,
        tables=(
            DataTable(
                caption="Gain by slice, smallest first",
                head=("Slice", "Gain", "Interval", "Rest", "Units", "p, Holm"),
                rows=tuple(
                    (
                        f"{s.feature} = {s.name}",
                        number(s.mean, sign="+"),
                        ends(s.low, s.high, sign="+"),
                        number(s.rest, sign="+"),
                        f"{s.units:,}",
                        p_value(s.p_holm),
                    )
                    for s in shown
                ),
                folded=len(shown) > 8,
                marked=tuple(i for i, s in enumerate(shown) if s.p_holm < LEVEL),
            ),
        ),
        notes=(
            "Gain per test request of the first fold, mean over seeds. p: one-sided, adjusted for "
            "all slices.",
        ),
    )
