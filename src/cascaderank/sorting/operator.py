"""Interface of the differentiable sorting operators, and their registry."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

from cascaderank.registry import Registry
from cascaderank.sorting.rows import (
    cross_entropy_of_rows,
    sum_sorted_of_rows,
    totals_of_rows,
)


class Ranks(NamedTuple):
    """Target ranks of the candidates of each list, counted from 0, the best.

    A candidate has a run of adjacent target ranks. Candidates with the same run have the same
    probability of each of its ranks; there are as many of them as ranks in the run.
    """

    first: Tensor
    """``[..., list]`` int64; first (best) rank of the run."""
    behind: Tensor
    """``[..., list]`` int64; end of the run: its last rank plus 1."""


class Operator(ABC):
    """A differentiable top-k. One class per file; the constructor's arguments are its options.

    An operator receives checked and filled input: float32 or float64 scores that are 0 under the
    mask, a positive temperature and one ``k`` per list. Where the result is undefined or trivial
    (under the mask, in empty lists, in lists where ``k`` keeps all candidates or none), it may
    return any finite value; the functions of :mod:`cascaderank.sorting` replace these by the exact
    values.
    """

    grows_with_length: ClassVar[bool] = False
    """Whether the logits are proportional to the number of candidates, as those of NeuralSort."""

    @abstractmethod
    def log_top_k(
        self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of being among the top k and of not being among them.

        Args:
            scores: ``[..., list]``.
            k: ``[...]`` int64.
            temperature: ``[...]``.
            mask: ``[..., list]`` bool.

        Returns:
            Two tensors ``[..., list]``, at most 0, whose exponentials add up to 1.
        """

    def top_k(self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor) -> Tensor:
        """Return the probability of being among the top k, ``[..., list]``; see :meth:`log_top_k`.

        The default exponentiates the logarithm. Operators with a faster way override it.
        """
        return self.log_top_k(scores, k, temperature=temperature, mask=mask)[0].exp()

    @abstractmethod
    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        """Return the magnitude of the operator's logits at temperature 1, ``[...]``, positive.

        At a temperature proportional to it, lists of any length and any spread of scores are about
        equally soft.
        """


class PermutationOperator(Operator):
    """An operator with a probability for every rank, not only for the top k."""

    @abstractmethod
    def log_permutation(self, scores: Tensor, *, temperature: Tensor, mask: Tensor) -> Tensor:
        """Return the log-probability that a rank goes to a candidate, ``[..., rank, list]``.

        Every row is a distribution over the real candidates; row 0 is the best rank.
        """

    def cross_entropy(
        self, scores: Tensor, ranks: Ranks, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy between target ranks and soft permutation, and column sums.

        The default computes all rows of the permutation. Operators with a faster way override it.

        Args:
            scores: ``[..., list]``.
            ranks: target ranks.
            temperature: ``[...]``.
            mask: ``[..., list]`` bool.

        Returns:
            ``(cost, totals)``: ``sum_ij -Y_ij log P_ij``, ``[...]``, where Y is the permutation
            matrix of the target ranks; and the column sums ``sum_i P_ij``, ``[..., list]``,
            positive. No gradient flows through the column sums.
        """
        log_rows = self.log_permutation(scores, temperature=temperature, mask=mask)
        return cross_entropy_of_rows(log_rows, *ranks, mask), totals_of_rows(log_rows, mask)

    def sum_sorted(
        self, scores: Tensor, values: Tensor, weights: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> Tensor:
        """Return the weighted sum of the softly sorted values, ``sum_ij w_i P_ij v_j``, ``[...]``.

        The default computes all rows of the permutation. Operators with a faster way override it.

        Args:
            scores: ``[..., list]``.
            values: ``[..., list]`` of the scores' dtype, 0 under the mask. They receive no
                gradient.
            weights: ``[rank]`` of the scores' dtype, for the first ranks; the weight of later ranks
                is 0.
            temperature: ``[...]``.
            mask: ``[..., list]`` bool.
        """
        log_rows = self.log_permutation(scores, temperature=temperature, mask=mask)
        return sum_sorted_of_rows(log_rows, values, weights, mask)


OPERATORS: Registry[type[Operator]] = Registry("operator", "cascaderank.sorting")


def find_operator(operator: str | Operator) -> Operator:
    """Return the operator of a name, with its default options, or the operator itself.

    Raises:
        ConfigError: if no operator has that name.

    Examples:
        >>> type(find_operator("soft_sort")).__name__
        'SoftSort'
    """
    return operator if isinstance(operator, Operator) else OPERATORS[operator]()
