"""Odd-even sort: neighbours are compared, n times over."""

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
class OddEven(PermutationOperator):
    """Relax an odd-even sorting network: n layers that compare neighbours.

    A comparison of a and b leaves them in place with probability ``F((a - b) / temperature)``,
    and what goes on is ``F a + (1 - F) b`` and ``F b + (1 - F) a``. The temperature is one over
    the steepness of the paper. Rows and columns both add up to 1.

    Unlike with the other operators, the order in which candidates are listed matters: a network
    compares places. At a low temperature it does not; otherwise give lists in random order.
    And every layer makes the result softer, so the longer the lists, the lower the temperature.

    The top k takes time and memory of the square of the list, the permutation its cube.

    Args:
        swap: F: ``"cauchy"``, ``atan(x) / pi + 1/2``, the usual choice, whose swaps of distant
            scores stay likely enough to be learned from; ``"logistic"``; or ``"logistic_phi"``,
            the logistic of ``x / |x|^(1/4)``.

    Raises:
        ConfigError: if there is no such swap.

    Examples:
        >>> from cascaderank.sorting import permutation
        >>> permutation(torch.tensor([1.0, 2.0]), operator=OddEven(), temperature=1.0)
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
    """Yield n layers: places 0 and 1, 2 and 3, and so on; then 1 and 2, 3 and 4; in turn."""
    length = scores.shape[-1]
    place = torch.arange(length, device=scores.device)
    for t in range(length):
        partner = torch.where((place - t) % 2 == 0, place + 1, place - 1)
        yield Layer(partner.where(partner >= 0, length), longer_than=t)
