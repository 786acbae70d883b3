"""Funnel utility: user interest in the candidates that remain after all later stages."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cascaderank.errors import ShapeError
from cascaderank.selection import select, total
from cascaderank.tensors import check_lists


def funnel_utility(
    scores: Tensor,
    interest: Tensor,
    *,
    quota: int,
    later: Tensor | None = None,
    later_quotas: Sequence[int] = (),
    mask: Tensor | None = None,
) -> Tensor:
    r"""Return the total user interest in the exposed candidates, given the scores of a stage.

    .. math::
        U = \sum_{v \in I^S(I^i)} r(u, v)

    :math:`I^i` is the set that the stage keeps, :math:`I^S(I^i)` the subset that the later stages
    keep. The ranking of the generalised probability ranking principle maximises the utility. The
    ranking by interest alone (the probability ranking principle) can have utility 0, since a
    candidate contributes nothing if a later stage drops it. If later stages are stochastic, average
    the utility over several draws of their scores.

    Args:
        scores: ``[batch, list]``, scores of the stage; higher is better.
        interest: ``[batch, list]``, r: interest of the user in each candidate if exposed.
        quota: number of candidates that the stage keeps.
        later: ``[stages, batch, list]``, scores of the later stages; by default there are none.
        later_quotas: number of candidates that each later stage keeps, non-increasing, at most
            ``quota``.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[batch]``, sum of the interest in the exposed candidates.

    Raises:
        ShapeError: if the shapes or dtypes of the tensors do not agree.
        ConfigError: if the quotas are not positive or increase.

    Examples:
        >>> interest = torch.tensor([[1.0, 0.8, 0.1]])
        >>> later = torch.tensor([[[0.0, 0.5, 1.0]]])  # one later stage, which keeps one candidate
        >>> options = {"quota": 2, "later": later, "later_quotas": (1,)}
        >>> funnel_utility(interest, interest, **options)
        tensor([0.8000])
        >>> funnel_utility(later[0], interest, **options)
        tensor([0.1000])

    Source: FS-LTR, section 4.
    """
    mask = check_lists(scores, interest, mask)
    if scores.dim() != 2 or (later is not None and later.shape[1:] != scores.shape):
        shape = None if later is None else list(later.shape)
        raise ShapeError(
            "scores must be [batch, list] and later [stages, batch, list]; "
            f"got {list(scores.shape)} and {shape}"
        )
    every = scores[None] if later is None else torch.cat([scores[None], later.to(scores.dtype)])
    exposed = select(every, (quota, *later_quotas), mask)[-1]
    return total(interest.masked_fill(~exposed, 0.0))
