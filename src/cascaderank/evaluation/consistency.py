"""Ranking consistency: whether a stage would have picked what the next one picks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cascaderank.selection import check_size, result_dtype, select, top, total


def ranking_consistency(
    scores: Tensor,
    *,
    quotas: Sequence[int],
    k: int | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Overlap of the top k of each stage and of the next, among what the next one gets: RCS.

    .. math:: \text{RCS}_t = \frac{|\operatorname{top}_k(A_t; s^t) \cap
              \operatorname{top}_k(A_t; s^{t+1})|}{\min(k, |A_t|)}

    :math:`A_t` is what the first t stages keep. It needs no labels: it says how far a stage agrees
    with the next, and not whether that is right.

    Args:
        scores: ``[stages, batch, list]``, at least two stages, first first; higher is better.
        quotas: how many candidates each stage passes on, one per stage; never grows.
        k: how many of the best are compared; the quota of the later stage if not given.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[stages - 1, batch]`` in [0, 1], for each stage but the last; NaN for a list without
        candidates. Take the ``nanmean``.

    Raises:
        ShapeError: if the tensors do not agree.
        ConfigError: if quotas grow or ``k`` is not positive.

    Examples:
        >>> scores = torch.tensor([[[4.0, 3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0, 4.0]]])
        >>> ranking_consistency(scores, quotas=(3, 2))
        tensor([[0.5000]])

    Source: Gu et al. 2022 (arXiv 2205.01289), as ECM (arXiv 2310.08039) measures by it.
    """
    reached = select(scores, quotas, mask)[:-1]
    values = []
    for t, alive in enumerate(reached):
        size = quotas[t + 1] if k is None else check_size(k, "k")
        here, there = (top(scores[s], size, alive) for s in (t, t + 1))
        overlap, most = total((here & there).double()), total(here.double())
        values.append(overlap / most)
    empty = scores.new_zeros((0, scores.shape[1]))
    return (torch.stack(values) if values else empty).to(result_dtype(scores))
