"""Target attention: pooling of a history that depends on the candidate."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.layers.feed_forward import PairMLP

_FEW = 2**19  # hidden units of pairs, 2 MiB


@final
class TargetAttention(nn.Module):
    r"""Sum a history for each candidate, weighted by the relevance of each entry to the candidate.

    .. math:: v_i = \sum_{t \in \text{history}} a(h_t, x_i)\, h_t

    The weight a is a multi-layer perceptron over the entry and the candidate. Its first layer is
    split: the half of the entries is computed once per request and that of the candidates once per
    candidate, so that pairs are only added, never multiplied by a matrix. With one hidden layer the
    hidden units of pairs are not stored either, on a CPU: see
    :func:`~cascaderank.layers.sums.relu_of_sums`.

    Args:
        history_dim: length of the vector of an entry.
        item_dim: length of a candidate's vector; may be 0.
        hidden: widths of the hidden layers of the perceptron, at least one.
        softmax: whether to normalise the weights of a history to a sum of 1. If not, they are the
            raw output of the perceptron: the sum grows with the number of relevant entries, and a
            weight may be negative.

    Raises:
        ConfigError: if a width is not positive or ``hidden`` is empty.

    Examples:
        >>> attention = TargetAttention(2, 3, hidden=(4,))
        >>> mask = torch.tensor([[True, True, False], [False, False, False]])
        >>> pooled = attention(torch.rand(2, 3, 2), torch.rand(2, 5, 3), mask)
        >>> pooled.shape, pooled[1].any().item()
        (torch.Size([2, 5, 2]), False)

    Source: DIN (arXiv 1706.06978), equation 3, whose weights are deliberately not normalised: their
        sum
    represents the strength of the interest. Omitted: the product of entry and candidate as a
    further input, since the two have different features here.
    """

    def __init__(
        self,
        history_dim: int,
        item_dim: int,
        *,
        hidden: Sequence[int] = (80,),
        softmax: bool = False,
    ) -> None:
        super().__init__()
        self.weigh = PairMLP(item_dim, history_dim, hidden)
        self._softmax = softmax

    def forward(self, history: Tensor, items: Tensor, mask: Tensor) -> Tensor:
        """Return ``[batch, list, history_dim]``; zeros for a request without history.

        Args:
            history: ``[batch, length, history_dim]``.
            items: ``[batch, list, item_dim]``, finite.
            mask: ``[batch, length]`` bool, ``True`` for a real entry. Entries under ``False``
                affect neither value nor gradient, even if they are NaN.
        """
        # Entries of zeros add nothing, whatever their weight.
        history = history.masked_fill(~mask.unsqueeze(-1), 0)
        return self._summed(self.weigh.of_pairs(items, history), history, mask)

    def item_part(self, items: Tensor) -> Tensor:
        """Return what depends on candidates alone, ``[batch, list, hidden]``."""
        return self.weigh.first.request_half(items)

    def of_part(self, history: Tensor, part: Tensor, mask: Tensor) -> Tensor:
        """Return :meth:`forward` for candidates given by :meth:`item_part`."""
        history = history.masked_fill(~mask.unsqueeze(-1), 0)
        entries = self.weigh.first.item_half(history)
        if part.numel() * entries.shape[-2] <= _FEW:  # faster than distances of few pairs
            weights = self.weigh.of_halves(part, entries.unsqueeze(1)).squeeze(-1)
        else:
            weights = self.weigh.of_pair_halves(part, entries)
        return self._summed(weights, history, mask)

    def _summed(self, weights: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        if self._softmax:
            # Finite, so that the softmax of a request without history is not NaN.
            lowest = torch.finfo(weights.dtype).min
            weights = weights.masked_fill(~mask.unsqueeze(1), lowest).softmax(-1)
        return weights @ history
