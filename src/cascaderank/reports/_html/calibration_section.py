"""Section on survival probability: does the objective's relaxation agree with the hard cascade?"""

from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.objectives import CascadeInputs, Objective
from cascaderank.reports._html.blocks import DataTable, Picture, Section
from cascaderank.reports._html.drawing import (
    INK,
    LINES,
    MARKERS,
    MUTED,
    columns_of,
    stage_colour,
)
from cascaderank.reports._html.reported_run import ReportedRun
from cascaderank.reports._html.scoring_pass import ScoredBatch
from cascaderank.reports._html.wording import number, size
from cascaderank.selection import keep
from cascaderank.sorting import top_k_probability

Floats = NDArray[np.float64]

_BINS, _MOST_REQUESTS = 10, 512
_PAIRS_AT_ONCE = 1 << 24
ALL = "all stages"
"""Name of the product of the probabilities of all stages."""


@final
class Calibration:
    """Survival probabilities of the objective, and what the hard cascade keeps, by bin.

    The probability of a stage is that its operator, at the temperature of the end of training, puts
    a candidate among the quota; that of the cascade is the product over the stages.

    Args:
        schedule: operator and temperature of the objective.
        quotas: quotas, first stage first.
    """

    def __init__(self, schedule: Any, quotas: Sequence[int]) -> None:
        self.schedule, self.quotas = schedule, tuple(quotas)
        self.counts, self.predicted, self.kept = np.zeros((3, len(quotas) + 1, _BINS))
        """``[stages + 1, bins]`` number of candidates, sum of probabilities, and number kept; the
        last row is of the whole cascade."""
        self._distance = np.zeros(len(quotas) + 1)
        self._requests = 0

    @classmethod
    def of(cls, objective: Objective, quotas: Sequence[int]) -> Self | None:
        """Return the calibration of an objective; ``None`` if it has no survival probability."""
        for term in objective.terms:
            function = getattr(term.function, "func", term.function)  # of a partial
            schedule = getattr(getattr(function, "__self__", None), "schedule", None)
            if schedule is not None:
                return cls(schedule, quotas)
        return None

    def add(self, scored: ScoredBatch, /) -> None:
        """Add a batch; the first requests suffice, as each has many candidates."""
        length = scored.mask.shape[1]
        step = max(1, _PAIRS_AT_ONCE // length**2)  # operators compare all pairs of a list
        for first in range(0, min(len(scored.labels), _MOST_REQUESTS - self._requests), step):
            part = slice(first, first + step)
            scores, mask = scored.scores[:, part].float(), scored.mask[part]
            stages = self._probabilities(scores, scored.labels[part], mask)
            orders = scored.orders[:, part]
            alone = [keep(o, mask, quota) for o, quota in zip(orders, self.quotas, strict=True)]
            whole = torch.stack(stages).prod(0), scored.kept[-1, part]
            for row, (probability, kept) in enumerate([*zip(stages, alone, strict=True), whole]):
                self._count(row, probability[mask].double().numpy(), kept[mask].double().numpy())
        self._requests += len(scored.labels)

    def _probabilities(self, scores: Tensor, labels: Tensor, mask: Tensor) -> list[Tensor]:
        """Return the survival probability of each stage alone, ``[batch, list]`` each."""
        inputs = CascadeInputs(scores=scores, labels=labels, mask=mask, levels=None)
        temperature = self.schedule.of_stages(inputs)
        return [
            top_k_probability(
                own,
                quota,
                operator=self.schedule.operator,
                temperature=temperature[t] if isinstance(temperature, Tensor) else temperature,
                mask=mask,
            )
            for t, (own, quota) in enumerate(zip(scores, self.quotas, strict=True))
        ]

    def _count(self, row: int, p: Floats, kept: Floats) -> None:
        bins = np.minimum((p * _BINS).astype(np.int64), _BINS - 1)
        self.counts[row] += np.bincount(bins, minlength=_BINS)
        self.predicted[row] += np.bincount(bins, p, minlength=_BINS)
        self.kept[row] += np.bincount(bins, kept, minlength=_BINS)
        self._distance[row] += np.abs(p - kept).sum()

    def distance(self, row: int) -> float:
        """Return the mean distance of the probability of a candidate from 1 if kept, else from 0.

        Args:
            row: index of the stage, or the number of stages for the whole cascade.
        """
        total = self.counts[row].sum()
        return float(self._distance[row] / total) if total else float("nan")


def calibration_section(reported: ReportedRun, found: Calibration | None) -> Section:
    """Return the section on survival probability.

    Args:
        reported: the run.
        found: result of the pass; ``None`` if the objective has no survival probability.
    """
    title, objective = "Calibration of survival probability", reported.settings.objective.name
    if found is None:
        return Section(
            key="calibration",
            title=title,
            finding=f"The objective {objective} has no survival probability.",
        )
    rows = [*reported.stages, ALL][: len(reported.stages) + 1]
    used = range(len(rows)) if len(reported.stages) > 1 else [0]
    in_words = ", ".join(f"{rows[i]} {number(found.distance(i))}" for i in used)
    return Section(
        key="calibration",
        title=title,
        finding=f"Mean distance between the survival probability of {objective} and the hard cut: "
        f"{in_words}.",
        pictures=(
            Picture(
                name="calibration",
                caption="Share of candidates that the hard cut keeps, by the survival probability "
                f"of {objective}; on the diagonal both agree. Mean distance: {in_words}.",
                height=3.4,
                narrow_height=3.6,
                draw=lambda figure, narrow: _draw(figure, found, rows, used, narrow=narrow),
            ),
        ),
        tables=(
            DataTable(
                caption="Candidates by survival probability",
                head=("Stage", "Probability", "Candidates", "Mean probability", "Share kept"),
                rows=tuple(
                    (
                        rows[i],
                        f"{b / _BINS:.1f} to {(b + 1) / _BINS:.1f}",
                        size(found.counts[i, b]),
                        number(found.predicted[i, b] / found.counts[i, b]),
                        number(found.kept[i, b] / found.counts[i, b]),
                    )
                    for i in used
                    for b in range(_BINS)
                    if found.counts[i, b]
                ),
                folded=True,
            ),
        ),
        notes=(
            "Training follows the probability, serving the hard cut. A curve steeper than the "
            "diagonal has a temperature that is high for these scores: training sees candidates "
            "as undecided that are far from the cut. Mean distance: 0 if every probability is 0 or "
            "1 and right. Stages are compared over all candidates; all stages: the product of the "
            "probabilities, for which every stage alone must keep a candidate, against the result.",
        ),
    )


def _draw(
    figure: Any, found: Calibration, rows: Sequence[str], used: Sequence[int], *, narrow: bool
) -> None:
    (axes,) = columns_of(figure, 1, narrow=narrow)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=":")
    handles = []
    for i in used:
        some = found.counts[i] > 0
        last = i == len(rows) - 1 and len(rows) > 2
        handles += axes.plot(
            found.predicted[i][some] / found.counts[i][some],
            found.kept[i][some] / found.counts[i][some],
            LINES[i % len(LINES)],
            color=INK if last else stage_colour(i),
            marker=MARKERS[i % len(MARKERS)],
            ms=5,
        )
    axes.set_xlabel("survival probability")
    axes.set_ylabel("share kept")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.grid()
    axes.legend(
        handles, [rows[i] for i in used],
        loc="lower right" if narrow else "center left",
        bbox_to_anchor=None if narrow else (1.0, 0.5),
    )  # fmt: skip
