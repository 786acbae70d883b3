"""Build an objective from the name of a method and a description of the task."""

from collections.abc import Callable, Sequence

from cascaderank.errors import CascadeRankError, ConfigError
from cascaderank.losses import LOSSES
from cascaderank.objectives._objective import Objective
from cascaderank.objectives._of_losses import objective_of_loss
from cascaderank.objectives._score_temperature import (
    OPTION,
    divide_scores,
    score_temperature_option,
)
from cascaderank.objectives._sorting import Temperature
from cascaderank.registry import Registry
from cascaderank.relevance import check_ground_truth
from cascaderank.tensors import check_quotas

OBJECTIVES: Registry[Callable[..., Objective]] = Registry(
    "objective",
    "cascaderank.objectives",
    suffix="_objective",
    derived=(LOSSES, objective_of_loss),
    given=("stages", "quotas", "ground_truth", "threshold"),
    shared=score_temperature_option,
)


def build_objective(
    name: str,
    *,
    stages: int | Sequence[str],
    quotas: Sequence[int],
    ground_truth: int | None = None,
    threshold: float | None = None,
    published: bool = False,
    score_temperature: Temperature | None = None,
    **options: object,
) -> Objective:
    """Build the objective of a method for a cascade.

    Stages, quotas and ground truth describe the task and can be the same for all methods; each
    method uses those that it needs.

    Args:
        name: a name in ``OBJECTIVES``; each loss is among them, applied to every stage separately.
        stages: names of the stages, first stage first, or their number.
        quotas: number of candidates that each stage passes on; non-increasing.
        ground_truth: size of the ground truth, the top candidates by label. A method that is
            trained on a ground truth takes either this or ``threshold``.
        threshold: the ground truth is every label of at least this value.
        published: whether to compute what the published code computes, instead of this library's
            form; see the card of the method.
        score_temperature: scores are divided by it before any term is computed; positive, or
            :class:`~cascaderank.objectives.Annealed`; 1 by default. A method whose option
            ``temperature`` does the same to all of its terms has this option only.
        **options: options of the method.

    Returns:
        A module: ``objective(scores, labels, mask=mask, levels=levels)``.

    Raises:
        ConfigError: if the name or an option is unknown or out of range, or the method has no
            published form; all errors are reported together.
        ShapeError: if the number of quotas differs from the number of stages.

    Examples:
        >>> import torch
        >>> objective = build_objective("lcron", stages=2, quotas=(2, 1), ground_truth=1)
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> out = objective(scores, torch.tensor([[2.0, 1.0, 0.0]]))
        >>> list(out.terms)
        ['end_to_end', 'top_k/stage_1', 'top_k/stage_2']

    Source: this project.
    """
    parameters = OBJECTIVES.options(name)
    if score_temperature is not None:
        options = {**options, OPTION: score_temperature}
    task: dict[str, object] = {"ground_truth": ground_truth, "threshold": threshold}
    errors: list[CascadeRankError] = [
        ConfigError(message) for message in OBJECTIVES.option_mistakes(name, options, finite=False)
    ]
    try:
        task["stages"] = names = _stage_names(stages)
        task["quotas"] = check_quotas(quotas, stages=len(names))
    except CascadeRankError as error:
        errors.append(error)
    # The option k of a loss replaces the ground truth of the task.
    required = "ground_truth" in parameters and options.get("k") is None
    try:
        if required or (ground_truth, threshold) != (None, None):
            check_ground_truth(ground_truth, threshold)
    except CascadeRankError as error:
        errors.append(error)
    if published and "published" not in parameters:
        errors.append(ConfigError(f"objective '{name}' has no published form"))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ConfigError("; ".join(map(str, errors)))
    task["published"] = published
    of_task = {key: value for key, value in task.items() if key in parameters}
    checked = OBJECTIVES.checked_options(name, options, finite=False)
    temperature = checked.pop(OPTION, None)
    objective = OBJECTIVES[name](**of_task, **checked)
    if temperature is not None:
        divide_scores(objective, temperature, name=name, options=checked)
    # Only now: an objective's own message about a number that is not finite is more precise.
    OBJECTIVES.checked_options(name, options)
    return objective


def _stage_names(stages: int | Sequence[str]) -> tuple[str, ...]:
    if isinstance(stages, int) and not isinstance(stages, bool):
        if stages < 1:
            raise ConfigError(f"a cascade has at least one stage; got stages={stages}")
        return tuple(f"stage_{t}" for t in range(1, stages + 1))
    if isinstance(stages, str) or not isinstance(stages, Sequence):
        raise ConfigError(f"stages must be a number or a list of names; got {stages!r}")
    valid = all(isinstance(s, str) and s for s in stages)
    if not stages or not valid or len(set(stages)) < len(stages):
        raise ConfigError(f"names of stages must be distinct and not empty; got {list(stages)}")
    return tuple(stages)
