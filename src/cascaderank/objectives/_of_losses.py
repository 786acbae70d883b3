"""Objectives derived from losses: every loss is an objective, per stage or for the cascade."""

import inspect
from collections.abc import Callable
from functools import partial
from types import UnionType
from typing import Any, Union, get_args, get_type_hints

from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses import LOSSES
from cascaderank.objectives._objective import CascadeInputs, Objective, Term
from cascaderank.objectives._sorting import Annealed, Temperature
from cascaderank.sorting import Operator, PermutationOperator, check_temperature
from cascaderank.sorting.functions import find_permutation_operator

_TASK = {
    "stages": tuple[str, ...],
    "quotas": tuple[int, ...],
    "ground_truth": int | None,
    "threshold": float | None,
}
_NOT_OPTIONS = {"mask", "reduction", "quotas", "threshold", "log_q"}
"""Parameters of a loss that the objective fills from the task or the batch."""


def objective_of_loss(name: str) -> Callable[..., Objective]:
    """Return a function that builds the objective of a loss.

    Keyword-only parameters of the loss are filled as follows; all others are options.

    * ``mask`` and ``log_q``: from the batch;
    * ``quotas``: those of the cascade; a loss with this parameter scores the whole cascade;
    * ``m`` without a default: the quota of the stage, unless given as an option;
    * ``k`` and ``threshold``: the ground truth of the run. An option ``k`` takes precedence;
    * ``reduction``: left at its default.
    """
    loss, parameters = LOSSES[name], LOSSES.options(name)
    hints = get_type_hints(loss)
    options = {option: p for option, p in parameters.items() if option not in _NOT_OPTIONS}
    types = {option: _plain(hints.get(option, Any)) for option in options}
    whole_cascade = "quotas" in parameters
    cut_at_quota = "m" in options and options["m"].default is inspect.Parameter.empty
    truth = [
        argument
        for argument, parameter in (("ground_truth", "k"), ("threshold", "threshold"))
        if parameter in parameters
    ]
    needs_permutation = PermutationOperator in get_args(hints.get("operator"))

    def objective(*, stages: tuple[str, ...], quotas: tuple[int, ...], **given: Any) -> Objective:
        if needs_permutation:
            find_permutation_operator(given.get("operator", "neural_sort"))
        temperature = given.get("temperature", 1.0)
        if not isinstance(temperature, Annealed):
            check_temperature(temperature)
        given = _with_ground_truth(name, given, parameters)
        if "log_q" in parameters:
            given["log_q"] = _FROM_BATCH
        if whole_cascade:
            return Objective(
                [Term(name, partial(_of_cascade, loss=loss, quotas=quotas, **given))],
                stages=len(stages),
            )
        terms = []
        for t, (stage, quota) in enumerate(zip(stages, quotas, strict=True)):
            of_stage = {**given, "m": given.get("m") or quota} if cut_at_quota else given
            function = partial(_of_stage, stage=t, loss=loss, **of_stage)
            terms.append(Term(f"{name}/{stage}", function, stage=t))
        return Objective(terms, stages=len(stages))

    if "temperature" in options:
        types["temperature"] = Temperature
    for option in (*(("m",) if cut_at_quota else ()), *(("k",) if "k" in options else ())):
        options[option], types[option] = options[option].replace(default=None), int | None
    task = ["stages", "quotas", *truth]
    objective.__name__ = objective.__qualname__ = f"{name}_objective"
    objective.__doc__ = _documentation(loss, whole_cascade=whole_cascade)
    objective.__annotations__ = {key: _TASK[key] for key in task} | types | {"return": Objective}
    objective.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                key,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=_TASK[key],
                default=None if key in truth else inspect.Parameter.empty,
            )
            for key in task
        ]
        + [p.replace(annotation=types[option]) for option, p in options.items()]
    )
    return objective


_FROM_BATCH = object()
"""Placeholder for ``log_q``, which differs from batch to batch."""


def _with_ground_truth(
    name: str, given: dict[str, Any], parameters: dict[str, inspect.Parameter]
) -> dict[str, Any]:
    """Return the arguments with ``k`` from the option or else from the task.

    Raises:
        ConfigError: if the loss requires ``k`` and neither specifies it.
    """
    size, k = given.pop("ground_truth", None), given.pop("k", None)
    if "k" not in parameters:
        return given
    if k is not None:
        return {**given, "k": k, **({"threshold": None} if "threshold" in parameters else {})}
    if size is not None or "threshold" in parameters:
        return {**given, "k": size}
    if parameters["k"].default is inspect.Parameter.empty:
        raise ConfigError(
            f"objective '{name}' requires k, the size of the ground truth; "
            "set objective.k, or define the ground truth by its size instead of a threshold"
        )
    return given


def _of_stage(
    inputs: CascadeInputs, *, stage: int, loss: Callable[..., Tensor], **options: Any
) -> Tensor:
    arguments = _arguments(options, inputs)
    return loss(inputs.scores[stage], inputs.labels, mask=inputs.mask, **arguments)


def _of_cascade(inputs: CascadeInputs, *, loss: Callable[..., Tensor], **options: Any) -> Tensor:
    return loss(inputs.scores, inputs.labels, mask=inputs.mask, **_arguments(options, inputs))


def _arguments(options: dict[str, Any], inputs: CascadeInputs) -> dict[str, Any]:
    """Return the options at the progress of training, with the arguments from the batch."""
    arguments = {
        name: value.at(inputs.progress) if isinstance(value, Annealed) else value
        for name, value in options.items()
    }
    if arguments.get("log_q") is _FROM_BATCH:
        arguments["log_q"] = inputs.log_q
    return arguments


def _plain(hint: Any) -> Any:
    """Return the type without what a settings file cannot hold: tensors and operator objects."""
    parts = [p for p in get_args(hint) if p not in (Tensor, Operator, PermutationOperator)]
    return Union[tuple(parts)] if isinstance(hint, UnionType) else hint  # noqa: UP007 - of a tuple


def _documentation(loss: Callable[..., Tensor], *, whole_cascade: bool) -> str:
    first, _, rest = (inspect.getdoc(loss) or "").partition("\n")
    scope = (
        "Computed for the cascade as a whole."
        if whole_cascade
        else "Computed for every stage separately; the terms are summed."
    )
    return (
        f"{first} {scope}\n\nOptions are those of the loss; quotas and ground truth are those of "
        "the cascade.\nA required cut-off ``m`` defaults to the quota of the stage, and ``k`` to "
        f"the size of\nthe ground truth. Documentation of the loss:\n{rest}"
    )
