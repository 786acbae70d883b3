"""ApproxNDCG: NDCG with ranks that are counted softly."""

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._gains import discount, normalised_gains
from cascaderank.relevance import Gain
from cascaderank.sorting import check_temperature
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists


@LOSSES.register
def approx_ndcg_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.1,
    gain: Gain = "exponential",
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""What the NDCG of soft ranks lacks to 1.

    .. math::
        \ell = 1 - \sum_i \frac{G_i}{\log_2(1 + r_i)}, \qquad
        r_i = 1 + \sum_{j \ne i} \sigma\left(\frac{s_j - s_i}{\tau}\right)

    G is the gain over the best DCG of the list. Takes memory of the square of the list's length.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, at least 0; higher is better.
        temperature: score units over which a rank is blurred; positive.
        gain: ``"exponential"`` for ``2^y - 1``, ``"linear"`` for ``y``.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        In [0, 1], of the scores' dtype. Exactly 0 for a list where nothing gains.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if an option is unknown or out of range.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> approx_ndcg_loss(torch.tensor([0.3, 0.2, 0.1]), labels)
        tensor(0.1683)
        >>> approx_ndcg_loss(torch.tensor([0.1, 0.2, 0.3]), labels)
        tensor(0.3803)

    Source: Qin, Liu and Li 2010; as compared by ARF (arXiv 2310.10462).
    """
    check_temperature(temperature)
    mask = check_lists(scores, labels, mask)
    gains = normalised_gains(labels, gain=gain, m=None, like=scores, mask=mask)
    filled = at_least_float32(scores.masked_fill(~mask, 0.0))
    ahead = ((filled[..., None, :] - filled[..., :, None]) / temperature).sigmoid()
    # A candidate is half ahead of itself, which is not counted.
    rank = 0.5 + (ahead * mask[..., None, :]).sum(-1)
    reached = (gains * discount(rank)).sum(-1)
    cost = torch.where((gains > 0).any(-1), (1 - reached).clamp(min=0.0), 0 * reached)
    return reduce_lists(cost, reduction).to(scores.dtype)
