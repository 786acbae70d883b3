"""Kendall's tau-b: rank correlation of two orders, corrected for ties in either."""

from torch import Tensor

from cascaderank.metrics import METRICS
from cascaderank.metrics._pair_counts import count_pairs
from cascaderank.selection import result_dtype
from cascaderank.tensors import check_lists, undefined_to_nan


@METRICS.register
def kendall_tau_metric(scores: Tensor, labels: Tensor, *, mask: Tensor | None = None) -> Tensor:
    r"""Rank correlation of scores and labels, per list: Kendall's tau-b.

    .. math::
        \tau_b = \frac{C - D}{\sqrt{(C + D + T_s)(C + D + T_y)}}

    C and D are the numbers of pairs in the same and in opposite order, T_s and T_y the numbers of
    pairs that tie by score only and by label only.

    Args:
        scores: ``[..., list]``, higher is better. NaN ranks last.
        labels: ``[..., list]``, higher is better; only their order matters.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[...]`` in [-1, 1], float32 (float64 for float64 scores); NaN for a list whose scores
        or labels are all equal. Takes O(L^2) time.

    Raises:
        ShapeError: if the tensors do not agree.

    Examples:
        >>> import torch
        >>> kendall_tau_metric(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([2.0, 1.0, 0.0]))
        tensor(0.3333)

    Source: Kendall 1945.
    """
    mask = check_lists(scores, labels, mask)
    counts = count_pairs(scores, labels, mask)
    ordered = counts.right + counts.wrong
    both = (ordered + counts.tied_scores).sqrt() * (ordered + counts.tied_labels).sqrt()
    tau = undefined_to_nan((counts.right - counts.wrong) / both, labels, mask)
    return tau.to(result_dtype(scores))
