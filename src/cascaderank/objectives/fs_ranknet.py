"""FS-RankNet: RankNet per stage, on the levels of the logged funnel."""

from dataclasses import dataclass

from torch import Tensor

from cascaderank.losses.ranknet import Balance, ranknet_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._levels import check_z, relabelled
from cascaderank.objectives._published.fs_ranknet_reference import FsRankNetReference
from cascaderank.objectives._published.preconditions import check_as_published, check_published


@OBJECTIVES.register
def fs_ranknet_objective(
    *,
    stages: tuple[str, ...],
    published: bool = False,
    z: tuple[float, ...] | None = None,
    balance: Balance = "labels",
) -> Objective:
    """Train each stage separately to rank candidates by how far they got in the logged cascade.

    Every stage is trained on the candidates of all levels, whichever stage dropped them. The term
    of a stage is :func:`cascaderank.losses.ranknet_loss` on levels, with the same weight for each
    level above the lowest, named ``ranknet/<stage>``. For a batch without levels, the labels are
    used as levels: each distinct label is one.

    Args:
        stages: names of the stages, first stage first.
        published: whether to sum over levels and average over the candidates of the whole batch,
            as the code of the LCRON paper does. Defined for lists with levels, two and three
            stages.
        z: label of each level, lowest level first, non-decreasing; the level itself by default.
            Candidates of levels with equal labels form no pairs.
        balance: unit of equal weight, labels or pairs; see the loss.

    Raises:
        ConfigError: if ``published`` is not defined for this number of stages or fixes an option,
            if it is applied to a batch without levels, or if a level has no number in ``z``.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective("fs_ranknet", stages=2, quotas=(2, 1))
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> labels, levels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> objective(scores, labels, levels=levels).terms
        {'ranknet/stage_1': tensor(0.2201), 'ranknet/stage_2': tensor(0.2201)}

    Source: FS-LTR with RankNet, as compared by LCRON (arXiv 2503.09492); deviations are in
    ``docs/methods/fs_ranknet.md``.
    """
    check_z(z)
    if published:
        check_published("fs_ranknet", stages=len(stages), threshold=None)
        check_as_published("fs_ranknet", {"z": (z, None), "balance": (balance, "labels")})
    terms = []
    for t, name in enumerate(stages):
        form: _StageTerm | FsRankNetReference = (
            FsRankNetReference(stage=t, stages=len(stages))
            if published
            else _StageTerm(stage=t, z=z, balance=balance)
        )
        terms.append(Term(f"ranknet/{name}", form.loss, stage=t))
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _StageTerm:
    """The term of one stage in this library's form: masks, any levels, lists weighted equally."""

    stage: int
    z: tuple[float, ...] | None
    balance: Balance

    def loss(self, inputs: CascadeInputs) -> Tensor:
        labels, scores = relabelled(inputs, self.z), inputs.scores[self.stage]
        return ranknet_loss(scores, labels, balance=self.balance, mask=inputs.mask)
