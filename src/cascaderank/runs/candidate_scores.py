"""Scores of all stages for every candidate, and the result of the cascade: alive, rank, stage."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.errors import DataError
from cascaderank.selection import final_ranks


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateScores:
    """Scores of the candidates of some requests, concatenated without padding."""

    lengths: NDArray[np.int64]
    """``[requests]`` number of candidates of each request."""
    scores: NDArray[np.float32]
    """``[stages, candidates]``, higher is better."""
    alive: NDArray[np.bool_]
    """``[stages, candidates]``, whether the candidate is kept by the stage and all before it."""
    ranks: NDArray[np.int64]
    """``[candidates]`` rank in the final list, 1 is the best; 0 if a stage cut the candidate."""

    def ordered(self, places: NDArray[np.int64]) -> "CandidateScores":
        """Return the candidates in another order.

        Args:
            places: ``[candidates]`` new place of each candidate, inside its request.
        """

        def moved(values: NDArray[Any]) -> Any:
            result = np.empty_like(values)
            result[..., places] = values
            return result

        return CandidateScores(
            lengths=self.lengths,
            scores=moved(self.scores),
            alive=moved(self.alive),
            ranks=moved(self.ranks),
        )

    def columns(self, stages: Sequence[str]) -> dict[str, pl.Series]:
        """Return the result as columns, ``[candidates]`` each.

        Args:
            stages: names of the stages.

        Returns:
            ``score/STAGE`` (float32) and ``alive/STAGE`` (bool) of each stage, ``rank`` (int32,
            null if a stage cut the candidate) and ``stage_reached`` (name of the last stage that
            received the candidate).
        """
        ranks = pl.Series(self.ranks.astype(np.int32))
        reached = self.alive[:-1].sum(axis=0)
        columns = {
            **{f"score/{n}": pl.Series(self.scores[i]) for i, n in enumerate(stages)},
            **{f"alive/{n}": pl.Series(self.alive[i]) for i, n in enumerate(stages)},
            "rank": ranks.set(ranks == 0, None),
            "stage_reached": pl.Series(list(stages), dtype=pl.String).gather(reached),
        }
        return {name: column.alias(name) for name, column in columns.items()}


def result_columns(stages: Sequence[str]) -> list[str]:
    """Return the names of the columns of :meth:`CandidateScores.columns`.

    Args:
        stages: names of the stages.

    Examples:
        >>> result_columns(["ranking"])
        ['score/ranking', 'alive/ranking', 'rank', 'stage_reached']
    """
    kinds = ("score", "alive")
    return [*(f"{kind}/{n}" for kind in kinds for n in stages), "rank", "stage_reached"]


def scores_of(cascade: Cascade, batch: RequestBatch) -> CandidateScores:
    """Score the candidates of a batch by all stages, and run the cascade.

    Args:
        cascade: cascade on any device; evaluated without dropout.
        batch: requests.

    Raises:
        DataError: if a score is NaN.
    """
    with evaluating(cascade), torch.no_grad():
        scores = cascade(batch.to(device_of(cascade))).float().cpu()
    alive = cascade.select(scores, batch.mask)
    ranks = final_ranks(scores[-1], alive[-1])
    real = check_scores(scores, batch.mask)
    return CandidateScores(
        lengths=batch.mask.sum(-1).numpy(),
        scores=real.numpy(),
        alive=alive[:, batch.mask].numpy(),
        ranks=ranks[batch.mask].numpy(),
    )


def check_scores(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the scores of the real candidates, ``[stages, candidates]``, which must be numbers.

    Args:
        scores: ``[stages, batch, list]``.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.

    Raises:
        DataError: if a score is NaN.
    """
    real = scores[:, mask]
    wrong = int(real.isnan().sum())
    if wrong:
        raise DataError(
            f"scores must be numbers; got NaN for {wrong} of {real.numel()} pairs of a stage and "
            "a candidate; the weights or the features of these candidates are not finite"
        )
    return real


def joined(parts: Sequence[CandidateScores], stages: int) -> CandidateScores:
    """Concatenate the scores of several batches; ``stages`` is their number of stages."""
    none = np.zeros(0, np.int64)
    return CandidateScores(
        lengths=np.concatenate([none, *(p.lengths for p in parts)]),
        scores=np.concatenate([np.zeros((stages, 0), np.float32), *(p.scores for p in parts)], 1),
        alive=np.concatenate([np.zeros((stages, 0), np.bool_), *(p.alive for p in parts)], 1),
        ranks=np.concatenate([none, *(p.ranks for p in parts)]),
    )


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the parameters of a module; the CPU if it has none."""
    tensors = chain(module.parameters(), module.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Set a module to evaluation mode, and restore the mode of each of its modules at exit."""
    training = [m for m in module.modules() if m.training]
    try:
        for m in training:
            m.training = False
        yield
    finally:
        for m in training:
            m.training = True
