"""FS-LambdaRank: LambdaRank per stage, on the levels of the logged funnel."""

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
    """Train each stage separately to rank candidates by how far they got in the logged cascade.

    Each pair is weighted by the change of NDCG if the two swapped ranks. The term of a stage is
    :func:`cascaderank.losses.lambdarank_loss` on the levels, named ``lambdarank/<stage>``. For a
    batch without levels, the labels are used as levels.

    Args:
        stages: names of the stages, first stage first.
        z: label of each level, lowest level first, non-decreasing; the level itself by default.
        m: cut-off, beyond which ranks have discount 0; none by default.
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

    Source: FS-LR of FS-LTR; ``docs/methods/fs_lambdarank.md`` compares it with the paper.
    """
    check_z(z)
    terms = [
        Term(f"lambdarank/{name}", _StageTerm(stage=t, z=z, m=m, gain=gain).loss, stage=t)
        for t, name in enumerate(stages)
    ]
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _StageTerm:
    stage: int
    z: tuple[float, ...] | None
    m: int | None
    gain: Gain

    def loss(self, inputs: CascadeInputs) -> Tensor:
        labels = relabelled(inputs, self.z)
        scores = inputs.scores[self.stage]
        return lambdarank_loss(scores, labels, m=self.m, gain=self.gain, mask=inputs.mask)
