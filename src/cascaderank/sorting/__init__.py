"""Differentiable sorting: probabilities of ranks and of being among the top k.

An *operator* maps the scores of a list to rank probabilities or top-k probabilities through which
gradients flow. All operators are called through the same functions and accept a mask. A padded
list gets exactly the values of the same list without padding. Labels are not used here.

Map of the package:

- Operators, one page each: :mod:`~cascaderank.sorting.neural_sort`,
  :mod:`~cascaderank.sorting.soft_sort`, :mod:`~cascaderank.sorting.odd_even`,
  :mod:`~cascaderank.sorting.bitonic` (soft permutations), :mod:`~cascaderank.sorting.lap_sum`,
  :mod:`~cascaderank.sorting.threshold`, :mod:`~cascaderank.sorting.sigmoid` (top k only).
- Calling one: :mod:`~cascaderank.sorting.functions`; its arguments are checked by
  :mod:`~cascaderank.sorting.inputs`.
- Writing one: :mod:`~cascaderank.sorting.operator` is the interface and the registry. Shared parts
  are :mod:`~cascaderank.sorting.scaling`, :mod:`~cascaderank.sorting.order` (sorts and ties),
  :mod:`~cascaderank.sorting.cut_scores`, :mod:`~cascaderank.sorting.rows`,
  :mod:`~cascaderank.sorting.networks` and :mod:`~cascaderank.sorting.gate`.
- ``_neural_sort`` and ``_soft_sort``: the forms of these two operators that need memory linear in
  the list.

Example:
    >>> import torch
    >>> scores = torch.tensor([0.2, 3.0, 1.0])
    >>> permutation(scores, temperature=0.1).argmax(dim=-1)  # index of the first, second, third
    tensor([1, 2, 0])
    >>> top_k_probability(scores, 2, temperature=1.0)
    tensor([0.2991, 0.9992, 0.7074])
"""

from cascaderank.sorting.functions import (
    log_permutation,
    log_top_k_probability,
    permutation,
    relative_temperature,
    top_k_probability,
)
from cascaderank.sorting.inputs import check_temperature
from cascaderank.sorting.operator import OPERATORS, Operator, PermutationOperator, find_operator

__all__ = [
    "OPERATORS",
    "Operator",
    "PermutationOperator",
    "check_temperature",
    "find_operator",
    "log_permutation",
    "log_top_k_probability",
    "permutation",
    "relative_temperature",
    "top_k_probability",
]


def __getattr__(name: str) -> type[Operator]:
    return OPERATORS.attribute(name)


def __dir__() -> list[str]:
    return [*__all__, *(OPERATORS[name].__name__ for name in OPERATORS)]
