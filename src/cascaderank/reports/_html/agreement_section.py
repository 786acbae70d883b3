"""Section on the agreement of neighbouring stages: overlap of their top candidates."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.evaluation import Summary, bootstrap_interval, ranking_consistency
from cascaderank.reports._html.blocks import DataTable, Picture, Section
from cascaderank.reports._html.drawing import LINES, MARKERS, MUTED, columns_of, stage_colour
from cascaderank.reports._html.scoring_pass import ScoredBatch
from cascaderank.reports._html.wording import number, span

_TOPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@final
class Agreement:
    """Ranking consistency of each stage with the next, for several sizes of the top.

    Args:
        quotas: quotas, first stage first; at least two.
    """

    def __init__(self, quotas: Sequence[int]) -> None:
        self.quotas = tuple(quotas)
        largest = max(quotas[1:], default=1)
        self.tops = sorted({*(k for k in _TOPS if k < largest), *quotas[1:]})
        self._sums = np.zeros((len(self.tops), len(quotas) - 1))
        self._counts = np.zeros_like(self._sums)
        self._at_quota: list[NDArray[np.float64]] = []
        self._chance = np.zeros_like(self._sums)

    def add(self, scored: ScoredBatch, /) -> None:
        """Add a batch."""
        received = scored.kept[:-1].sum(-1).double().numpy()
        for i, k in enumerate(self.tops):
            values = ranking_consistency(
                scored.scores, quotas=self.quotas, k=k, mask=scored.mask
            ).numpy()
            defined = ~np.isnan(values)
            self._sums[i] += np.where(defined, values, 0).sum(-1)
            self._counts[i] += defined.sum(-1)
            with np.errstate(divide="ignore", invalid="ignore"):
                chance = np.minimum(1, k / received)
            self._chance[i] += np.where(defined, chance, 0).sum(-1)
        at_quota = ranking_consistency(scored.scores, quotas=self.quotas, mask=scored.mask)
        self._at_quota.append(at_quota.double().numpy())

    @property
    def curves(self) -> NDArray[np.float64]:
        """``[tops, stages - 1]`` mean consistency for each of :attr:`tops`."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._sums / self._counts

    @property
    def chance(self) -> NDArray[np.float64]:
        """``[tops, stages - 1]`` the same of a random order of the later stage."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._chance / self._counts

    def summaries(self, *, resamples: int, seed: int) -> list[Summary]:
        """Return the consistency at the quota of the later stage, with intervals."""
        values = np.concatenate(self._at_quota, axis=1)
        return [bootstrap_interval(row, resamples=resamples, seed=seed) for row in values]


def agreement_section(
    names: Sequence[str], found: Agreement, *, resamples: int, seed: int
) -> Section:
    """Return the section on the agreement of neighbouring stages.

    Args:
        names: names of the stages.
        found: result of the pass over the requests.
        resamples: number of bootstrap replicates.
        seed: seed of the bootstrap.
    """
    title = "Agreement of neighbouring stages"
    if len(names) < 2:
        return Section(key="agreement", title=title, finding="The cascade has one stage.")
    pairs = [f"{one} and {other}" for one, other in pairwise(names)]
    at_quota = found.summaries(resamples=resamples, seed=seed)
    chance = [found.chance[found.tops.index(quota), t] for t, quota in enumerate(found.quotas[1:])]
    in_words = [
        f"{pair} share {number(summary.mean)} of their top {quota:,} (by chance {number(c)})"
        for pair, summary, quota, c in zip(pairs, at_quota, found.quotas[1:], chance, strict=True)
    ]
    return Section(
        key="agreement",
        title=title,
        finding=f"{'; '.join(in_words)}.",
        pictures=(
            Picture(
                name="agreement",
                caption="Overlap of the top candidates of a stage and of the next one, among those "
                f"that the first keeps, by the size of the top; dotted: by chance. At the quota "
                f"of the later stage, {'; '.join(in_words)}.",
                height=2.9,
                narrow_height=3.2,
                draw=lambda figure, narrow: _draw(figure, pairs, found, narrow=narrow),
            ),
        ),
        tables=(
            DataTable(
                caption="Ranking consistency (RCS) of each stage with the next",
                head=("Stages", "Top", "Consistency", "Interval", "By chance"),
                rows=tuple(
                    (
                        pair,
                        f"{k:,}" + " (quota)" * (k == found.quotas[t + 1]),
                        number(found.curves[i, t]),
                        span(at_quota[t]) if k == found.quotas[t + 1] else "",
                        number(found.chance[i, t]),
                    )
                    for t, pair in enumerate(pairs)
                    for i, k in enumerate(found.tops)
                    if k <= found.quotas[t + 1]
                ),
                folded=True,
            ),
        ),
        notes=(
            "Consistency compares two stages with each other, not with the ground truth: low "
            "values show that the earlier stage does not prepare what the later one prefers.",
        ),
    )


def _draw(figure: Any, pairs: Sequence[str], found: Agreement, *, narrow: bool) -> None:
    (axes,) = columns_of(figure, 1, narrow=narrow)
    handles = []
    for t in range(len(pairs)):
        shown = [i for i, k in enumerate(found.tops) if k <= found.quotas[t + 1]]
        x = [found.tops[i] for i in shown]
        handles += axes.plot(
            x, found.curves[shown, t], LINES[t % len(LINES)], color=stage_colour(t),
            marker=MARKERS[t % len(MARKERS)], ms=5,
        )  # fmt: skip
        chance = axes.plot(x, found.chance[shown, t], ":", color=MUTED, lw=1.2)
    axes.set_xscale("log")
    ticks = [k for k in _TOPS if k <= found.tops[-1]]
    axes.set_xticks(ticks, [f"{k:,}" for k in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("size of the top")
    axes.set_ylabel("overlap")
    axes.grid(axis="y")
    axes.legend([*handles, *chance], [*pairs, "by chance"], loc="best")
