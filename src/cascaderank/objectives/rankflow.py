"""RankFlow: a stage learns from the labels, and from the stage that it delivers to."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.losses import ground_truth_targets
from cascaderank.losses.bce import bce_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._published import check_full_lists, check_published
from cascaderank.selection import best_first, keep
from cascaderank.tensors import at_least_float32, masked_mean, reduce_lists

_PUBLISHED_CUTS = {2: (30,), 3: (40, 30)}
"""How many candidates each stage but the last passes on in the published code."""

_PUBLISHED_TUTOR_CUTS = {2: (10,), 3: (30, 20)}
"""How many of those the next stage is taken to keep in the published code."""


@OBJECTIVES.register
def rankflow_objective(
    *,
    stages: tuple[str, ...],
    quotas: tuple[int, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    published: bool = False,
    alpha: float | None = None,
) -> Objective:
    """Train each stage on what the stages before let pass, and to foresee the stage after it.

    The candidates that reach a stage are those that the present scores of the stages before it
    keep, by their quotas. Terms of a stage are

    * ``self/<stage>``: :func:`cascaderank.losses.bce_loss` on what reaches it;
    * ``regression/<stage>``, of all but the last: the relative entropy from the probabilities of
      the next stage, ``sigmoid(s)``, to its own, a mean over what reaches the next stage;
    * ``ranking/<stage>``, of all but the last: ``softplus`` of how much more it scores, in the
      mean, what the next stage drops than what the next stage keeps.

    What is learned from the next stage does not move that stage: a tutor is a constant.

    Args:
        stages: names of the stages, first first.
        quotas: how many candidates each stage passes on.
        ground_truth: the ground truth is the top so many by label.
        threshold: the ground truth is every label of at least this.
        published: regress scores by their squared distance, cut at 30 and have the tutor keep 10
            (for three stages cut at 40 and 30 and have tutors keep 30 and 20), as the LCRON
            paper's code does. Defined for full lists, two and three stages, and a ground truth
            of the top k.
        alpha: the weight of ``ranking``, in [0, 1]; ``regression`` weighs the rest. If not given,
            1/2, or 0 if published. The published form of three stages adds up both, and takes
            none.

    Raises:
        ConfigError: if an option is unknown or out of range, or ``published`` fixes it.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective("rankflow", stages=2, quotas=(2, 1), ground_truth=1)
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> objective(scores, torch.tensor([[2.0, 1.0, 0.0]])).terms["ranking/stage_1"]
        tensor(0.3133)

    Source: Qin et al. 2022 (SIGIR), as compared by LCRON (arXiv 2503.09492); deviations are in
    ``docs/methods/rankflow.md``.
    """
    count = len(stages)
    cuts, tutor_cuts = quotas[:-1], quotas[1:]
    if published:
        check_published("rankflow", stages=count, threshold=threshold)
        if count == 3 and alpha is not None:
            raise ConfigError(
                "published=True of 'rankflow' has no alpha for 3 stages: it adds up both terms; "
                f"got alpha={alpha}"
            )
        cuts, tutor_cuts = _PUBLISHED_CUTS[count], _PUBLISHED_TUTOR_CUTS[count]
    if alpha is None:
        alpha = 0.0 if published else 0.5
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha must be a number in [0, 1]; got {alpha}")
    shares = (1.0, 1.0) if published and count == 3 else (1 - alpha, alpha)
    form = _RankFlow(
        cuts=cuts, tutor_cuts=tutor_cuts, k=ground_truth, threshold=threshold, published=published
    )
    terms = []
    for t, name in enumerate(stages):
        of = _OfStage(form=form, stage=t)
        terms.append(Term(f"self/{name}", of.by_itself, stage=t))
        if t < count - 1:
            terms.append(Term(f"regression/{name}", of.regression, shares[0], stage=t))
            terms.append(Term(f"ranking/{name}", of.ranking, shares[1], stage=t))
    return Objective(terms, stages=count)


@dataclass(frozen=True, kw_only=True)
class _RankFlow:
    """Who reaches which stage, and by which measure a tutor is followed."""

    cuts: tuple[int, ...]
    tutor_cuts: tuple[int, ...]
    k: int | None
    threshold: float | None
    published: bool

    def reaches(self, inputs: CascadeInputs, stage: int) -> Tensor:
        """Return who is left of each list when it comes to a stage, ``[batch, list]`` bool."""
        if self.published:
            check_full_lists(inputs)
            if inputs.scores.shape[-1] < self.cuts[0]:
                raise ShapeError(
                    f"published=True of 'rankflow' is defined for lists of at least "
                    f"{self.cuts[0]} candidates; got scores {list(inputs.scores.shape)}"
                )
        alive = inputs.mask
        for scores, cut in zip(inputs.scores[:stage], self.cuts, strict=False):
            alive = keep(best_first(scores), alive, cut)
        return alive


@dataclass(frozen=True, kw_only=True)
class _OfStage:
    """The terms of one stage."""

    form: _RankFlow
    stage: int

    def by_itself(self, inputs: CascadeInputs) -> Tensor:
        scores, form = inputs.scores[self.stage], self.form
        marks, _ = ground_truth_targets(
            inputs.labels, like=scores, k=form.k, threshold=form.threshold, mask=inputs.mask
        )
        return bce_loss(scores, marks, mask=form.reaches(inputs, self.stage))

    def regression(self, inputs: CascadeInputs) -> Tensor:
        alive = self.form.reaches(inputs, self.stage + 1)
        scores, tutor = (
            at_least_float32(s.masked_fill(~alive, 0.0)) for s in self._with_tutor(inputs)
        )
        if self.form.published:
            return reduce_lists(masked_mean((tutor - scores).square(), alive), "mean")
        wanted = tutor.sigmoid()
        return bce_loss(scores, wanted, mask=alive) - bce_loss(tutor, wanted, mask=alive)

    def ranking(self, inputs: CascadeInputs) -> Tensor:
        alive = self.form.reaches(inputs, self.stage + 1)
        scores, tutor = self._with_tutor(inputs)
        kept = keep(best_first(tutor), alive, self.form.tutor_cuts[self.stage])
        dropped = alive & ~kept
        scores = at_least_float32(scores.masked_fill(~alive, 0.0))
        cost = softplus(masked_mean(scores, dropped) - masked_mean(scores, kept))
        return reduce_lists(cost * (kept.any(-1) & dropped.any(-1)), "mean")

    def _with_tutor(self, inputs: CascadeInputs) -> tuple[Tensor, Tensor]:
        return inputs.scores[self.stage], inputs.scores[self.stage + 1].detach()
