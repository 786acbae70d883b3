"""One pass over test requests with the cascade of a run; sections collect what they need."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import torch
from torch import Tensor

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.data.split import Rows
from cascaderank.errors import DataError
from cascaderank.evaluation.evaluate import evaluation_mode
from cascaderank.progress import Progress, Silent
from cascaderank.runs.data import RunData
from cascaderank.selection import best_first, kept_by_stages, relevance_of
from cascaderank.settings.run import RunSettings


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredBatch:
    """Requests with the scores of all stages and the result of the cascade, on the CPU."""

    batch: RequestBatch
    scores: Tensor
    """``[stages, batch, list]`` float64, as in an evaluation."""
    orders: Tensor
    """``[stages, batch, list]`` indices of the candidates by each stage, best first."""
    kept: Tensor
    """``[stages, batch, list]`` bool, alive after each stage."""
    reached: Tensor
    """``[stages, batch, list]`` bool, received by each stage."""
    relevant: Tensor
    """``[batch, list]`` float64 in [0, 1], share in the ground truth."""
    labels: Tensor
    """``[batch, list]``."""
    quotas: tuple[int, ...]

    @property
    def mask(self) -> Tensor:
        """``[batch, list]`` bool, real candidates."""
        return self.batch.mask


class Collector(Protocol):
    """Protocol of what a section collects from the scores."""

    def add(self, scored: ScoredBatch, /) -> None:
        """Add a batch of requests."""


def scored_batch(
    batch: RequestBatch,
    scores: Tensor,
    *,
    quotas: Sequence[int],
    k: int | None = None,
    threshold: float | None = None,
) -> ScoredBatch:
    """Run the hard cascade on scored requests.

    Args:
        batch: requests with labels.
        scores: ``[stages, batch, list]`` float64.
        quotas: number of candidates that each stage keeps.
        k: size of the ground truth, the top ``k`` candidates by label.
        threshold: minimum label of the ground truth.
    """
    labels = batch.labels if batch.labels is not None else torch.zeros(batch.mask.shape)
    orders = best_first(scores)
    kept = kept_by_stages(orders, quotas, batch.mask)
    return ScoredBatch(
        batch=batch,
        scores=scores,
        orders=orders,
        kept=kept,
        reached=torch.cat([batch.mask[None], kept[:-1]]),
        relevant=relevance_of(labels, k=k, threshold=threshold, mask=batch.mask),
        labels=labels,
        quotas=tuple(quotas),
    )


def score_requests(
    cascade: Cascade,
    settings: RunSettings,
    data: RunData,
    rows: Rows,
    collectors: Sequence[Collector],
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> None:
    """Score requests batch by batch and pass the result to all collectors.

    Scores and candidates kept are those of :func:`~cascaderank.evaluation.evaluate`.

    Args:
        cascade: cascade on ``device``.
        settings: settings of the run.
        data: data of the run, with labels.
        rows: row numbers of the requests.
        collectors: receive each batch.
        device: device of the computation.
        progress: receives the number of batches done.

    Raises:
        DataError: if the data has no labels, or a score is NaN.
    """
    progress, truth = progress or Silent(), settings.ground_truth
    loader = data.loader(rows)
    progress.start("scoring", loader.batches_per_epoch)
    with evaluation_mode(cascade), torch.no_grad():
        for batch in loader.epoch(0):
            if batch.labels is None:
                raise DataError(f"{data.log.path}: expected labels, found none")
            scores = cascade(batch.to(device)).to("cpu", torch.float64)
            if bool((scores.isnan() & batch.mask).any()):
                raise DataError("scores must be numbers; got NaN; the weights are not finite")
            scored = scored_batch(
                batch, scores, quotas=cascade.quotas, k=truth.top, threshold=truth.threshold
            )
            for collector in collectors:
                collector.add(scored)
            progress.advance()
    progress.stop()


def evenly(rows: Rows, most: int) -> Rows:
    """Return at most ``most`` rows, at equal distances.

    Examples:
        >>> evenly(np.arange(10), 4).tolist(), evenly(np.arange(3), 4).tolist()
        ([0, 2, 5, 7], [0, 1, 2])
    """
    if len(rows) <= most:
        return rows
    return rows[np.arange(most) * len(rows) // most]
