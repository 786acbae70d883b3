"""Smooth sorting: how likely each candidate of a list is to have each rank, or to be kept.

An *operator* turns the scores of a list into probabilities that can be learned from. All of them
are asked through the same three functions, take a mask, and give a ragged list exactly the
numbers that the same list would have without padding. Nothing here knows about labels.

Example:
    >>> import torch
    >>> scores = torch.tensor([0.2, 3.0, 1.0])
    >>> permutation(scores, temperature=0.1).argmax(dim=-1)  # who is first, second, third
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
