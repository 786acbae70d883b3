"""Ranking consistency: overlap of the top candidates of a stage and of the next stage."""

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
    r"""Return the ranking consistency score (RCS) of each stage with the next.

    .. math:: \text{RCS}_t = \frac{|\operatorname{top}_k(A_t; s^t) \cap
              \operatorname{top}_k(A_t; s^{t+1})|}{\min(k, |A_t|)}

    :math:`A_t` is the set of candidates that the first t stages keep, the input of stage t + 1. RCS
    is the overlap of the top k by stage t and by stage t + 1 in this set. It uses no labels: it
    measures the agreement of two stages, not their accuracy.

    Args:
        scores: ``[stages, batch, list]``, first stage first; higher is better.
        quotas: number of candidates that each stage keeps, one per stage, non-increasing.
        k: number of top candidates compared; by default the quota of the later stage.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[stages - 1, batch]`` in [0, 1], one row for each stage except the last (no rows for one
        stage); NaN for a list without candidates. Average with ``nanmean``.

    Raises:
        ShapeError: if the shapes or dtypes of the tensors do not agree.
        ConfigError: if the quotas increase or ``k`` is not a positive integer.

    Examples:
        >>> scores = torch.tensor([[[4.0, 3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0, 4.0]]])
        >>> ranking_consistency(scores, quotas=(3, 2))
        tensor([[0.5000]])

    Source: Gu et al. 2022 (arXiv 2205.01289), as used by ECM (arXiv 2310.08039).
    """
    reached = select(scores, quotas, mask)[:-1]
    values = []
    for t, alive in enumerate(reached):
        size = quotas[t + 1] if k is None else check_size(k, "k")
        here, there = (top(scores[s], size, alive) for s in (t, t + 1))
        overlap, size_of_top = total((here & there).double()), total(here.double())
        values.append(overlap / size_of_top)
    empty = scores.new_zeros((0, scores.shape[1]))
    return (torch.stack(values) if values else empty).to(result_dtype(scores))
