"""From the name of a method and the task at hand to an objective."""

from collections.abc import Callable, Sequence

from cascaderank.errors import CascadeRankError, ConfigError
from cascaderank.objectives._objective import Objective
from cascaderank.objectives._of_losses import objectives_of_losses
from cascaderank.registry import Registry
from cascaderank.relevance import check_ground_truth
from cascaderank.tensors import check_quotas

OBJECTIVES: Registry[Callable[..., Objective]] = Registry(
    "objective",
    "cascaderank.objectives",
    suffix="_objective",
    derived=objectives_of_losses,
    given=("stages", "quotas", "ground_truth", "threshold"),
)


def build_objective(
    name: str,
    *,
    stages: int | Sequence[str],
    quotas: Sequence[int],
    ground_truth: int | None = None,
    threshold: float | None = None,
    published: bool = False,
    **options: object,
) -> Objective:
    """Build the objective of a method for a cascade.

    Stages, quotas and ground truth describe the task and can be the same for all methods; a
    method takes those of them that it has a use for.

    Args:
        name: one of ``OBJECTIVES``; each loss is among them, for every stage by itself.
        stages: names of the stages, first first, or how many there are.
        quotas: how many candidates each stage passes on; never grows.
        ground_truth: the ground truth is the top so many by label. Give either this or
            ``threshold`` to a method that learns from ground truth.
        threshold: the ground truth is every label of at least this.
        published: compute what the published code computes, for full lists, instead of this
            library's form; see the method's card.
        **options: of the method.

    Returns:
        A module: ``objective(scores, labels, mask=mask, levels=levels)``.

    Raises:
        ConfigError: if the name or an option is unknown or out of range, or the method has no
            published form; all mistakes are told at once.
        ShapeError: if there is not one quota per stage.

    Examples:
        >>> import torch
        >>> objective = build_objective("lcron", stages=2, quotas=(2, 1), ground_truth=1)
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> out = objective(scores, torch.tensor([[2.0, 1.0, 0.0]]))
        >>> list(out.terms)
        ['end_to_end', 'top_k/stage_1', 'top_k/stage_2']

    Source: this project.
    """
    known = OBJECTIVES.options(name)
    task: dict[str, object] = {"ground_truth": ground_truth, "threshold": threshold}
    mistakes: list[CascadeRankError] = [
        ConfigError(told) for told in OBJECTIVES.option_mistakes(name, options, finite=False)
    ]
    try:
        task["stages"] = names = _stage_names(stages)
        task["quotas"] = check_quotas(quotas, stages=len(names))
    except CascadeRankError as error:
        mistakes.append(error)
    try:
        if "ground_truth" in known or (ground_truth, threshold) != (None, None):
            check_ground_truth(ground_truth, threshold)
    except CascadeRankError as error:
        mistakes.append(error)
    if published and "published" not in known:
        mistakes.append(ConfigError(f"objective '{name}' has no published form"))
    if len(mistakes) == 1:
        raise mistakes[0]
    if mistakes:
        raise ConfigError("; ".join(map(str, mistakes)))
    task["published"] = published
    taken = {key: value for key, value in task.items() if key in known}
    built = OBJECTIVES[name](**taken, **OBJECTIVES.checked_options(name, options, finite=False))
    OBJECTIVES.checked_options(name, options)  # what an objective says of a number comes first
    return built


def _stage_names(stages: int | Sequence[str]) -> tuple[str, ...]:
    if isinstance(stages, int) and not isinstance(stages, bool):
        if stages < 1:
            raise ConfigError(f"a cascade has at least one stage; got stages={stages}")
        return tuple(f"stage_{t}" for t in range(1, stages + 1))
    if isinstance(stages, str) or not isinstance(stages, Sequence):
        raise ConfigError(f"stages must be a number or a list of names; got {stages!r}")
    good = all(isinstance(s, str) and s and not set(s) & {".", "/"} for s in stages)
    if not stages or not good or len(set(stages)) < len(stages):
        raise ConfigError(f"stages need different names without '.' and '/'; got {list(stages)}")
    return tuple(stages)
