"""FS-LambdaLoss: every stage learns the order of all levels, by what it means to NDCG."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from cascaderank.losses import Preferences, best_dcg, ndcg_lambdas, pessimistic_rank
from cascaderank.losses.lambda_ndcg import lambda_ndcg_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._published import check_full_lists, check_published
from cascaderank.tensors import at_least_float32

_PUBLISHED_CUT = 30
"""Where the published code cuts the ranking of every stage."""


@OBJECTIVES.register
def fs_lambdaloss_objective(
    *, stages: tuple[str, ...], quotas: tuple[int, ...], published: bool = False
) -> Objective:
    """Train each stage, by itself, to rank by label what all stages of the logged system saw.

    The term of a stage is :func:`cascaderank.losses.lambda_ndcg_loss` at its quota, and is
    called ``lambda_ndcg/<stage>``. The gains are the labels: take a target that is the level, or
    the place in the funnel. Levels are not read.

    Args:
        stages: names of the stages, first first.
        quotas: how many candidates each stage passes on; ranks beyond count for nothing.
        published: count every pair twice, cut at 30 in every stage, and take labels for gains as
            they are, as the LCRON paper's code does. Defined for full lists, two and three
            stages.

    Raises:
        ConfigError: if ``published`` is not defined for so many stages.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective("fs_lambdaloss", stages=2, quotas=(2, 1))
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> objective(scores, torch.tensor([[2.0, 1.0, 0.0]])).terms
        {'lambda_ndcg/stage_1': tensor(0.1926), 'lambda_ndcg/stage_2': tensor(0.2479)}

    Source: FS-LTR with LambdaLoss, as compared by LCRON (arXiv 2503.09492); deviations are in
    ``docs/methods/fs_lambdaloss.md``.
    """
    if published:
        check_published("fs_lambdaloss", stages=len(stages), threshold=None)
    terms = []
    for t, name in enumerate(stages):
        form = _Published(stage=t) if published else _Ours(stage=t, quota=quotas[t])
        terms.append(Term(f"lambda_ndcg/{name}", form.loss, stage=t))
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _Ours:
    """The term of this library: masks, the quota of the stage."""

    stage: int
    quota: int

    def loss(self, inputs: CascadeInputs) -> Tensor:
        scores = inputs.scores[self.stage]
        return lambda_ndcg_loss(scores, inputs.labels, m=self.quota, mask=inputs.mask)


@dataclass(frozen=True, kw_only=True)
class _Published:
    """The term of the published code: ordered pairs, so each one twice; gains from 0."""

    stage: int

    def loss(self, inputs: CascadeInputs) -> Tensor:
        check_full_lists(inputs)
        scores, pairs = inputs.scores[self.stage], Preferences(inputs.labels, inputs.mask)
        labels = inputs.labels.to(at_least_float32(scores).dtype)
        gain = labels / best_dcg(labels)[..., None]
        rank = pessimistic_rank(scores, inputs.labels, inputs.mask)
        weigh = partial(ndcg_lambdas, m=_PUBLISHED_CUT)
        return 2 * pairs.costs(scores, gain, rank, weigh=weigh).mean()
