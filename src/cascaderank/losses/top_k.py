"""Top-k loss: binary cross-entropy of the probability to be among the top k."""

from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._targets import ground_truth_targets, log_space_bce
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

    ``mean_j BCE(p_j(K), z_j)``, where z is 1 for the ground truth of the list and 0 for other
    candidates, K is the size of the ground truth, and p(K) is the probability of being among the
    top K by score. This is the per-stage term of LCRON.

    It is computed from ``log p`` and ``log(1 - p)``, never from a clamped p. Note that for
    operators with a permutation, the gradient of ``log(1 - p)`` flows through the rows below K and
    raises them. Its value is exactly that of 1 - p (``docs/decisions/0001-log-space-top-k.md``).

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        k: the ground truth is the top ``k`` by label, ``k`` at least 1; candidates that tie for
            the last places share them. At least one of ``k`` and ``threshold`` must be given.
        threshold: the ground truth is every label of at least this; finite.
        operator: smooth top-k operator: a name in ``cascaderank.sorting.OPERATORS``, or an
            instance.
        temperature: temperature of the operator, positive: a number, or a tensor ``[...]`` with
            one value per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, of the scores' dtype; exactly 0 for a list without ground truth, or
        without other candidates.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if neither ``k`` nor ``threshold`` is given, and if an option is
            unknown or out of range.

    Examples:
        >>> import torch
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> top_k_loss(torch.tensor([1.0, 0.5, -1.0]), labels, k=1)
        tensor(0.2975)
        >>> top_k_loss(torch.tensor([-1.0, 0.5, 1.0]), labels, k=1)
        tensor(2.2627)

    Source: LCRON (arXiv 2503.09492), the single-stage term; the log-space form is this project's.
    """
    mask = check_lists(scores, labels, mask)
    targets, size = ground_truth_targets(labels, like=scores, k=k, threshold=threshold, mask=mask)
    log_kept, log_dropped = log_top_k_probability(
        at_least_float32(scores), size, operator=operator, temperature=temperature, mask=mask
    )
    losses = top_k_costs(log_kept, log_dropped, targets, size=size, mask=mask)
    return reduce_lists(losses, reduction).to(scores.dtype)


def top_k_costs(
    log_kept: Tensor, log_dropped: Tensor, targets: Tensor, *, size: Tensor, mask: Tensor
) -> Tensor:
    """Return the top-k loss of each list ``[...]`` from the logarithms of its top ``size``.

    Args:
        log_kept: log-probability of being kept, ``[..., list]``.
        log_dropped: log-probability of being dropped, ``[..., list]``.
        targets: targets of the ground truth, in [0, 1]; broadcast to ``[..., list]``.
        size: size of the ground truth; broadcast to ``[...]``.
        mask: bool, ``True`` for a real candidate; broadcast to ``[..., list]``.
    """
    decided = (size > 0) & (size < count_real(mask))
    return log_space_bce(log_kept, log_dropped, targets, decided=decided, mask=mask)
