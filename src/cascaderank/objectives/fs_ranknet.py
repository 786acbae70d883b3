"""FS-RankNet: every stage learns to tell the levels of the logged funnel apart."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses import Preferences
from cascaderank.losses.ranknet import Balance, ranknet_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._levels import check_z, relabelled
from cascaderank.objectives._published import (
    check_as_published,
    check_full_lists,
    check_published,
)
from cascaderank.tensors import at_least_float32


@OBJECTIVES.register
def fs_ranknet_objective(
    *,
    stages: tuple[str, ...],
    published: bool = False,
    z: tuple[float, ...] | None = None,
    balance: Balance = "labels",
) -> Objective:
    """Train each stage, by itself, to rank what got further above what got less far.

    Every stage learns from the candidates of all levels, whatever stage dropped them. The term
    of a stage is :func:`cascaderank.losses.ranknet_loss` on levels, each level above the lowest
    weighing the same, and is called ``ranknet/<stage>``. For a batch without levels, the labels
    are taken for levels: each different label is one.

    Args:
        stages: names of the stages, first first.
        published: sum over levels and average over the candidates of the whole batch, as the
            LCRON paper's code does. Defined for full lists with levels, two and three stages.
        z: the label of each level, lowest first, never falling; the level itself if not given.
            Levels of one label carry no preference.
        balance: what weighs the same, labels or pairs: see the loss.

    Raises:
        ConfigError: if ``published`` is not defined for so many stages or fixes an option, if it
            is given a batch without levels, or if a level has no number in ``z``.

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
        form: _Ours | _Published = (
            _Published(stage=t, stages=len(stages))
            if published
            else _Ours(stage=t, z=z, balance=balance)
        )
        terms.append(Term(f"ranknet/{name}", form.loss, stage=t))
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _Ours:
    """The term of this library: masks, any levels, each list by itself."""

    stage: int
    z: tuple[float, ...] | None
    balance: Balance

    def loss(self, inputs: CascadeInputs) -> Tensor:
        labels, scores = relabelled(inputs, self.z), inputs.scores[self.stage]
        return ranknet_loss(scores, labels, balance=self.balance, mask=inputs.mask)


@dataclass(frozen=True, kw_only=True)
class _Published:
    """The term of the published code: a sum over levels of means over the batch."""

    stage: int
    stages: int

    def loss(self, inputs: CascadeInputs) -> Tensor:
        if inputs.levels is None:
            raise ConfigError(
                "published=True of 'fs_ranknet' needs levels; pass levels [batch, list]"
            )
        check_full_lists(inputs)
        scores, levels = inputs.scores[self.stage], inputs.levels
        pairs = Preferences(levels, inputs.mask)
        worse = pairs.worse()
        weight = torch.zeros_like(at_least_float32(scores))
        for level in range(1, self.stages + 2):
            there = (levels == level) & (worse > 0)
            weight += there.to(weight) / there.sum().clamp(min=1)
        weight /= worse.clamp(min=1)
        return pairs.costs(scores, weight, weigh=lambda one, _: one).sum()
