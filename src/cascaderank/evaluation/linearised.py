"""Metrics that are no means over requests, as values per request whose mean they are.

Means, intervals and paired tests over requests then hold for them, and need not know of it.
"""

import math

import torch
from torch import Tensor


def linearised_gauc(aucs: Tensor, weights: Tensor) -> Tensor:
    r"""One value per request whose mean is the GAUC, and whose spread is that of the GAUC.

    .. math:: G + \frac{w_r}{\bar w} (A_r - G)

    Args:
        aucs: ``[requests]``, NaN where undefined; those requests are left out.
        weights: ``[requests]``, at least 0.

    Returns:
        ``[requests]`` float64; NaN where ``aucs`` is. Single values may lie outside [0, 1].

    Examples:
        >>> linearised_gauc(torch.tensor([1.0, 0.5]), torch.tensor([3.0, 1.0])).tolist()
        [1.0625, 0.6875]

    Source: the linearised ratio estimator (Cochran, Sampling Techniques, section 2.11).
    """
    defined = ~aucs.isnan()
    values, weight = aucs.double(), weights.double() * defined
    whole = (values.where(defined, 0.0) * weight).sum() / weight.sum()
    mean = weight.sum() / defined.sum()
    return whole + weight / mean * (values - whole)


def linearised_auc(scores: Tensor, positive: Tensor, request: Tensor, requests: int) -> Tensor:
    r"""One value per request whose mean is the AUC of all candidates together.

    .. math:: A + R \left(\frac1P \sum_{i \in r, +} (V_i - A) +
              \frac1N \sum_{j \in r, -} (V_j - A)\right)

    :math:`V_i` is the share of the N candidates of the other class that a candidate is on the right
    side of; ties count half. R is how many requests have candidates. The spread of the values is
    that of the AUC if requests, and not candidates, are drawn.

    Args:
        scores: ``[candidates]`` of all requests.
        positive: ``[candidates]`` bool.
        request: ``[candidates]`` int64, which request each is of, from 0.
        requests: how many there are.

    Returns:
        ``[requests]`` float64; NaN where a request has no candidate, and everywhere if one class is
        empty. Single values may lie outside [0, 1].

    Examples:
        >>> scores, positive = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([True, True, False])
        >>> linearised_auc(scores, positive, torch.tensor([0, 0, 1]), 2).mean().item()
        0.5

    Source: DeLong et al. 1988, over clusters as Obuchowski 1997.
    """
    values = scores.new_full((requests,), math.nan, dtype=torch.float64)
    if not (positive.any() and (~positive).any()):
        return values
    placed = torch.empty_like(scores, dtype=torch.float64)
    for one, sign in ((positive, 1.0), (~positive, -1.0)):
        own, others = scores[one], scores[~one].sort().values
        below = torch.searchsorted(others, own, right=False).double()
        through = torch.searchsorted(others, own, right=True).double()
        share = (below + through) / (2 * len(others))
        placed[one] = share if sign > 0 else 1 - share
    auc = placed[positive].mean()
    count = torch.where(positive, positive.sum(), (~positive).sum())
    sums = torch.zeros_like(values).index_add(0, request, (placed - auc) / count)
    present = torch.bincount(request, minlength=requests) > 0
    return torch.where(present, auc + present.sum() * sums, math.nan)
