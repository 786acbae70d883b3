"""Odd-even transposition sort: n layers of comparators between neighbours."""

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

    A comparator leaves its inputs a and b in place with probability ``F((a - b) / temperature)``.
    Its outputs are ``F a + (1 - F) b`` and ``F b + (1 - F) a``. The temperature is the inverse of
    the paper's steepness. Rows and columns both add up to 1.

    Unlike the other operators, the result depends on the order of the candidates in the list,
    because a network compares places. The dependence vanishes at low temperatures; otherwise pass
    lists in random order. Every layer makes the result softer, so longer lists need lower
    temperatures.

    Time and memory of the top k are quadratic in the list, those of the permutation cubic.

    Args:
        swap: F: ``"cauchy"``, ``atan(x) / pi + 1/2``, the usual choice, whose heavy tails keep a
            gradient between distant scores; ``"logistic"``; or ``"logistic_phi"``, the logistic
            function of ``x / |x|^(1/4)``.

    Raises:
        ConfigError: if ``swap`` is unknown.

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
    """Yield n layers that alternate: places 0 and 1, 2 and 3, ...; then 1 and 2, 3 and 4, ...."""
    length = scores.shape[-1]
    place = torch.arange(length, device=scores.device)
    for t in range(length):
        partner = torch.where((place - t) % 2 == 0, place + 1, place - 1)
        yield Layer(partner.where(partner >= 0, length), longer_than=t)
