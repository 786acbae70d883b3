"""Inclusion policy gradient: rewards of exposed candidates, weighted by importance ratios."""

from collections.abc import Sequence

from torch import Tensor

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.losses import LOSSES
from cascaderank.losses.conditional_survival import log_mass
from cascaderank.propensities import check_propensities
from cascaderank.tensors import Reduction, at_least_float32, check_cascade, reduce_lists


@LOSSES.register
def inclusion_policy_gradient_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    quotas: Sequence[int],
    propensities: Tensor | None = None,
    clip: float = 10.0,
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Policy gradient of the reward of the candidates that a soft cascade exposes.

    .. math::
        \ell = -\sum_j w_j \, r_j \log a^S_j, \qquad
        w_j = \operatorname{min}\left(c, \frac{a^S_j}{\pi^0_j}\right)
        \text{, a constant to the gradient}

    Here :math:`r_j` is the reward of an exposed candidate, :math:`a^S_j` the probability that all
    stages of the soft cascade of :func:`~cascaderank.losses.conditional_survival_loss` keep it,
    and :math:`\pi^0_j` its propensity: the probability with which the policy that wrote the log
    exposed it. Where a weight is not clipped, the gradient is that of the estimate of the reward
    by inverse propensities, :math:`-\sum_j r_j a^S_j / \pi^0_j`. Clipping bounds its variance.
    The value of the loss itself is not an estimate of the reward.

    Without propensities all weights are 1. The loss is then ``conditional_survival`` with rewards
    in the place of the ground truth, or the policy gradient of a cascade that wrote the log itself.

    Args:
        scores: ``[stages, batch, list]``, first stage first; higher is better.
        labels: ``[batch, list]``, rewards; 0 for candidates without reward or not exposed.
        quotas: number of candidates each stage keeps, at least 1 and never increasing.
        propensities: ``[batch, list]`` in [1e-12, 1], where the reward is not 0; others are not
            read.
        clip: largest weight, positive; infinity for none.
        temperature: width of a soft cut in units of scores, positive: a number, or a tensor that
            broadcasts to ``[stages, batch]``.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of the scores' dtype; ``[batch]`` without reduction. At least 0 for rewards of at least
        0, and exactly 0 for a list without rewards.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if an option is out of range.
        DataError: if the propensity of a candidate with a reward is not in [1e-12, 1].

    Examples:
        >>> import torch
        >>> scores = torch.tensor([[[2.0, 1.0, 0.0]], [[1.0, 2.0, 0.0]]])
        >>> rewards = torch.tensor([[0.0, 1.0, 0.0]])
        >>> propensities = torch.tensor([[0.5, 0.2, 0.3]])
        >>> inclusion_policy_gradient_loss(
        ...     scores, rewards, quotas=(2, 1), propensities=propensities
        ... )
        tensor(1.7516)

    Source: CA-PG (arXiv 2605.26385); the soft cascade in the place of its inclusion probabilities
    is this project's.
    """
    mask = check_cascade(scores, labels, quotas, mask)
    if not clip > 0:
        raise ConfigError(f"clip must be a positive number; got {clip}")
    log_kept = log_mass(at_least_float32(scores), quotas, temperature, mask)[-1]
    rewards = labels.to(log_kept).masked_fill(~mask, 0.0)
    if propensities is not None:
        weights = importance_weights(log_kept, propensities, clip=clip, used=rewards != 0)
        rewards = weights * rewards
    return reduce_lists(-(rewards * log_kept).sum(-1), reduction).to(scores.dtype)


def importance_weights(
    log_kept: Tensor, propensities: Tensor, *, clip: float, used: Tensor
) -> Tensor:
    """Return the clipped ratio of the new probability to the propensity, without gradient.

    The effective sample size of a log is ``w.sum()**2 / w.square().sum()``, over the weights of all
    exposures: ``used`` must be true for exposed candidates without a reward, too. The loss itself
    computes only the weights of candidates with a reward.

    Args:
        log_kept: ``[batch, list]``, log-probability of each candidate under the new cascade.
        propensities: ``[batch, list]`` in [1e-12, 1] where used.
        clip: largest weight.
        used: ``[batch, list]`` bool. Weights of other candidates are 0.

    Returns:
        ``[batch, list]`` in [0, clip], of the dtype of ``log_kept``.

    Raises:
        ShapeError: if the propensities have another shape or are not floating point.
        DataError: if a propensity is not in [1e-12, 1].

    Examples:
        >>> import torch
        >>> log_kept = torch.tensor([[0.5, 0.5], [0.8, 0.2]]).log()
        >>> propensities = torch.tensor([[0.5, 0.5], [0.4, 0.6]])
        >>> exposed = torch.tensor([[True, False], [True, False]])
        >>> w = importance_weights(log_kept, propensities, clip=10.0, used=exposed)
        >>> w
        tensor([[1., 0.],
                [2., 0.]])
        >>> round(float(w.sum() ** 2 / w.square().sum()), 3)  # of 2 exposures
        1.8

    Source: the clipped weights of CA-PG (arXiv 2605.26385); the effective sample size of Kish 1965.
    """
    if propensities.shape != used.shape or not propensities.is_floating_point():
        raise ShapeError(
            f"propensities must be floating point [batch, list] = {list(used.shape)}; "
            f"got {propensities.dtype} {list(propensities.shape)}"
        )
    check_propensities(propensities, used)
    given = propensities.to(log_kept).masked_fill(~used, 1.0)
    ratios = (log_kept.detach() - given.log()).exp()
    return ratios.clamp(max=clip).masked_fill(~used, 0.0)
