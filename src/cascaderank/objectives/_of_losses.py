"""Every loss is an objective too: for each stage by itself, or for the cascade as a whole."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import UnionType
from typing import Any, Union, get_args, get_type_hints

from torch import Tensor

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
_NOT_OPTIONS = {"mask", "reduction", "quotas", "k", "threshold", "log_q"}
"""What a loss is told by the objective, and not by the user."""


def objectives_of_losses() -> Iterator[tuple[str, Callable[..., Objective]]]:
    """Yield an objective for every loss, under the name of the loss."""
    for name in LOSSES:
        yield name, _objective_of(name)


def _objective_of(name: str) -> Callable[..., Objective]:
    loss, parameters = LOSSES[name], LOSSES.options(name)
    options = {option: p for option, p in parameters.items() if option not in _NOT_OPTIONS}
    whole = "quotas" in parameters
    cuts = "m" in options and options["m"].default is inspect.Parameter.empty
    task = ["stages", "quotas", *(["ground_truth", "threshold"] if "k" in parameters else [])]

    ranks = PermutationOperator in get_args(get_type_hints(loss).get("operator"))

    def objective(*, stages: tuple[str, ...], quotas: tuple[int, ...], **given: Any) -> Objective:
        if ranks:
            find_permutation_operator(given.get("operator", "neural_sort"))
        temperature = given.get("temperature", 1.0)
        if not isinstance(temperature, Annealed):
            check_temperature(temperature)
        if "k" in parameters:
            given["k"] = given.pop("ground_truth", None)
        if whole:
            return Objective(
                [Term(name, partial(_of_cascade, loss=loss, quotas=quotas, **given))],
                stages=len(stages),
            )
        terms = []
        for t, (stage, quota) in enumerate(zip(stages, quotas, strict=True)):
            cut = given.get("m") or quota
            of_stage = {**given, "m": cut} if cuts else given
            function = partial(_of_stage, stage=t, loss=loss, **of_stage)
            terms.append(Term(f"{name}/{stage}", function, stage=t))
        return Objective(terms, stages=len(stages))

    hints = {key: _plain(hint) for key, hint in get_type_hints(loss).items() if key in options}
    if "temperature" in hints:
        hints["temperature"] = Temperature
    if cuts:
        options["m"], hints["m"] = options["m"].replace(default=None), int | None
    objective.__name__ = objective.__qualname__ = f"{name}_objective"
    objective.__doc__ = _documentation(loss, whole=whole)
    objective.__annotations__ = {key: _TASK[key] for key in task} | hints | {"return": Objective}
    objective.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                key,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=_TASK[key],
                default=None if key in ("ground_truth", "threshold") else inspect.Parameter.empty,
            )
            for key in task
        ]
        + [p.replace(annotation=hints[key]) for key, p in options.items()]
    )
    return objective


def _of_stage(
    inputs: CascadeInputs, *, stage: int, loss: Callable[..., Tensor], **options: Any
) -> Tensor:
    now = _now(options, inputs)
    return loss(inputs.scores[stage], inputs.labels, mask=inputs.mask, **now)


def _of_cascade(inputs: CascadeInputs, *, loss: Callable[..., Tensor], **options: Any) -> Tensor:
    return loss(inputs.scores, inputs.labels, mask=inputs.mask, **_now(options, inputs))


def _now(options: dict[str, Any], inputs: CascadeInputs) -> dict[str, Any]:
    """Return the options as they stand, what is annealed too."""
    return {
        name: value.at(inputs.progress) if isinstance(value, Annealed) else value
        for name, value in options.items()
    }


def _plain(hint: Any) -> Any:
    """Return the type less what no settings file can say: tensors, and operators as objects."""
    parts = [p for p in get_args(hint) if p not in (Tensor, Operator, PermutationOperator)]
    return Union[tuple(parts)] if isinstance(hint, UnionType) else hint  # noqa: UP007 - of a tuple


def _documentation(loss: Callable[..., Tensor], *, whole: bool) -> str:
    first, _, rest = (inspect.getdoc(loss) or "").partition("\n")
    of = "The cascade as a whole is scored." if whole else "For every stage by itself, added up."
    return (
        f"{first} {of}\n\nOptions are those of the loss; quotas and ground truth are those of the "
        "cascade.\nA cut-off ``m`` that the loss asks for is the quota of the stage. Of the loss:\n"
        f"{rest}"
    )
