"""BCE: every stage on its own, on what the logged system let reach it."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.losses import ground_truth_targets
from cascaderank.losses.bce import bce_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._published import (
    check_as_published,
    check_full_lists,
    check_published,
)

_PUBLISHED_LENGTHS = {2: (40, 20), 3: (50, 40, 20)}
"""How many candidates, best level first, each stage of the published code trains on."""


@OBJECTIVES.register
def bce_objective(
    *,
    stages: tuple[str, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    published: bool = False,
    entry_levels: tuple[int, ...] | None = None,
) -> Objective:
    """Train each stage to tell the ground truth from the rest, by itself.

    The usual way to train a cascade. A stage learns from the candidates that the logged system
    let reach it, those of at least its entry level; without levels, from all candidates. The
    term of a stage is :func:`cascaderank.losses.bce_loss`, and is called ``bce/<stage>``.

    Args:
        stages: names of the stages, first first.
        ground_truth: the ground truth is the top so many by label.
        threshold: the ground truth is every label of at least this.
        published: train on the best 40 and 20 candidates of each list by level (50, 40 and 20
            for three stages) with the top level as ground truth, as the LCRON paper's code does.
            Defined for full lists with levels, two and three stages.
        entry_levels: the lowest level that each stage learns from, never falling. If not given,
            that of a log with two levels more than there are stages, such as RecFlow's:
            (0, 2) for two stages, (0, 1, 3) for three. Not read if a batch has no levels.

    Raises:
        ConfigError: if an option is unknown or out of range, or ``published`` fixes it.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective("bce", stages=2, quotas=(2, 1), ground_truth=1)
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> labels, levels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3, 2, 0]])
        >>> objective(scores, labels, levels=levels).terms
        {'bce/stage_1': tensor(1.1629), 'bce/stage_2': tensor(0.6809)}

    Source: the baseline of LCRON (arXiv 2503.09492); deviations are in ``docs/methods/bce.md``.
    """
    count = len(stages)
    usual = tuple(t * (count + 2) // count for t in range(count))
    levels = usual if entry_levels is None else entry_levels
    if len(levels) != count or min(levels) < 0 or list(levels) != sorted(levels):
        raise ConfigError(
            f"entry_levels must be {count} numbers of at least 0, one per stage, never falling; "
            f"got {list(levels)}"
        )
    if published:
        check_published("bce", stages=count, threshold=threshold)
        check_as_published("bce", {"entry_levels": (levels, usual)})
    terms = []
    for t, name in enumerate(stages):
        form: _Ours | _Published = (
            _Published(stage=t, stages=count)
            if published
            else _Ours(stage=t, entry_level=levels[t], k=ground_truth, threshold=threshold)
        )
        terms.append(Term(f"bce/{name}", form.loss, stage=t))
    return Objective(terms, stages=count)


@dataclass(frozen=True, kw_only=True)
class _Ours:
    """The term of this library: masks, any levels, any ground truth."""

    stage: int
    entry_level: int
    k: int | None
    threshold: float | None

    def loss(self, inputs: CascadeInputs) -> Tensor:
        marks, _ = ground_truth_targets(
            inputs.labels,
            like=inputs.scores,
            k=self.k,
            threshold=self.threshold,
            mask=inputs.mask,
        )
        reached = inputs.mask
        if inputs.levels is not None:
            reached = reached & (inputs.levels >= self.entry_level)
        return bce_loss(inputs.scores[self.stage], marks, mask=reached)


@dataclass(frozen=True, kw_only=True)
class _Published:
    """The term of the published code: the best of each list by level, the top level positive."""

    stage: int
    stages: int

    def loss(self, inputs: CascadeInputs) -> Tensor:
        lengths = _PUBLISHED_LENGTHS[self.stages]
        if inputs.levels is None:
            raise ConfigError("published=True of 'bce' needs levels; pass levels [batch, list]")
        if inputs.scores.shape[-1] != lengths[0]:
            raise ShapeError(
                f"published=True of 'bce' is defined for lists of {lengths[0]} candidates; "
                f"got scores {list(inputs.scores.shape)}"
            )
        check_full_lists(inputs)
        best_first = inputs.levels.argsort(dim=-1, descending=True, stable=True)
        reached = best_first[:, : lengths[self.stage]]
        logits = inputs.scores[self.stage].gather(-1, reached)
        top = (inputs.levels == self.stages + 1).gather(-1, reached)
        return F.binary_cross_entropy_with_logits(logits, top.to(logits.dtype))
