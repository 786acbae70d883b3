"""Level contrastive: per stage, softmax of positives against the negatives of each level."""

from dataclasses import dataclass

from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.limits import check_not_negative
from cascaderank.losses import ground_truth_targets
from cascaderank.losses.level_contrastive import (
    check_level_weights,
    label_ranks,
    level_contrastive_costs,
    weighted_levels,
)
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._levels import check_entry_levels, default_entry_levels
from cascaderank.objectives._sorting import (
    Temperature,
    TemperatureSchedule,
    make_temperature_schedule,
)
from cascaderank.relevance import check_ground_truth
from cascaderank.sorting import find_operator
from cascaderank.tensors import reduce_lists


@OBJECTIVES.register
def level_contrastive_objective(
    *,
    stages: tuple[str, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    temperature: Temperature = 1.0,
    level_weights: tuple[float, ...] | None = None,
    pointwise: float = 1.0,
    entry_levels: tuple[int, ...] | None = None,
    exposed_level: int | None = None,
) -> Objective:
    """Train each stage separately against the negatives of each level that reached it.

    The term of a stage is :func:`cascaderank.losses.level_contrastive_loss`, named
    ``level_contrastive/<stage>``. Early stages have the negatives of all levels, later ones only
    those of the levels that reached them in the logged cascade. For a batch without levels, each
    distinct label is a level of weight 1, and all candidates count as exposed and have reached all
    stages.

    Args:
        stages: names of the stages, first stage first.
        ground_truth: size of the ground truth, the top candidates by label: the positives.
        threshold: the ground truth is every label of at least this value.
        temperature: divisor of the scores; positive, or
            :class:`~cascaderank.objectives.Annealed`.
        level_weights: weight of the negatives of each level, lowest level first, at least 0; 1 by
            default.
        pointwise: weight of the binary cross-entropy of exposed candidates; at least 0.
        entry_levels: lowest level whose negatives each stage is trained on, non-decreasing. The
            default is for a log with two more levels than stages, such as RecFlow's: (0, 2) for
            two stages, (0, 1, 3) for three.
        exposed_level: lowest level of exposed candidates. The default is the top level of a log
            with two more levels than stages.

    Raises:
        ConfigError: if an option is out of range, a level has no weight, or weights of levels are
            given for a batch without levels.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective(
        ...     "level_contrastive", stages=2, quotas=(2, 1), ground_truth=1, pointwise=0.0
        ... )
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> labels, levels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3, 2, 0]])
        >>> objective(scores, labels, levels=levels).terms
        {'level_contrastive/stage_1': tensor(0.4402), 'level_contrastive/stage_2': tensor(0.1269)}

    Source: HAP (arXiv 2603.03770); see ``docs/methods/level_contrastive.md``.
    """
    check_ground_truth(ground_truth, threshold)
    if level_weights is not None:
        check_level_weights(level_weights)
    check_not_negative(pointwise, "pointwise")
    entry = default_entry_levels(len(stages)) if entry_levels is None else entry_levels
    check_entry_levels(entry, stages=len(stages))
    exposed = len(stages) + 1 if exposed_level is None else exposed_level
    if exposed < 0:
        raise ConfigError(f"exposed_level must be at least 0; got {exposed_level}")
    schedule = make_temperature_schedule(
        temperature, operator=find_operator("sigmoid"), relative=False, default=1.0
    )
    terms = []
    for t, name in enumerate(stages):
        form = _StageTerm(
            stage=t,
            k=ground_truth,
            threshold=threshold,
            schedule=schedule,
            level_weights=level_weights,
            pointwise=pointwise,
            entry_level=entry[t],
            exposed_level=exposed,
        )
        terms.append(Term(f"level_contrastive/{name}", form.loss, stage=t))
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _StageTerm:
    stage: int
    k: int | None
    threshold: float | None
    schedule: TemperatureSchedule
    level_weights: tuple[float, ...] | None
    pointwise: float
    entry_level: int
    exposed_level: int

    def loss(self, inputs: CascadeInputs) -> Tensor:
        scores, mask = inputs.scores[self.stage], inputs.mask
        targets, _ = ground_truth_targets(
            inputs.labels, like=scores, k=self.k, threshold=self.threshold, mask=mask
        )
        if inputs.levels is None:
            if self.level_weights is not None:
                raise ConfigError(
                    "level_weights are weights of levels, and the batch has no levels"
                )
            levels, negatives, exposed = label_ranks(inputs.labels, mask), mask, mask
        else:
            levels = inputs.levels
            negatives, exposed = levels >= self.entry_level, levels >= self.exposed_level
        costs = level_contrastive_costs(
            scores,
            targets,
            levels=weighted_levels(levels, self.level_weights, mask=mask),
            negatives=negatives,
            pointwise=self.pointwise,
            exposed=exposed,
            temperature=self.schedule.of_stage(inputs, self.stage),
            mask=mask,
        )
        return reduce_lists(costs, "mean").to(scores.dtype)
