"""What a stage is worth to users: the interest in what is left when later stages are done."""

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
    r"""Interest of the user in what is exposed, if a stage ranks by some scores.

    .. math::
        U = \sum_{v \in I^S(I^i)} r(u, v)

    :math:`I^i` is what the stage keeps, :math:`I^S(I^i)` what later stages leave of it. Of all
    rankings of the stage the best is that of the generalised probability ranking principle; that
    by interest alone (the probability ranking principle) can lose all of it, since what users
    like best is worth nothing where a later stage drops it. Where later stages are random, draw
    their scores several times and take the mean.

    Args:
        scores: ``[batch, list]``, what the stage ranks by.
        interest: ``[batch, list]``, r: how much the user would like each candidate if exposed.
        quota: how many candidates the stage keeps.
        later: ``[stages, batch, list]``, scores of the stages after it; none if not given.
        later_quotas: how many candidates each of these keeps; never grows, from ``quota`` on.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[batch]``.

    Raises:
        ShapeError: if the tensors do not agree.
        ConfigError: if quotas are not positive or grow.

    Examples:
        >>> interest = torch.tensor([[1.0, 0.8, 0.1]])
        >>> liked = torch.tensor([[0.0, 0.5, 1.0]])  # by the stage after it, which keeps one
        >>> ask = {"quota": 2, "later": liked[None], "later_quotas": (1,)}
        >>> funnel_utility(interest, interest, **ask)
        tensor([0.8000])
        >>> funnel_utility(liked, interest, **ask)
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
