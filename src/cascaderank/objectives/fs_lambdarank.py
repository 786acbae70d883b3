"""FS-LambdaRank: every stage learns the levels of the logged funnel, by what they mean to NDCG."""

from dataclasses import dataclass

from torch import Tensor

from cascaderank.losses.lambdarank import lambdarank_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._levels import check_z, relabelled
from cascaderank.relevance import Gain


@OBJECTIVES.register
def fs_lambdarank_objective(
    *,
    stages: tuple[str, ...],
    z: tuple[float, ...] | None = None,
    m: int | None = None,
    gain: Gain = "exponential",
) -> Objective:
    """Train each stage, by itself, to rank what got further above what got less far.

    A mistake counts as much as it costs NDCG. The term of a stage is
    :func:`cascaderank.losses.lambdarank_loss` on the levels, and is called
    ``lambdarank/<stage>``. For a batch without levels, the labels are taken for levels.

    Args:
        stages: names of the stages, first first.
        z: the label of each level, lowest first, never falling; the level itself if not given.
        m: ranks beyond this count for nothing; all count if not given.
        gain: ``"exponential"`` for ``2^z - 1``, ``"linear"`` for ``z``.

    Raises:
        ConfigError: if an option is unknown or out of range, or a level has no number in ``z``.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective("fs_lambdarank", stages=1, quotas=(1,), z=(0, 1, 4))
        >>> levels = torch.tensor([[2, 1, 0]])
        >>> objective(torch.tensor([[[1.0, 2.0, 3.0]]]), levels.float(), levels=levels).terms
        {'lambdarank/stage_1': tensor(1.2056)}

    Source: FS-LR of FS-LTR; what is as in the paper is in ``docs/methods/fs_lambdarank.md``.
    """
    check_z(z)
    terms = [
        Term(f"lambdarank/{name}", _OfStage(stage=t, z=z, m=m, gain=gain).loss, stage=t)
        for t, name in enumerate(stages)
    ]
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _OfStage:
    stage: int
    z: tuple[float, ...] | None
    m: int | None
    gain: Gain

    def loss(self, inputs: CascadeInputs) -> Tensor:
        labels = relabelled(inputs, self.z)
        scores = inputs.scores[self.stage]
        return lambdarank_loss(scores, labels, m=self.m, gain=self.gain, mask=inputs.mask)
