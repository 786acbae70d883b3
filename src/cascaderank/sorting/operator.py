"""What a smooth sorting operator is, and the list of those there are."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from cascaderank.registry import Registry
from cascaderank.sorting.rows import (
    cross_entropy_of_rows,
    sum_sorted_of_rows,
    totals_of_rows,
)


class Ranks(NamedTuple):
    """Which ranks each candidate of a list should have, counted from 0, the best.

    Those who share a run of ranks have the same chance of each, and are as many as there are
    ranks in it.
    """

    first: Tensor
    """``[..., list]`` int64; the best of its ranks."""
    behind: Tensor
    """``[..., list]`` int64; the first rank that is not one of them."""


class Operator(ABC):
    """A smooth top-k: one class per file, its options are the arguments of its constructor.

    An operator is handed checked and filled input: float32 or float64 scores that are 0 under
    the mask, a positive temperature and a ``k`` for each list. It may say anything finite where
    there is nothing to say (under the mask, in empty lists, in lists where ``k`` keeps all or
    none); the functions of :mod:`cascaderank.sorting` put the exact values there.
    """

    @abstractmethod
    def log_top_k(
        self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities to be among the top k, and not to be.

        Args:
            scores: ``[..., list]``.
            k: ``[...]`` int64.
            temperature: ``[...]``.
            mask: ``[..., list]`` bool.

        Returns:
            Two tensors ``[..., list]``, at most 0, whose exponentials add up to 1.
        """

    def top_k(self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor) -> Tensor:
        """Return the probability to be among the top k, ``[..., list]``; see :meth:`log_top_k`.

        Here by its logarithm; operators that know a shorter way go that.
        """
        return self.log_top_k(scores, k, temperature=temperature, mask=mask)[0].exp()

    @abstractmethod
    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        """Return how large the operator's logits are at temperature 1, ``[...]``, positive.

        A temperature of as much gives lists of any length and any spread of scores about the
        same softness.
        """


class PermutationOperator(Operator):
    """An operator that tells the probability of every rank, not only of the top k."""

    @abstractmethod
    def log_permutation(self, scores: Tensor, *, temperature: Tensor, mask: Tensor) -> Tensor:
        """Return ``[..., rank, list]``: the log-probability that a rank goes to a candidate.

        Every row is a distribution over the real candidates; row 0 is the best rank.
        """

    def cross_entropy(
        self, scores: Tensor, ranks: Ranks, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the cost of the ranks that candidates should have, and who is how often chosen.

        Here by all rows of the permutation; operators that know a shorter way go that.

        Args:
            scores: ``[..., list]``.
            ranks: what candidates should have.
            temperature: ``[...]``.
            mask: ``[..., list]`` bool.

        Returns:
            ``(cost, totals)``: ``sum_ij -Y_ij log P_ij``, ``[...]``, where Y is the permutation
            with the ranks; and ``sum_i P_ij``, ``[..., list]``, positive, a constant to the
            gradient.
        """
        log_rows = self.log_permutation(scores, temperature=temperature, mask=mask)
        return cross_entropy_of_rows(log_rows, *ranks, mask), totals_of_rows(log_rows, mask)

    def sum_sorted(
        self, scores: Tensor, values: Tensor, weights: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> Tensor:
        """Return ``sum_ij w_i P_ij v_j``, ``[...]``: what values in soft order are worth.

        Here by all rows of the permutation; operators that know a shorter way go that.

        Args:
            scores: ``[..., list]``.
            values: ``[..., list]`` of the scores' dtype, a constant to the gradient; 0 under the
                mask.
            weights: ``[rank]`` of the scores' dtype, of the first ranks; others count for nothing.
            temperature: ``[...]``.
            mask: ``[..., list]`` bool.
        """
        log_rows = self.log_permutation(scores, temperature=temperature, mask=mask)
        return sum_sorted_of_rows(log_rows, values, weights, mask)


OPERATORS: Registry[type[Operator]] = Registry("operator", "cascaderank.sorting")


def find_operator(operator: str | Operator) -> Operator:
    """Return the operator of a name, with its default options, or the operator itself.

    Raises:
        ConfigError: if there is no operator of that name.

    Examples:
        >>> type(find_operator("soft_sort")).__name__
        'SoftSort'
    """
    return operator if isinstance(operator, Operator) else OPERATORS[operator]()
