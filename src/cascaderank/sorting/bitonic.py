"""Bitonic sort: sorted blocks are merged, each two of them at once."""

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from cascaderank.sorting.networks import (
    Layer,
    Swap,
    check_swap,
    log_permutation_of_network,
    log_top_k_of_network,
)
from cascaderank.sorting.operator import OPERATORS, PermutationOperator
from cascaderank.sorting.scaling import spread


@final
@OPERATORS.register
class Bitonic(PermutationOperator):
    """Relax a bitonic sorting network: about ``log2(n)^2 / 2`` layers.

    A comparison of a and b leaves them in place with probability ``F((a - b) / temperature)``,
    and what goes on is ``F a + (1 - F) b`` and ``F b + (1 - F) a``. The temperature is one over
    the steepness of the paper. Rows and columns both add up to 1. In the form of the network
    where every comparison moves the better one ahead, so lists may be of any length: what a
    power of two lacks are comparisons with nobody.

    Unlike with the other operators, the order in which candidates are listed matters: a network
    compares places. At a low temperature it does not; otherwise give lists in random order.
    And every layer makes the result softer, so the longer the lists, the lower the temperature.

    The top k takes O(n log^2 n) time and memory, the permutation n times as much.

    Args:
        swap: F: ``"cauchy"``, ``atan(x) / pi + 1/2``, the usual choice, whose swaps of distant
            scores stay likely enough to be learned from; ``"logistic"``; or ``"logistic_phi"``,
            the logistic of ``x / |x|^(1/4)``.

    Raises:
        ConfigError: if there is no such swap.

    Examples:
        >>> from cascaderank.sorting import permutation
        >>> permutation(torch.tensor([1.0, 2.0]), operator=Bitonic(), temperature=1.0)
        tensor([[0.2500, 0.7500],
                [0.7500, 0.2500]])

    Source: DiffSort, Petersen et al. 2021 (arXiv 2105.04019) for the network and logistic_phi;
    2022 (arXiv 2203.09630) for cauchy.
    """

    def __init__(self, *, swap: Swap = "cauchy") -> None:
        check_swap(swap)
        self.swap: Swap = swap

    def log_permutation(self, scores: Tensor, *, temperature: Tensor, mask: Tensor) -> Tensor:
        """Return ``[..., rank, list]``; see :class:`PermutationOperator`."""
        return log_permutation_of_network(
            scores, _layers(scores), swap=self.swap, temperature=temperature, mask=mask
        )

    def log_top_k(
        self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two tensors ``[..., list]``; see :class:`Operator`."""
        return log_top_k_of_network(
            scores, k, _layers(scores), swap=self.swap, temperature=temperature, mask=mask
        )

    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        """Return the spread of the scores, ``[...]``."""
        return spread(scores, mask)


def _layers(scores: Tensor) -> Iterator[Layer]:
    """Yield, for blocks of 2, 4, 8, ...: mirror images of each other, then ever nearer places."""
    place = torch.arange(scores.shape[-1], device=scores.device)
    half = 1
    while half < len(place):
        yield Layer(place ^ (2 * half - 1), longer_than=half)
        distance = half // 2
        while distance:
            yield Layer(place ^ distance, longer_than=half)
            distance //= 2
        half *= 2
