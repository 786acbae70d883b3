"""Conditional survival: log-probability that the ground truth passes a soft cascade."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._targets import ground_truth_targets
from cascaderank.sorting.gate import log_gate
from cascaderank.sorting.inputs import prepare
from cascaderank.tensors import Reduction, at_least_float32, check_cascade, reduce_lists


@LOSSES.register
def conditional_survival_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    quotas: Sequence[int],
    k: int | None = None,
    threshold: float | None = None,
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Negative log-probability, in nats, that the ground truth survives a soft cascade.

    ``-(1/K) sum_j z_j log a^S_j``, where z is 1 for the ground truth and 0 for other candidates,
    and K is the size of the ground truth. Every candidate starts with mass a = 1. Stage t reduces
    the total mass to its quota:

        a^t_j = a^(t-1)_j sigmoid((s^t_j - theta_t) / temperature)
        theta_t such that sum_j a^t_j = q_t

    A candidate dropped by an earlier stage therefore does not compete for a place in a later one.
    As the temperature decreases, the soft cascade approaches the hard one. The loss has no term
    for negatives, because mass assigned to them is not available to the ground truth. The gradient
    is exact: it flows through theta to all scores of the same stage and of earlier stages.

    A stage whose quota is not smaller than the number of candidates it receives passes all of
    them.

    Args:
        scores: ``[stages, batch, list]``, first stage first; higher is better.
        labels: ``[batch, list]``, higher is better.
        quotas: ``q_t``, number of candidates each stage keeps, at least 1 and never increasing.
        k: the ground truth is the top ``k`` by label, ``k`` at least 1; candidates that tie for
            the last places share them. At least one of ``k`` and ``threshold`` must be given.
        threshold: the ground truth is every label of at least this; finite.
        temperature: width of the sigmoid in units of scores, positive: a number, or a tensor that
            broadcasts to ``[stages, batch]``.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, of the scores' dtype; ``[batch]`` without reduction. It is exactly 0
        for a list without ground truth, and for a list from which no stage drops a candidate. Its
        infimum is positive where the ground truth is larger than the last quota.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if neither ``k`` nor ``threshold`` is given, and if an option is
            out of range.

    Examples:
        >>> labels = torch.tensor([[2.0, 1.0, 0.0]])
        >>> agree = torch.tensor([[[1.0, 0.5, -1.0]], [[1.0, 0.0, -1.0]]])
        >>> conditional_survival_loss(agree, labels, quotas=(2, 1), k=1)
        tensor(0.5584)
        >>> disagree = agree * torch.tensor([1.0, -1.0])[:, None, None]
        >>> conditional_survival_loss(disagree, labels, quotas=(2, 1), k=1)
        tensor(1.3321)

    Source: this project.
    """
    mask = check_cascade(scores, labels, quotas, mask)
    targets, size = ground_truth_targets(labels, like=scores, k=k, threshold=threshold, mask=mask)
    final = log_mass(at_least_float32(scores), quotas, temperature, mask)[-1]
    loss = -(targets.to(final) * final).sum(-1) / size.clamp(min=1)
    return reduce_lists(loss, reduction).to(scores.dtype)


def log_mass(
    scores: Tensor, quotas: Sequence[int], temperature: float | Tensor, mask: Tensor
) -> Tensor:
    """Return the logarithm of each candidate's mass after each stage of the soft cascade.

    Args:
        scores: ``[stages, batch, list]``, in at least float32.
        quotas: number of candidates that each stage keeps.
        temperature: as of :func:`conditional_survival_loss`.
        mask: ``[batch, list]`` bool.

    Returns:
        ``[stages, batch, list]``, at most 0 and finite; 0 under the mask. The masses of a list add
        up to the quota, or to the number of its candidates if that is smaller.

    Examples:
        >>> scores = torch.tensor([[[2.0, 1.0, 0.0]]])
        >>> log_mass(scores, (1,), 1.0, torch.ones(1, 3, dtype=torch.bool)).exp()
        tensor([[[0.5491, 0.3094, 0.1415]]])

    Source: this project.
    """
    scores, masks, temperatures = prepare(scores, temperature, mask.expand_as(scores))
    if not scores.shape[-1]:
        return scores
    entering, log_alive, after_stages = mask.sum(-1), torch.zeros_like(scores[0]), []
    stages = zip(scores, quotas, temperatures, masks, strict=True)
    for stage_scores, quota, stage_temperature, real in stages:
        kept = torch.full_like(entering, quota)
        log_pass, _ = log_gate(
            stage_scores, log_alive, kept, temperature=stage_temperature, mask=real
        )
        drops = (entering > quota)[..., None]
        log_alive = log_alive + log_pass.masked_fill(~(real & drops), 0.0)
        entering = entering.clamp(max=quota)
        after_stages.append(log_alive)
    return torch.stack(after_stages)
