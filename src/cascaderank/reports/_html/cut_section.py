"""Section on the ground truth that was lost: how many ranks below the cut it was."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from cascaderank.reports._html.blocks import DataTable, Picture, Section
from cascaderank.reports._html.drawing import LINES, MARKERS, columns_of, stage_colour
from cascaderank.reports._html.scoring_pass import ScoredBatch
from cascaderank.reports._html.wording import percent, size

_SHOWN = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@final
class CutDistances:
    """Number of lost candidates of the ground truth by the number of ranks they missed the quota.

    Args:
        stages: number of stages.
    """

    def __init__(self, stages: int) -> None:
        self.counts: list[NDArray[np.float64]] = [np.zeros(1) for _ in range(stages)]
        """``[distance]`` lost ground truth by stage; the index is the distance, at least 1."""
        self.chance: list[NDArray[np.float64]] = [np.zeros(1) for _ in range(stages)]
        """The same if what a stage lost were anywhere below its cut, with equal probability."""

    def add(self, scored: ScoredBatch, /) -> None:
        """Add a batch; the rank of a candidate is among those that its stage received."""
        for stage, quota in enumerate(scored.quotas):
            reached, order = scored.reached[stage], scored.orders[stage]
            ranks = torch.zeros_like(order).scatter(-1, order, reached.gather(-1, order).cumsum(-1))
            lost = scored.relevant * (reached & ~scored.kept[stage])
            found = lost > 0
            self.counts[stage] = _sum(
                self.counts[stage],
                np.bincount((ranks - quota)[found].numpy(), lost[found].numpy()),
            )
            below = (reached.sum(-1) - quota).clamp(min=1).numpy()
            each = np.bincount(below, lost.sum(-1).numpy() / below)
            each = each[::-1].cumsum()[::-1].copy()  # from 1 to the ranks below the cut
            each[0] = 0
            self.chance[stage] = _sum(self.chance[stage], each)

    def within(self, stage: int, distance: int) -> float:
        """Return the share of a stage's losses within ``distance`` ranks below its quota."""
        counts = self.counts[stage]
        return float(counts[: distance + 1].sum() / counts.sum()) if counts.sum() else float("nan")

    def within_by_chance(self, stage: int, distance: float) -> float:
        """Return what :meth:`within` would be if the losses were anywhere below the cut."""
        counts = self.chance[stage]
        if not counts.sum() or np.isnan(distance):
            return float("nan")
        return float(counts[: int(distance) + 1].sum() / counts.sum())

    def quantile(self, stage: int, level: float) -> float:
        """Return the distance that a share of the lost ground truth does not exceed."""
        counts = self.counts[stage]
        if not counts.sum():
            return float("nan")
        return float(np.searchsorted(counts.cumsum(), level * counts.sum() * (1 - 1e-12)))


def _sum(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    total = longer.astype(np.float64)
    total[: len(shorter)] += shorter
    return total


def cut_section(names: Sequence[str], found: CutDistances) -> Section:
    """Return the section on the distances to the cut.

    Args:
        names: names of the stages.
        found: result of the pass over the requests.
    """
    lost = [counts.sum() for counts in found.counts]
    losing = [t for t, total in enumerate(lost) if total > 0]
    chance = [found.within_by_chance(t, found.quantile(t, 0.5)) for t in range(len(names))]
    in_words = [
        f"half of what {names[t]} lost missed the cut by {found.quantile(t, 0.5):,.0f} ranks or "
        f"fewer (by chance {percent(chance[t])}), nine tenths by {found.quantile(t, 0.9):,.0f}"
        for t in losing
    ]
    if not losing:
        return Section(
            key="cuts", title="Distance to the cut", finding="No stage lost ground truth."
        )
    worst = max(losing, key=lambda t: lost[t])
    farthest = max(len(counts) - 1 for counts in found.counts)
    shown = [distance for distance in _SHOWN if distance <= farthest] or [1]
    return Section(
        key="cuts",
        title="Distance to the cut: how far below it the lost ones were",
        finding=f"Half of what {names[worst]} lost missed the cut by "
        f"{found.quantile(worst, 0.5):,.0f} ranks or fewer; by chance, {percent(chance[worst])} "
        "would.",
        pictures=(
            Picture(
                name="cuts",
                caption="Share of the ground truth lost by a stage that missed its quota by at "
                f"most the given number of ranks: {'; '.join(in_words)}.",
                height=2.9,
                narrow_height=3.1,
                draw=lambda figure, narrow: _draw(figure, names, found, losing, narrow=narrow),
            ),
        ),
        tables=(
            DataTable(
                caption="Lost ground truth by the number of ranks below the cut",
                head=(
                    "Stage",
                    "Lost",
                    "Median",
                    "≤ median by chance",
                    "90 %",
                    *(f"≤ {d:,}" for d in shown),
                ),
                rows=tuple(
                    (
                        names[t],
                        size(round(float(lost[t]), 1)),
                        f"{found.quantile(t, 0.5):,.0f}",
                        percent(chance[t]),
                        f"{found.quantile(t, 0.9):,.0f}",
                        *(percent(found.within(t, distance)) for distance in shown),
                    )
                    for t in losing
                ),
            ),
        ),
        notes=(
            "Ranks are among the candidates that the stage received. By chance: if the lost ones "
            "were anywhere below the cut. If half of them are much closer than that, a slightly "
            "larger quota saves many; if not, a larger quota saves no more than its share of all "
            "candidates, and the stage has to be better.",
        ),
    )


def _draw(
    figure: Any, names: Sequence[str], found: CutDistances, losing: Sequence[int], *, narrow: bool
) -> None:
    (axes,) = columns_of(figure, 1, narrow=narrow)
    for t in losing:
        counts = found.counts[t][1:]
        x = np.arange(1, len(counts) + 1)
        y = counts.cumsum() / counts.sum()
        style = LINES[t % len(LINES)]
        axes.step(
            x, y, style, where="post", color=stage_colour(t), label=names[t], ms=4,
            marker=MARKERS[t % len(MARKERS)], markevery=max(1, len(x) // 8),
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([d for d in _SHOWN if d <= max(2, *(len(found.counts[t]) for t in losing))])
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.minorticks_off()
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("ranks below the cut")
    axes.set_ylabel("share of its losses")
    axes.grid()
    handles, _ = axes.get_legend_handles_labels()
    axes.legend(handles, [names[t] for t in losing], loc="lower right")
