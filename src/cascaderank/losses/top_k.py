"""Top-k loss: one stage keeps the ground truth and nothing else."""

from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._marks import log_space_bce, mark
from cascaderank.sorting import Operator, log_top_k_probability
from cascaderank.tensors import Reduction, at_least_float32, check_lists, count_real, reduce_lists


@LOSSES.register
def top_k_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    k: int | None = None,
    threshold: float | None = None,
    operator: str | Operator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Binary cross-entropy between the ground truth and a smooth top-K of the scores.

    ``mean_j BCE(p_j(K), z_j)``, where z marks the ground truth of the list, K is its size, and
    p(K) the probability to be among the top K by score. This is the per-stage term of LCRON.

    Computed from ``log p`` and ``log(1 - p)``, never from a clamped p. Beware that with operators
    that have a permutation, the gradient of ``log(1 - p)`` flows through the rows below K: it
    raises them. In value it is 1 - p exactly (``docs/decisions/0001-log-space-top-k.md``).

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        k: the ground truth is the top ``k`` by label; candidates that tie for the last places
            share them. Give either this or ``threshold``.
        threshold: the ground truth is every label of at least this.
        operator: the smooth top-k: a name in ``cascaderank.sorting.OPERATORS``, or an operator.
        temperature: of the operator: positive; a number, or a tensor ``[...]``, one per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, of the scores' dtype. Exactly 0 for a list where there is nothing to decide:
        no ground truth, or nothing else.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: unless exactly one of ``k`` and ``threshold`` is given, and if an option is
            unknown or out of range.

    Examples:
        >>> import torch
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> top_k_loss(torch.tensor([1.0, 0.5, -1.0]), labels, k=1)
        tensor(0.2975)
        >>> top_k_loss(torch.tensor([-1.0, 0.5, 1.0]), labels, k=1)
        tensor(2.2627)

    Source: LCRON (arXiv 2503.09492), the single-stage term; log space is this project's.
    """
    mask = check_lists(scores, labels, mask)
    marks, size = mark(labels, like=scores, k=k, threshold=threshold, mask=mask)
    log_kept, log_dropped = log_top_k_probability(
        at_least_float32(scores), size, operator=operator, temperature=temperature, mask=mask
    )
    costs = top_k_costs(log_kept, log_dropped, marks, size=size, mask=mask)
    return reduce_lists(costs, reduction).to(scores.dtype)


def top_k_costs(
    log_kept: Tensor, log_dropped: Tensor, marks: Tensor, *, size: Tensor, mask: Tensor
) -> Tensor:
    """Return the loss of each list ``[...]``, given its logarithms of a top ``size``.

    Marks, size and mask may be those of several lists of logarithms: they spread to these.
    """
    decided = (size > 0) & (size < count_real(mask))
    return log_space_bce(log_kept, log_dropped, marks, decided=decided, mask=mask)
