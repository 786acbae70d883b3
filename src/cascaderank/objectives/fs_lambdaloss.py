"""FS-LambdaLoss: LambdaLoss of NDCG per stage, over the candidates of all levels."""

from dataclasses import dataclass

from torch import Tensor

from cascaderank.losses.lambda_ndcg import lambda_ndcg_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._published.fs_lambdaloss_reference import FsLambdaLossReference
from cascaderank.objectives._published.preconditions import check_published


@OBJECTIVES.register
def fs_lambdaloss_objective(
    *, stages: tuple[str, ...], quotas: tuple[int, ...], published: bool = False
) -> Objective:
    """Train each stage separately to rank the candidates of all logged stages by label.

    The term of a stage is :func:`cascaderank.losses.lambda_ndcg_loss` at its quota, named
    ``lambda_ndcg/<stage>``. The gains are the labels: use a target that is the level, or the
    position in the funnel. Levels are ignored.

    Args:
        stages: names of the stages, first stage first.
        quotas: number of candidates that each stage passes on; ranks beyond it have discount 0.
        published: whether to count every pair twice, cut at 30 in every stage, and use labels as
            gains without an offset, as the code of the LCRON paper does. Defined for two and three
            stages.

    Raises:
        ConfigError: if ``published`` is not defined for this number of stages.

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
        form: _StageTerm | FsLambdaLossReference = (
            FsLambdaLossReference(stage=t) if published else _StageTerm(stage=t, quota=quotas[t])
        )
        terms.append(Term(f"lambda_ndcg/{name}", form.loss, stage=t))
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _StageTerm:
    """The term of one stage in this library's form: masks, the quota of the stage."""

    stage: int
    quota: int

    def loss(self, inputs: CascadeInputs) -> Tensor:
        scores = inputs.scores[self.stage]
        return lambda_ndcg_loss(scores, inputs.labels, m=self.quota, mask=inputs.mask)
