"""Section on slices: where the cascade is worse than elsewhere, beyond chance."""

from collections.abc import Sequence
from typing import Any

from cascaderank.evaluation import Slice
from cascaderank.reports.cells import p_value
from cascaderank.reports.html.blocks import DataTable, Picture, Section
from cascaderank.reports.html.drawing import BLUE, INK, MUTED, ORANGE, columns_of
from cascaderank.reports.html.slice_groupings import details_of
from cascaderank.reports.html.wording import ends, number

LEVEL = 0.05
"""Level of the adjusted p values below which a slice is flagged."""

_DRAWN, _LISTED, _LONGEST = 8, 20, 34


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
    shown = [*flagged, *(s for s in slices if s.p_holm >= LEVEL and s.difference < 0)][:_LISTED]
    finding = (
        f"None of {len(slices):,} slices is worse than the rest beyond chance."
        if not flagged
        else f"{len(flagged):,} of {len(slices):,} slices {'is' if len(flagged) == 1 else 'are'} "
        f"worse than the rest beyond chance; first {_described(flagged[0])}."
    )
    drawn = shown[:_DRAWN]
    section = Section(
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
                draw=lambda figure, narrow: _draw(figure, drawn, narrow),
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
                marked=tuple(range(min(len(flagged), _LISTED))),
            ),
        ),
        notes=(
            "A slice by a property of the request has a unit per request; a slice by a feature of "
            "items has a unit per request with such items in its ground truth, over "
            f"{requests:,} requests. p: one-sided, adjusted for all {len(slices):,} slices. "
            "Features overlap, so one weakness can be flagged several times.",
        ),
    )
    return section


def _described(s: Slice) -> str:
    stage = details_of(s.details)
    lost = f", lost by {stage}" if stage else ""
    return f"{s.feature} = {s.name}: {number(s.mean)} against {number(s.rest)} elsewhere{lost}"


def _sentences(slices: Sequence[Slice]) -> str:
    return "; ".join(f"{s.feature} = {s.name} {number(s.mean)}" for s in slices) + "."


def _stage(s: Slice) -> str:
    stage = details_of(s.details)
    if not stage:
        return "–"
    own, rest = s.details[stage]
    return f"{stage}: {number(own)} against {number(rest)}"


def _draw(figure: Any, slices: Sequence[Slice], narrow: bool) -> None:
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
    longest = 18 if narrow else _LONGEST
    between = " =\n" if narrow else " = "
    names = [_short(s.feature, longest) + between + _short(s.name, longest) for s in slices]
    axes.set_yticks(range(len(slices)), names, fontsize=8 if narrow else 9)
    axes.set_ylim(len(slices) - 0.5, -0.8)
    axes.grid(axis="x")
    axes.set_xlabel("joint recall")


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
