"""A metric: rank-biased precision."""

import torch
from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.metrics import METRICS
from cascaderank.selection import best_first, check_size, relevance_of, result_dtype, total
from cascaderank.tensors import check_lists


@METRICS.register
def rbp_metric(
    scores: Tensor,
    labels: Tensor,
    *,
    persistence: float = 0.8,
    m: int | None = None,
    k: int | None = None,
    threshold: float | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Rank-biased precision, per list: expected relevance for a user of given persistence.

    .. math::
        \text{RBP} = (1 - p) \sum_{r=1}^{m} p^{r-1} z_{(r)}

    The user looks at the first candidate and continues from each to the next with probability
    ``p``. Ties of scores are broken by position in the list, earlier first.

    Args:
        scores: ``[..., list]``, higher is better. NaN ranks last.
        labels: ``[..., list]``, higher is better.
        persistence: probability ``p`` of continuing to the next rank, in (0, 1).
        m: cut-off: number of ranks that are evaluated; ``None`` for all.
        k: the ground truth is the top ``k`` by label.
        threshold: the ground truth is every label of at least this value; pass this or ``k``.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[...]`` in [0, 1], float32 (float64 for float64 scores); NaN for a list without ground
        truth.

    Raises:
        ShapeError: if the tensors do not agree.
        ConfigError: if ``persistence`` is not in (0, 1), ``m`` is not a positive integer, or not
            exactly one of ``k`` and ``threshold`` is given.

    Examples:
        >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
        >>> labels = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
        >>> rbp_metric(scores, labels, persistence=0.5, threshold=1)
        tensor([0.6250])

    Source: Moffat and Zobel 2008.
    """
    if not 0 < persistence < 1:
        raise ConfigError(f"persistence must be in (0, 1); got {persistence}")
    mask = check_lists(scores, labels, mask)
    relevant = relevance_of(labels, k=k, threshold=threshold, mask=mask)
    order = best_first(scores)
    rank = mask.gather(-1, order).cumsum(-1)  # padding occupies no rank
    looked_at = persistence ** (rank - 1).double()
    if m is not None:
        looked_at = looked_at * (rank <= check_size(m, "m"))
    value = (1 - persistence) * total(looked_at * relevant.gather(-1, order))
    return value.masked_fill(total(relevant) == 0, torch.nan).to(result_dtype(scores))
