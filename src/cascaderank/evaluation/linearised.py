"""Linearised metrics: values per request whose mean is a metric that is not a mean itself.

Means, bootstrap intervals and paired tests over requests then apply to GAUC and pooled AUC without
special cases.
"""

import math

import torch
from torch import Tensor


def linearised_gauc(aucs: Tensor, weights: Tensor) -> Tensor:
    r"""Return one value per request such that the mean is the GAUC and the spread is that of GAUC.

    .. math:: G + \frac{w_r}{\bar w} (A_r - G)

    with the GAUC G, the AUC :math:`A_r` and the weight :math:`w_r` of request r, and the mean
    weight :math:`\bar w`.

    Args:
        aucs: ``[requests]``; NaN where undefined, and those requests are excluded.
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
    r"""Return one value per request such that the mean is the AUC of all candidates pooled.

    .. math:: A + R \left(\frac1P \sum_{i \in r, +} (V_i - A) +
              \frac1N \sum_{j \in r, -} (V_j - A)\right)

    A is the pooled AUC; P and N are the numbers of positive and negative candidates. :math:`V_i` is
    the share of candidates of the other class that candidate i is ranked correctly against; ties
    count one half. R is the number of requests with candidates. The variance of the values is that
    of the AUC when requests, not candidates, are sampled.

    Args:
        scores: ``[candidates]``, scores of the candidates of all requests.
        positive: ``[candidates]`` bool, ``True`` for a positive candidate.
        request: ``[candidates]`` int64, index of the request of each candidate, from 0.
        requests: number of requests.

    Returns:
        ``[requests]`` float64; NaN where a request has no candidate, and everywhere if either class
        is empty. Single values may lie outside [0, 1].

    Examples:
        >>> scores, positive = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([True, True, False])
        >>> linearised_auc(scores, positive, torch.tensor([0, 0, 1]), 2).mean().item()
        0.5

    Source: DeLong et al. 1988, for clustered data as in Obuchowski 1997.
    """
    values = scores.new_full((requests,), math.nan, dtype=torch.float64)
    if not (positive.any() and (~positive).any()):
        return values
    correct = torch.empty_like(scores, dtype=torch.float64)
    for members, sign in ((positive, 1.0), (~positive, -1.0)):
        own, others = scores[members], scores[~members].sort().values
        below = torch.searchsorted(others, own, right=False).double()
        through = torch.searchsorted(others, own, right=True).double()
        share = (below + through) / (2 * len(others))
        correct[members] = share if sign > 0 else 1 - share
    auc = correct[positive].mean()
    count = torch.where(positive, positive.sum(), (~positive).sum())
    sums = torch.zeros_like(values).index_add(0, request, (correct - auc) / count)
    present = torch.bincount(request, minlength=requests) > 0
    return torch.where(present, auc + present.sum() * sums, math.nan)
