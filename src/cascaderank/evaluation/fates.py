"""Fates: the rank of each candidate in each stage, and its distance to the cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from cascaderank.selection import final_ranks, select
from cascaderank.tensors import check_quotas


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Fates:
    """What each stage of a cascade does with each candidate.

    Distances to the cut are positive for what a stage keeps and negative for what it cuts.
    """

    received: Tensor
    """``[stages, batch, list]`` bool: candidates that the stages before this one keep."""
    kept: Tensor
    """``[stages, batch, list]`` bool: candidates that this stage and all before it keep."""
    ranks: Tensor
    """``[stages, batch, list]`` int64: rank among the received candidates, 1 is the best; 0 for a
    candidate that was not received."""
    rank_margins: Tensor
    """``[stages, batch, list]`` int64: quota minus rank: 0 for the last that is kept, -1 for the
    first that is cut; 0 for a candidate that was not received."""
    score_margins: Tensor
    """``[stages, batch, list]``: score minus that of the best candidate that is cut, at least 0, of
    a candidate that is kept; score minus that of the last candidate that is kept, at most 0, of a
    candidate that is cut. NaN for a candidate that was not received, or if the stage cuts none."""

    @property
    def cut_by(self) -> Tensor:
        """``[batch, list]`` int64: index of the stage that cuts the candidate.

        It is the number of stages for a candidate of the final list, and 0 for padding.
        """
        return self.kept.sum(0)


def fates(scores: Tensor, quotas: Sequence[int], mask: Tensor | None = None) -> Fates:
    """Return rank and distance to the cut of each candidate in each stage that receives it.

    Args:
        scores: ``[stages, batch, list]`` floating point, first stage first; higher is better.
        quotas: number of candidates that each stage passes on, one per stage; non-increasing.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if quotas are not positive or increase.

    Examples:
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0]]])
        >>> found = fates(scores, (2, 1))
        >>> found.ranks[:, 0].tolist()  # the second stage does not receive the third candidate
        [[1, 2, 3], [2, 1, 0]]
        >>> found.score_margins[:, 0].tolist()
        [[2.0, 1.0, -1.0], [-1.0, 1.0, nan]]
        >>> found.cut_by.tolist()
        [[1, 2, 0]]

    Source: this project.
    """
    kept = select(scores, quotas, mask)
    limits = scores.new_tensor(check_quotas(quotas, stages=len(scores)), dtype=torch.int64)
    first = torch.ones_like(kept[0]) if mask is None else mask
    received = torch.cat([first[None], kept[:-1]])
    ranks = final_ranks(scores, received)
    limits = limits[:, None, None]
    # Exactly one candidate has each of these ranks, or none, if the stage receives fewer.
    last, next_best = (_score_at(scores, ranks == limits + below) for below in (0, 1))
    margins = torch.where(kept, scores - next_best, scores - last)
    undefined = ~received | next_best.isnan()
    return Fates(
        received=received,
        kept=kept,
        ranks=ranks,
        rank_margins=torch.where(received, limits - ranks, 0),
        # Equal infinite scores have no distance.
        score_margins=margins.nan_to_num(0.0, torch.inf, -torch.inf).masked_fill(
            undefined, torch.nan
        ),
    )


def _score_at(scores: Tensor, place: Tensor) -> Tensor:
    """Return the score of the one candidate at a place, ``[stages, batch, 1]``; NaN if none is."""
    of_place = scores.masked_fill(~place, 0.0).sum(-1, keepdim=True)
    return of_place.masked_fill(~place.any(-1, keepdim=True), torch.nan)
