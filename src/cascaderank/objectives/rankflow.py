"""RankFlow: each stage is trained on labels and by distillation from the next stage."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus

from cascaderank.errors import ConfigError
from cascaderank.losses import ground_truth_targets
from cascaderank.losses.bce import bce_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._published.list_lengths import check_shortest
from cascaderank.objectives._published.preconditions import check_published
from cascaderank.objectives._published.rankflow_reference import (
    RANKFLOW_CUTS,
    RANKFLOW_TUTOR_CUTS,
    squared_distance,
)
from cascaderank.selection import best_first, keep
from cascaderank.tensors import at_least_float32, below_best, masked_mean, reduce_lists


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
    """Train each stage on the candidates that reach it, and to predict the stage after it.

    The candidates that reach a stage are those that the stages before it keep, by their current
    scores and quotas. Terms of a stage are

    * ``self/<stage>``: :func:`cascaderank.losses.bce_loss` on the candidates that reach it;
    * ``regression/<stage>``, except for the last stage: the relative entropy from the
      probabilities of the next stage, ``sigmoid(s)``, to its own, averaged over the candidates
      that reach the next stage;
    * ``ranking/<stage>``, except for the last stage: ``softplus`` of its mean score of the
      candidates that the next stage drops minus its mean score of those that the next stage keeps.

    The next stage, the tutor, is detached: it receives no gradient from these terms.

    Args:
        stages: names of the stages, first stage first.
        quotas: number of candidates that each stage passes on.
        ground_truth: size of the ground truth, the top candidates by label.
        threshold: the ground truth is every label of at least this value.
        published: whether to regress scores by their squared distance, with a cut-off of 30 and
            10 candidates kept by the tutor (for three stages cut-offs of 40 and 30, and 30 and 20
            kept by the tutors), as the code of the LCRON paper does. Defined for two and three
            stages, lists of at least 30 (40) candidates, and a ground truth of the top k.
        alpha: weight of ``ranking``, in [0, 1]; the weight of ``regression`` is ``1 - alpha``. The
            default is 1/2, or 0 if published. The published form of three stages sums both terms
            without weights and has no ``alpha``.

    Raises:
        ConfigError: if an option is unknown or out of range, or fixed by ``published``.

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
                "published=True of 'rankflow' has no alpha for 3 stages: it sums both terms; "
                f"got alpha={alpha}"
            )
        cuts, tutor_cuts = RANKFLOW_CUTS[count], RANKFLOW_TUTOR_CUTS[count]
    if alpha is None:
        alpha = 0.0 if published else 0.5
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha must be a number in [0, 1]; got {alpha}")
    weights = (1.0, 1.0) if published and count == 3 else (1 - alpha, alpha)
    form = _RankFlow(
        cuts=cuts, tutor_cuts=tutor_cuts, k=ground_truth, threshold=threshold, published=published
    )
    terms = []
    for t, name in enumerate(stages):
        stage_terms = _StageTerms(form=form, stage=t)
        terms.append(Term(f"self/{name}", stage_terms.by_itself, stage=t))
        if t < count - 1:
            terms.append(Term(f"regression/{name}", stage_terms.regression, weights[0], stage=t))
            terms.append(Term(f"ranking/{name}", stage_terms.ranking, weights[1], stage=t))
    return Objective(terms, stages=count)


@dataclass(frozen=True, kw_only=True)
class _RankFlow:
    """Options that all stages share: cut-offs, ground truth, and form of the regression."""

    cuts: tuple[int, ...]
    tutor_cuts: tuple[int, ...]
    k: int | None
    threshold: float | None
    published: bool

    def reaches(self, inputs: CascadeInputs, stage: int) -> Tensor:
        """Return the candidates that reach a stage, ``[batch, list]`` bool."""
        if self.published:
            check_shortest(inputs, name="rankflow", shortest=self.cuts[0])
        alive = inputs.mask
        for scores, cut in zip(inputs.scores[:stage], self.cuts, strict=False):
            alive = keep(best_first(scores), alive, cut)
        return alive


@dataclass(frozen=True, kw_only=True)
class _StageTerms:
    """The terms of one stage."""

    form: _RankFlow
    stage: int

    def by_itself(self, inputs: CascadeInputs) -> Tensor:
        scores, form = inputs.scores[self.stage], self.form
        relevance, _ = ground_truth_targets(
            inputs.labels, like=scores, k=form.k, threshold=form.threshold, mask=inputs.mask
        )
        return bce_loss(scores, relevance, mask=form.reaches(inputs, self.stage))

    def regression(self, inputs: CascadeInputs) -> Tensor:
        alive = self.form.reaches(inputs, self.stage + 1)
        scores, tutor = (
            at_least_float32(s.masked_fill(~alive, 0.0)) for s in self._with_tutor(inputs)
        )
        if self.form.published:
            return squared_distance(scores, tutor, alive)
        target = tutor.sigmoid()
        return bce_loss(scores, target, mask=alive) - bce_loss(tutor, target, mask=alive)

    def ranking(self, inputs: CascadeInputs) -> Tensor:
        alive = self.form.reaches(inputs, self.stage + 1)
        scores, tutor = self._with_tutor(inputs)
        kept = keep(best_first(tutor), alive, self.form.tutor_cuts[self.stage])
        dropped = alive & ~kept
        scores = below_best(at_least_float32(scores), alive)
        cost = softplus(masked_mean(scores, dropped) - masked_mean(scores, kept))
        return reduce_lists(cost * (kept.any(-1) & dropped.any(-1)), "mean")

    def _with_tutor(self, inputs: CascadeInputs) -> tuple[Tensor, Tensor]:
        return inputs.scores[self.stage], inputs.scores[self.stage + 1].detach()
