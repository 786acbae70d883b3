"""BCE: binary cross-entropy per stage, on the candidates that reached the stage in the log."""

from dataclasses import dataclass

from torch import Tensor

from cascaderank.losses import ground_truth_targets
from cascaderank.losses.bce import bce_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._levels import check_entry_levels, default_entry_levels
from cascaderank.objectives._published.bce_reference import BceReference
from cascaderank.objectives._published.preconditions import check_as_published, check_published


@OBJECTIVES.register
def bce_objective(
    *,
    stages: tuple[str, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    published: bool = False,
    entry_levels: tuple[int, ...] | None = None,
) -> Objective:
    """Train each stage separately to classify candidates as ground truth or not.

    The usual way to train a cascade. A stage is trained on the candidates that reached it in the
    logged cascade, those of at least its entry level; without levels, on all candidates. The
    term of a stage is :func:`cascaderank.losses.bce_loss`, named ``bce/<stage>``.

    Args:
        stages: names of the stages, first stage first.
        ground_truth: size of the ground truth, the top candidates by label.
        threshold: the ground truth is every label of at least this value.
        published: whether to train on the first 40 and 20 candidates of each list by level (50,
            40 and 20 for three stages) with the top level as ground truth, as the code of the
            LCRON paper does. Each list is evaluated at its own length, as if it were alone. Defined
            for two and three stages and lists with levels of at most 40 (50) candidates.
        entry_levels: lowest level that each stage is trained on, non-decreasing. The default is
            for a log with two more levels than stages, such as RecFlow's: (0, 2) for two stages,
            (0, 1, 3) for three. Ignored if a batch has no levels.

    Raises:
        ConfigError: if an option is unknown or out of range, or fixed by ``published``.

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
    default = default_entry_levels(count)
    levels = default if entry_levels is None else entry_levels
    check_entry_levels(levels, stages=count)
    if published:
        check_published("bce", stages=count, threshold=threshold)
        check_as_published("bce", {"entry_levels": (levels, default)})
    terms = []
    for t, name in enumerate(stages):
        form: _StageTerm | BceReference = (
            BceReference(stage=t, stages=count)
            if published
            else _StageTerm(stage=t, entry_level=levels[t], k=ground_truth, threshold=threshold)
        )
        terms.append(Term(f"bce/{name}", form.loss, stage=t))
    return Objective(terms, stages=count)


@dataclass(frozen=True, kw_only=True)
class _StageTerm:
    """The term of one stage in this library's form: masks, any levels, any ground truth."""

    stage: int
    entry_level: int
    k: int | None
    threshold: float | None

    def loss(self, inputs: CascadeInputs) -> Tensor:
        relevance, _ = ground_truth_targets(
            inputs.labels,
            like=inputs.scores,
            k=self.k,
            threshold=self.threshold,
            mask=inputs.mask,
        )
        reached = inputs.mask
        if inputs.levels is not None:
            reached = reached & (inputs.levels >= self.entry_level)
        return bce_loss(inputs.scores[self.stage], relevance, mask=reached)
