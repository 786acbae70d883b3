"""AUC: probability that a positive candidate scores higher than a negative one."""

import torch
from torch import Tensor

from cascaderank.metrics import METRICS
from cascaderank.selection import relevance_of, result_dtype, total
from cascaderank.tensors import check_lists


@METRICS.register
def auc_metric(
    scores: Tensor,
    labels: Tensor,
    *,
    k: int | None = None,
    threshold: float | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Area under the ROC curve, per list.

    .. math::
        \text{AUC} = \frac{\sum_{ij} z_i (1 - z_j) \left([s_i > s_j] + \frac12 [s_i = s_j]\right)}
                     {\sum_i z_i \sum_j (1 - z_j)}

    Flatten a batch into one list for the AUC over all candidates. GAUC is the mean of the AUC of
    each request, weighted by its number of impressions.

    Args:
        scores: ``[..., list]``, higher is better. NaN ranks last.
        labels: ``[..., list]``, higher is better.
        k: the positives are the top ``k`` by label; candidates that tie for the last places share
            them equally.
        threshold: the positives are all labels of at least this value; pass this or ``k``.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[...]`` in [0, 1], float32 (float64 for float64 scores); NaN for a list without
        positives or without negatives. Takes O(L log L) time.

    Raises:
        ShapeError: if the tensors do not agree.
        ConfigError: if neither ``k`` nor ``threshold`` is given.

    Examples:
        >>> auc_metric(torch.tensor([3.0, 2.0, 2.0]), torch.tensor([1.0, 1.0, 0.0]), threshold=1)
        tensor(0.7500)

    Source: Fawcett 2006; ties count half.
    """
    mask = check_lists(scores, labels, mask)
    positive = relevance_of(labels, k=k, threshold=threshold, mask=mask)
    negative = mask.double() - positive
    ranked, order = scores.masked_fill(scores.isnan(), -torch.inf).sort(dim=-1, stable=True)
    wins, losses = positive.gather(-1, order), negative.gather(-1, order)
    if ranked.shape[-1] == 0:
        return torch.full(ranked.shape[:-1], torch.nan, dtype=result_dtype(scores))
    # First and last position of the run of equal scores that contains each candidate.
    ends = torch.ones_like(ranked, dtype=torch.bool)
    ends[..., :-1] = ranked[..., 1:] != ranked[..., :-1]
    starts = ends.roll(1, -1)
    below = losses.cumsum(-1)
    before = (below - losses).masked_fill(~starts, -1.0).cummax(-1).values
    through = below.masked_fill(~ends, torch.inf).flip(-1).cummin(-1).values.flip(-1)
    right = total(wins * (before + through) / 2)
    return (right / (total(wins) * total(losses))).to(result_dtype(scores))
