"""NDCG: discounted cumulative gain of a ranking, relative to that of the ideal ranking."""

import torch
from torch import Tensor

from cascaderank.metrics import METRICS
from cascaderank.relevance import Gain, relative_gains
from cascaderank.selection import check_size, ranked, ranked_of, result_dtype, total
from cascaderank.sorting.order import sort_ascending
from cascaderank.tensors import check_lists, is_whole


@METRICS.register
def ndcg_metric(
    scores: Tensor,
    labels: Tensor,
    *,
    k: int | None = None,
    gain: Gain = "exponential",
    mask: Tensor | None = None,
    retrieved: Tensor | None = None,
) -> Tensor:
    r"""Normalised discounted cumulative gain, per list, at ``k`` or of the whole list.

    .. math::
        \text{NDCG} = \frac{\text{DCG}(s)}{\text{DCG}(y)}, \qquad
        \text{DCG}(s) = \sum_{r=1}^{k} \frac{g(y_{(r)})}{\log_2(1 + r)}

    with :math:`g(y) = 2^y - 1` or :math:`g(y) = y`. Candidates of equal score share their ranks:
    each has the mean discount of the tied ranks, which is the expectation over all ways to break
    the tie, so the value does not depend on the order of a list. Gains are relative to the maximum
    of their list, so large labels do not overflow; but with exponential gain and labels far apart
    only the candidate with the highest label contributes.

    Args:
        scores: ``[..., list]``, higher is better. NaN ranks last.
        labels: ``[..., list]``, at least 0; higher is better.
        k: cut-off: number of ranks that are evaluated; ``None`` for all.
        gain: ``"exponential"`` for graded labels, ``"linear"`` for labels that are gains.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        retrieved: ``[..., list]`` bool, ``True`` for a candidate of the evaluated ranking; default:
            all. The other real candidates have no rank and count only in the ideal DCG.

    Returns:
        ``[...]`` in [0, 1], float32 (float64 for float64 scores); NaN for a list whose labels are
        all 0 or that has a negative label.

    Raises:
        ShapeError: if the tensors do not agree.
        ConfigError: if ``k`` is not a positive integer or ``gain`` is unknown.

    Examples:
        >>> scores = torch.tensor([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
        >>> labels = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
        >>> ndcg_metric(scores, labels)
        tensor([0.5869, 0.7825])

    Source: Jarvelin and Kekalainen 2002; exponential gain as in ARF; linear gain and shared ranks
    as in LCRON's tables (ties after McSherry and Najork 2008).
    """
    mask = check_lists(scores, labels, mask)
    listed = ranked_of(scores, mask, retrieved)
    best, order = ranked(scores)
    shared = shared_discounts(best, listed.gather(-1, order), k)
    value = ndcg_of(order, shared, labels, k=k, gain=gain, mask=mask, listed=listed)
    return value.to(result_dtype(scores))


def ndcg_of(
    order: Tensor,
    shared: Tensor,
    labels: Tensor,
    *,
    k: int | None,
    gain: Gain,
    mask: Tensor,
    listed: Tensor,
) -> Tensor:
    """Return the NDCG of rankings of the same candidates, given their order, in float64.

    Args:
        order: ``[..., batch, list]`` indices of the candidates, best first.
        shared: ``[..., batch, list]`` discounts in that order; see :func:`shared_discounts`.
        labels: ``[batch, list]``.
        k: cut-off of the ideal ranking, the one of ``shared``.
        gain: gain of a label.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.
        listed: ``[..., batch, list]`` bool, ``True`` for a candidate of the ranking.
    """
    gains = relative_gains(labels, gain, mask)
    ideal = total(sort_ascending(gains).flip(-1) * _discounts(labels.shape[-1], k, labels.device))
    # What is not ranked may have any position: its gain is 0 and it occupies no rank.
    actual = total((gains * listed).gather(-1, order) * shared)
    defined = (ideal > 0) & ~((labels < 0) & mask).any(-1)
    # A tie of equal gains may round to a little more than the ideal.
    return (actual / ideal).clamp(max=1.0).masked_fill(~defined, torch.nan)


def shared_discounts(best: Tensor, real: Tensor, k: int | None) -> Tensor:
    """Return the mean discount of the ranks that each candidate shares with those of equal score.

    Args:
        best: scores, best first, ``[..., list]``, including those of padding.
        real: ``[..., list]`` bool in the same order; only real candidates occupy ranks.
        k: cut-off: number of ranks that are evaluated; ``None`` for all.
    """
    length = best.shape[-1]
    discounts = _discounts(length, k, best.device)
    if length == 0:
        return discounts.expand_as(best)
    through = real.cumsum(-1)  # number of real candidates up to and including each
    changes = best[..., 1:] != best[..., :-1]
    if is_whole(changes | ~(real[..., 1:] | real[..., :-1])):  # no real candidate is in a tie
        ranks = (through - 1).clamp(min=0)
        return discounts.index_select(0, ranks.flatten()).view_as(ranks)
    cut = torch.ones_like(best[..., :1], dtype=torch.bool)
    starts, ends = torch.cat([cut, changes], -1), torch.cat([changes, cut], -1)
    before = (through - real.long()).masked_fill(~starts, 0).cummax(-1).values
    after = through.masked_fill(~ends, length).flip(-1).cummin(-1).values.flip(-1)
    sums = torch.cat([discounts.new_zeros(1), discounts.cumsum(-1)])
    tied = (after - before).clamp(min=1)
    # A candidate without ties has exactly the discount of its own rank.
    own = discounts[before.clamp(max=length - 1)]
    return torch.where(tied == 1, own, (sums[after] - sums[before]) / tied)


def _discounts(length: int, k: int | None, device: torch.device) -> Tensor:
    """Return the discount of each rank, best first, ``[list]`` float64; 0 beyond ``k``."""
    ranks = torch.arange(1, length + 1, dtype=torch.float64, device=device)
    discounts = 1 / torch.log2(1 + ranks)
    return discounts if k is None else discounts * (ranks <= check_size(k, "k"))
