"""Conditional survival: each stage lets its quota through, of what the one before let through."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._marks import mark
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

    ``-(1/K) sum_j z_j log a^S_j``, where z marks the ground truth and K is its size. The mass a
    of a candidate is 1 at first, and stage t lets its quota of what is left through:

        a^t_j = a^(t-1)_j sigmoid((s^t_j - theta_t) / temperature)
        theta_t such that sum_j a^t_j = q_t

    So what an earlier stage drops does not compete for a place in a later one, and the colder,
    the nearer to the hard cascade. Nothing has to be said about negatives: mass that goes to them
    is lost to the ground truth. The gradient is exact, through theta to all scores of this stage
    and of those before it.

    A stage that gets no more candidates than its quota lets all of them pass.

    Args:
        scores: ``[stages, batch, list]``, first stage first; higher is better.
        labels: ``[batch, list]``, higher is better.
        quotas: ``q_t``, how many candidates each stage keeps; never grows.
        k: the ground truth is the top ``k`` by label; candidates that tie for the last places
            share them. Give either this or ``threshold``.
        threshold: the ground truth is every label of at least this.
        temperature: score units over which a cut is blurred: positive; a number, or a tensor
            that spreads to ``[stages, batch]``.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, of the scores' dtype; ``[batch]`` without reduction. Exactly 0 for a list
        without ground truth, and for one where no stage drops anything. It need not reach 0
        elsewhere: not if the ground truth is larger than the last quota.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: unless exactly one of ``k`` and ``threshold`` is given, and if an option is
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
    marks, size = mark(labels, like=scores, k=k, threshold=threshold, mask=mask)
    log_alive = _log_alive(at_least_float32(scores), quotas, temperature, mask)[-1]
    cost = -(marks.to(log_alive) * log_alive).sum(-1) / size.clamp(min=1)
    return reduce_lists(cost, reduction).to(scores.dtype)


def _log_alive(
    scores: Tensor, quotas: Sequence[int], temperature: float | Tensor, mask: Tensor
) -> Tensor:
    """Return the log-mass of each candidate after each stage, ``[stages, batch, list]``.

    It is finite everywhere, and 0 under the mask.
    """
    scores, masks, temperatures = prepare(scores, temperature, mask.expand_as(scores))
    if not scores.shape[-1]:
        return scores
    entering, log_alive, after = mask.sum(-1), torch.zeros_like(scores[0]), []
    for stage, quota, warmth, real in zip(scores, quotas, temperatures, masks, strict=True):
        kept = torch.full_like(entering, quota)
        log_pass, _ = log_gate(stage, log_alive, kept, temperature=warmth, mask=real)
        drops = (entering > quota)[..., None]
        log_alive = log_alive + log_pass.masked_fill(~(real & drops), 0.0)
        entering = entering.clamp(max=quota)
        after.append(log_alive)
    return torch.stack(after)
