"""Section on quotas: joint recall as a function of each quota, the others as they are."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.reports._html.blocks import DataTable, Picture, Section
from cascaderank.reports._html.drawing import INK, MUTED, columns_of, stage_colour
from cascaderank.reports._html.scoring_pass import ScoredBatch
from cascaderank.reports._html.wording import number
from cascaderank.selection import kept_by_stages, share

_FACTORS = (1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1, 9 / 8, 5 / 4, 3 / 2, 2, 3, 4)


def quota_grid(quotas: Sequence[int], stage: int, longest: int) -> list[int]:
    """Return quotas to try for a stage: around the present one, and between its neighbours.

    Args:
        quotas: present quotas, first stage first.
        stage: index of the stage.
        longest: number of candidates of the longest list.

    Examples:
        >>> quota_grid((40, 20), 0, 60)
        [20, 25, 30, 35, 40, 45, 50, 60]
        >>> quota_grid((40, 20), 1, 60)[-1]
        40
    """
    low = quotas[stage + 1] if stage + 1 < len(quotas) else 1
    high = max(longest, quotas[stage]) if stage == 0 else quotas[stage - 1]
    tried = {round(factor * quotas[stage]) for factor in _FACTORS} | {low, high}
    return sorted(q for q in tried if low <= q <= high and q >= 1)


@final
class QuotaCurves:
    """Sums of the joint recall of cascades with another quota of one stage.

    Args:
        quotas: present quotas, first stage first.
        longest: number of candidates of the longest list.
    """

    def __init__(self, quotas: Sequence[int], *, longest: int) -> None:
        self.quotas = tuple(quotas)
        self.grids = [quota_grid(quotas, stage, longest) for stage in range(len(quotas))]
        self._sums = [np.zeros(len(grid)) for grid in self.grids]
        self._requests = 0

    def add(self, scored: ScoredBatch, /) -> None:
        """Add a batch: run the stages from the changed one on, for each quota."""
        defined = scored.relevant.sum(-1) > 0
        self._requests += int(defined.sum())
        if not bool(defined.any()):
            return
        orders, relevant = scored.orders[:, defined], scored.relevant[defined]
        reached = scored.reached[:, defined]
        for stage, grid in enumerate(self.grids):
            for i, quota in enumerate(grid):
                changed = (quota, *self.quotas[stage + 1 :])
                kept = kept_by_stages(orders[stage:], changed, reached[stage])[-1]
                self._sums[stage][i] += float(share(kept, relevant).sum())

    @property
    def curves(self) -> list[NDArray[np.float64]]:
        """Joint recall for each quota of :attr:`grids`, by stage; NaN without requests."""
        with np.errstate(invalid="ignore"):
            return [sums / np.float64(self._requests) for sums in self._sums]


def quota_section(names: Sequence[str], found: QuotaCurves) -> Section:
    """Return the section on quotas.

    Args:
        names: names of the stages.
        found: result of the pass over the requests.
    """
    curves, rows, in_words = found.curves, [], []
    for stage, (name, grid, curve) in enumerate(zip(names, found.grids, curves, strict=True)):
        present = grid.index(found.quotas[stage])
        in_words.append(
            f"{name} from {number(curve[0])} with {grid[0]:,} to {number(curve[-1])} with "
            f"{grid[-1]:,}"
        )
        rows += [
            (
                name,
                f"{quota:,}" + " (now)" * (i == present),
                number(curve[i]),
                number(curve[i] - curve[present], sign="+"),
            )
            for i, quota in enumerate(grid)
        ]
    marked = tuple(i for i, row in enumerate(rows) if row[1].endswith("(now)"))
    larger = [
        (
            curve[i] - curve[grid.index(quota)],
            f"{name} {number(curve[i] - curve[grid.index(quota)], sign='+')} (from {quota:,} to "
            f"{grid[i]:,})",
        )
        for name, quota, grid, curve in [
            *zip(names, found.quotas, found.grids, curves, strict=True)
        ][:-1]  # the quota of the last stage only lengthens the final list
        if (i := _index(grid, quota * 5 / 4)) is not None
    ]
    larger.sort(reverse=True)
    none = "No quota can be a quarter larger: the next stages would pass on more than they get."
    if len(names) == 1:
        none = "The only quota is the length of the final list."
    return Section(
        key="quotas",
        title="Quotas: joint recall as a function of each quota",
        finding=f"Joint recall with a quota a quarter larger, the others as they are: "
        f"{', '.join(text for _, text in larger)}."
        if larger
        else none,
        pictures=(
            Picture(
                name="quotas",
                caption="Joint recall of the same stages with another quota of one stage; the dot "
                f"is the present quota. {'; '.join(in_words)}.",
                height=2.9,
                narrow_height=2.3 * len(names),
                draw=lambda figure, narrow: _draw(figure, names, found, narrow=narrow),
            ),
        ),
        tables=(
            DataTable(
                caption="Joint recall by quota",
                head=("Stage", "Quota", "Joint recall", "Change"),
                rows=tuple(rows),
                folded=True,
                marked=marked,
            ),
        ),
        notes=(
            "Exact for the scores of this run, which was trained for the present quotas. A quota "
            f"stays between those of its neighbours. The quota of the last stage, {names[-1]}, is "
            "the length of the final list: a longer list has a higher recall at no cost.",
        ),
    )


def _index(grid: Sequence[int], quota: float) -> int | None:
    """Return the index of a quota in the grid, rounded as there; ``None`` if it is not in it."""
    return grid.index(round(quota)) if round(quota) in grid else None


def _draw(figure: Any, names: Sequence[str], found: QuotaCurves, *, narrow: bool) -> None:
    panels = columns_of(figure, len(names), narrow=narrow, sharey=True)
    for stage, (axes, name, grid, curve) in enumerate(
        zip(panels, names, found.grids, found.curves, strict=True)
    ):
        present = grid.index(found.quotas[stage])
        axes.plot(grid, curve, color=stage_colour(stage), marker=".", ms=4)
        axes.axvline(grid[present], color=MUTED, lw=1, ls="--")
        axes.plot(grid[present], curve[present], "o", color=INK, ms=6)
        axes.annotate(
            f"now {grid[present]:,}", (grid[present], 0), xycoords=("data", "axes fraction"),
            xytext=(3, 4), textcoords="offset points", color=MUTED, fontsize=8.5,
        )  # fmt: skip
        axes.set_title(name)
        axes.set_xlabel("quota")
        axes.grid(axis="y")
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=5)
    panels[0].set_ylabel("joint recall")
