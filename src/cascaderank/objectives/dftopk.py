"""DFTopK: LCRON with a top-k by the two scores at the cut, and the quotas of the cascade."""

from typing import Literal

from cascaderank.objectives import OBJECTIVES, Objective
from cascaderank.objectives._sorting import Temperature
from cascaderank.objectives.lcron import lcron_objective


@OBJECTIVES.register
def dftopk_objective(
    *,
    stages: tuple[str, ...],
    quotas: tuple[int, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    temperature: Temperature = 0.5,
    relative_temperature: bool = False,
    end_to_end: float = 1.0,
    weights: Literal["learned"] | float | tuple[float, ...] = "learned",
) -> Objective:
    """Train all stages jointly by the terms of LCRON, with the operator ``threshold``.

    The objective :func:`~cascaderank.objectives.lcron_objective` with ``operator="threshold"``,
    ``cut="quotas"`` and a default temperature in units of scores. Candidates compete only
    through the two scores at a cut, which are selected without a sort in long lists on a CPU.

    Args:
        stages: names of the stages, first stage first.
        quotas: number of candidates that each stage passes on; the cuts of the end-to-end term.
        ground_truth: size of the ground truth, the top candidates by label; the cut of the terms
            of single stages.
        threshold: the ground truth is every label of at least this value.
        temperature: width of a soft cut in units of the scores; positive, or
            :class:`~cascaderank.objectives.Annealed`.
        relative_temperature: whether the temperature is multiplied by the spread of the scores of
            each list and stage.
        end_to_end: weight of the end-to-end term; 0 omits it.
        weights: weights of the terms of the stages: ``"learned"``, or one number for all or per
            stage; 0 omits a term.

    Raises:
        ConfigError: if an option is out of range, or all terms are omitted.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective(
        ...     "dftopk", stages=2, quotas=(2, 1), ground_truth=1, weights=0.5
        ... )
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> objective(scores, torch.tensor([[2.0, 1.0, 0.0]])).total
        tensor(0.3824)

    Source: DFTopK (arXiv 2510.11472); see ``docs/methods/dftopk.md``.
    """
    return lcron_objective(
        stages=stages,
        quotas=quotas,
        ground_truth=ground_truth,
        threshold=threshold,
        operator="threshold",
        temperature=temperature,
        relative_temperature=relative_temperature,
        cut="quotas",
        end_to_end=end_to_end,
        weights=weights,
    )
