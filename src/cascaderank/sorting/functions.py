"""Functions that check and fill their input and then call an operator."""

import torch
from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.sorting.inputs import cut_lists, prepare
from cascaderank.sorting.operator import (
    OPERATORS,
    Operator,
    PermutationOperator,
    Ranks,
    find_operator,
)
from cascaderank.tensors import check_mask, is_whole


def permutation(
    scores: Tensor,
    *,
    operator: str | Operator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the probability that each rank goes to each candidate.

    Args:
        scores: ``[..., list]``, higher is better.
        operator: a name in ``OPERATORS``, or an operator instance with its own options.
        temperature: positive; one number, or a tensor ``[...]`` with one value per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[..., rank, list]`` in [0, 1], of the scores' dtype; row 0 is the best rank. Rows add up
        to 1. Rows beyond the number of real candidates, and columns under the mask, are 0.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if the operator is unknown or has no permutation, or the temperature is not
            positive.

    Examples:
        >>> permutation(torch.tensor([1.0, 3.0]), operator="soft_sort", temperature=0.5)
        tensor([[0.0180, 0.9820],
                [0.9820, 0.0180]])

    Source: see the operator.
    """
    rows = _log_rows(scores, operator=operator, temperature=temperature, mask=mask)
    return rows.exp().to(scores.dtype)


def log_permutation(
    scores: Tensor,
    *,
    operator: str | Operator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the log-probability that each rank goes to each candidate, exact for tiny ones.

    Args:
        scores: ``[..., list]``, higher is better.
        operator: a name in ``OPERATORS``, or an operator instance with its own options.
        temperature: positive; one number, or a tensor ``[...]`` with one value per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[..., rank, list]``, at most 0, of the scores' dtype; row 0 is the best rank. Rows beyond
        the number of real candidates, and columns under the mask, are -inf. These entries carry no
        gradient, but fill them before multiplying: 0 times -inf is NaN.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if the operator is unknown or has no permutation, or the temperature is not
            positive.

    Examples:
        >>> log_permutation(torch.tensor([0.0, 200.0]))
        tensor([[-200.,    0.],
                [   0., -200.]])

    Source: see the operator.
    """
    rows = _log_rows(scores, operator=operator, temperature=temperature, mask=mask)
    return rows.to(scores.dtype)


def top_k_probability(
    scores: Tensor,
    k: int | Tensor,
    *,
    operator: str | Operator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the probability that each candidate is among the top k of its list.

    Args:
        scores: ``[..., list]``, higher is better.
        k: number of candidates kept: one positive number, or an integer tensor ``[...]`` with one
            value per list, where 0 keeps none.
        operator: a name in ``OPERATORS``, or an operator instance with its own options.
        temperature: positive; one number, or a tensor ``[...]`` with one value per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[..., list]`` in [0, 1], of the scores' dtype; 0 under the mask. Exactly 1 for all real
        candidates of a list with at most ``k`` of them.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if the operator is unknown, or the temperature or ``k`` is not positive.

    Examples:
        >>> top_k_probability(torch.tensor([1.0, 3.0, 2.0]), 1, temperature=1.0)
        tensor([0.0140, 0.7621, 0.2398])

    Source: see the operator; for those with a permutation, LCRON (arXiv 2503.09492).
    """
    sorter, lists = find_operator(operator), cut_lists(scores, k, temperature, mask)
    if not scores.numel():
        return scores
    kept = sorter.top_k(lists.scores, lists.k, temperature=lists.temperature, mask=lists.mask)
    if not lists.decided:
        all_kept, none_kept = lists.all_kept(), lists.none_kept()
        kept = kept.masked_fill(all_kept, 1.0).masked_fill(~lists.mask | none_kept, 0.0)
    return kept.to(scores.dtype)


def log_top_k_probability(
    scores: Tensor,
    k: int | Tensor,
    *,
    operator: str | Operator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of being and of not being among the top k, exact for tiny ones.

    The values of the two probabilities add up to 1. Their gradients may differ: operators that sum
    the rows of a permutation propagate the gradient of ``log dropped`` through the rows below k
    (see ``docs/decisions/0001-log-space-top-k.md``).

    Args:
        scores: ``[..., list]``, higher is better.
        k: number of candidates kept: one positive number, or an integer tensor ``[...]`` with one
            value per list, where 0 keeps none.
        operator: a name in ``OPERATORS``, or an operator instance with its own options.
        temperature: positive; one number, or a tensor ``[...]`` with one value per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``(log kept, log dropped)``, each ``[..., list]``, at most 0, of the scores' dtype. Both
        are -inf under the mask. A list with at most ``k`` candidates keeps all of them: (0, -inf).
        These entries carry no gradient, but fill them before multiplying: 0 times -inf is NaN.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if the operator is unknown, or the temperature or ``k`` is not positive.

    Examples:
        >>> log_kept, log_dropped = log_top_k_probability(torch.tensor([0.0, 20.0, 30.0]), 1)
        >>> log_kept
        tensor([-7.0000e+01, -1.0000e+01, -4.5399e-05])

    Source: this project.
    """
    log_kept, log_dropped = _log_top_k(
        scores, k, operator=operator, temperature=temperature, mask=mask
    )
    return log_kept.to(scores.dtype), log_dropped.to(scores.dtype)


def relative_temperature(
    scores: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    operator: str | Operator = "neural_sort",
    mask: Tensor | None = None,
) -> Tensor:
    """Return one temperature per list, independent of the length and the spread of the scores.

    The given temperature is multiplied by the magnitude of the operator's logits: the spread of the
    scores (mean absolute deviation), and for NeuralSort also the number of candidates. Gradients
    flow through the spread, so that probabilities at this temperature are invariant to scaling all
    scores.

    Args:
        scores: ``[..., list]``.
        temperature: positive; one number, or a tensor ``[...]`` with one value per list.
        operator: a name in ``OPERATORS``, or an operator instance with its own options.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[...]``, positive; pass it as ``temperature`` to the other functions.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if the operator is unknown, or the temperature is not positive.

    Examples:
        >>> relative_temperature(torch.tensor([1.0, 2.0, 3.0, 4.0]), 0.5)
        tensor(2.)

    Source: this project.
    """
    filled, mask, temperatures = prepare(scores, temperature, mask)
    return temperatures * find_operator(operator).temperature_scale(filled, mask=mask)


def _log_rows(
    scores: Tensor,
    *,
    operator: str | Operator,
    temperature: float | Tensor,
    mask: Tensor | None,
) -> Tensor:
    """Return the result of :func:`log_permutation` in at least float32."""
    sorter = find_permutation_operator(operator)
    filled, mask, temperatures = prepare(scores, temperature, mask)
    if not scores.shape[-1]:
        return filled[..., :, None] * filled[..., None, :]
    log_rows = sorter.log_permutation(filled, temperature=temperatures, mask=mask)
    if is_whole(mask):
        return log_rows
    rank = torch.arange(scores.shape[-1], device=scores.device)
    real_rows = rank < mask.sum(-1, keepdim=True)
    real = real_rows[..., :, None] & mask[..., None, :]
    return log_rows.masked_fill(~real, -torch.inf)


def cross_entropy_of_ranks(
    scores: Tensor,
    ranks: Ranks,
    *,
    operator: str | Operator,
    temperature: float | Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the result of :meth:`PermutationOperator.cross_entropy` in at least float32.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if the operator is unknown or has no permutation, or the temperature is not
            positive.
    """
    sorter = find_permutation_operator(operator)
    filled, mask, temperatures = prepare(scores, temperature, mask)
    if not scores.numel():
        return filled.sum(-1), filled
    return sorter.cross_entropy(filled, ranks, temperature=temperatures, mask=mask)


def column_sums(
    scores: Tensor,
    *,
    operator: str | Operator,
    temperature: float | Tensor,
    mask: Tensor | None,
) -> Tensor:
    """Return the column sums of the soft permutation, ``sum_i P_ij``, ``[..., list]``.

    Rows add up to 1, columns only approximately; see :func:`cross_entropy_of_ranks`. No gradient
    flows through the result.
    """
    mask = check_mask(scores, mask)
    none = torch.zeros_like(mask, dtype=torch.int64)
    shared = Ranks(none, none + mask.sum(-1, keepdim=True))  # the totals do not depend on them
    _, totals = cross_entropy_of_ranks(
        scores, shared, operator=operator, temperature=temperature, mask=mask
    )
    return totals


def sum_sorted(
    values: Tensor,
    weights: Tensor,
    scores: Tensor,
    *,
    operator: str | Operator,
    temperature: float | Tensor,
    mask: Tensor,
) -> Tensor:
    """Return the result of :meth:`PermutationOperator.sum_sorted` in at least float32.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if the operator is unknown or has no permutation, or the temperature is not
            positive.
    """
    sorter = find_permutation_operator(operator)
    filled, mask, temperatures = prepare(scores, temperature, mask)
    if not filled.numel():
        return filled.sum(-1)
    return sorter.sum_sorted(filled, values, weights, temperature=temperatures, mask=mask)


def find_permutation_operator(operator: str | Operator) -> PermutationOperator:
    """Return the operator of a name, or the operator itself, if it has a permutation.

    Raises:
        ConfigError: if no operator has that name, or it provides only the top k.
    """
    sorter = find_operator(operator)
    if not isinstance(sorter, PermutationOperator):
        usable = [name for name in OPERATORS if issubclass(OPERATORS[name], PermutationOperator)]
        raise ConfigError(
            f"operator '{operator}' provides top-k probabilities but no permutation; "
            f"use top_k_probability, or one of {', '.join(usable)}"
        )
    return sorter


def _log_top_k(
    scores: Tensor,
    k: int | Tensor,
    *,
    operator: str | Operator,
    temperature: float | Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the result of :func:`log_top_k_probability` in at least float32."""
    sorter, lists = find_operator(operator), cut_lists(scores, k, temperature, mask)
    if not scores.numel():
        return lists.scores, lists.scores
    log_kept, log_dropped = sorter.log_top_k(
        lists.scores, lists.k, temperature=lists.temperature, mask=lists.mask
    )
    if lists.decided:
        return log_kept, log_dropped
    masked, all_kept, none_kept = ~lists.mask, lists.all_kept(), lists.none_kept()
    log_kept = log_kept.masked_fill(all_kept, 0.0).masked_fill(masked | none_kept, -torch.inf)
    log_dropped = log_dropped.masked_fill(none_kept, 0.0)
    log_dropped = log_dropped.masked_fill(masked | (all_kept & ~none_kept), -torch.inf)
    return log_kept, log_dropped
