"""Temperature of the scores: an option of every objective that has no temperature of its own."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.objectives._objective import CascadeInputs, Objective
from cascaderank.objectives._sorting import Annealed, Temperature

OPTION = "score_temperature"
_PARAMETER = inspect.Parameter(
    OPTION, inspect.Parameter.KEYWORD_ONLY, annotation=Temperature, default=1.0
)
_PARTIAL = {"icc": None, "conditional_survival": "warm_up"}
"""Objectives whose own temperature does not divide the scores of all terms, and the option without
which it does."""
_USE_TEMPERATURE = "temperature divides the scores of all its terms; set temperature"
_USE_TEMPERATURES = (
    "temperature divides the scores of all its terms except tightness, and tightness_temperature "
    "those of tightness; set these"
)


def score_temperature_option(
    name: str, parameters: Mapping[str, inspect.Parameter]
) -> dict[str, inspect.Parameter | str]:
    """Return the option by its name, or the reason why an objective does not take it.

    Args:
        name: registered name of the objective.
        parameters: parameters of the function that builds it.
    """
    if name == "entire_chain":
        return {OPTION: "its stages predict probabilities; set it in joint"}
    if "tightness_temperature" in parameters:
        return {OPTION: _USE_TEMPERATURES}
    if "temperature" in parameters and name not in _PARTIAL:
        return {OPTION: _USE_TEMPERATURE}
    return {OPTION: _PARAMETER}


def divide_scores(
    objective: Objective, temperature: Temperature, *, name: str, options: Mapping[str, object]
) -> None:
    """Change the terms of an objective, so that they are computed from divided scores.

    Args:
        objective: objective to change.
        temperature: divisor of the scores, a positive number or its schedule.
        name: registered name of the objective.
        options: options that it was built with.

    Raises:
        ConfigError: if the temperature is not positive and finite, or if an option of the objective
            has the same effect.
    """
    if isinstance(temperature, float) and not 0 < temperature < math.inf:
        raise ConfigError(f"{OPTION} must be a positive number; got {temperature}")
    needed = _PARTIAL.get(name)
    if needed is not None and not options.get(needed):
        raise ConfigError(f"objective '{name}' without {needed}: {_USE_TEMPERATURE}")
    divided = _Divided(temperature)
    objective.terms = tuple(
        replace(term, function=_Term(term.function, divided)) for term in objective.terms
    )


@dataclass(frozen=True)
class _Divided:
    temperature: Temperature

    def __call__(self, inputs: CascadeInputs) -> CascadeInputs:
        """Return inputs with divided scores; other outputs of the stages are unchanged."""
        temperature = self.temperature
        if isinstance(temperature, Annealed):
            temperature = temperature.at(inputs.progress)
        return replace(
            inputs,
            scores=inputs.scores / temperature,
            outputs=tuple(replace(o, scores=o.scores / temperature) for o in inputs.outputs),
        )


@dataclass(frozen=True)
class _Term:
    function: Callable[[CascadeInputs], Tensor]
    divided: _Divided

    def __call__(self, inputs: CascadeInputs) -> Tensor:
        return self.function(inputs.once(self.divided))  # one record, so that terms share results
