"""Operator and temperature of the objectives that sort."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

from pydantic import ConfigDict, Discriminator, Tag
from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.objectives._objective import CascadeInputs
from cascaderank.sorting import (
    OPERATORS,
    Operator,
    PermutationOperator,
    check_temperature,
    find_operator,
    relative_temperature,
)
from cascaderank.tensors import at_least_float32, count_real

_LIST_LENGTH = 40
"""Number of candidates that default temperatures are given for."""


@final
@dataclass(frozen=True, kw_only=True)
class Annealed:
    """A temperature that changes during training.

    In a TOML file it is a table: ``temperature = { start = 200, end = 20 }``.

    Args:
        start: temperature before the first step; positive.
        end: temperature at the end of training; positive.
        shape: ``"geometric"`` changes by the same factor in every step, ``"linear"`` by the same
            difference.

    Raises:
        ConfigError: if a temperature is not a positive number.

    Examples:
        >>> round(Annealed(start=200.0, end=50.0).at(0.5), 6)
        100.0
        >>> Annealed(start=200.0, end=50.0, shape="linear").at(0.5)
        125.0

    Source: this project.
    """

    start: float
    end: float
    shape: Literal["geometric", "linear"] = "geometric"
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"{name} of a temperature must be a positive number; got {value}")

    def at(self, progress: float) -> float:
        """Return the temperature at a fraction of training, in [0, 1]; exact at both ends."""
        if self.shape == "linear":
            return (1 - progress) * self.start + progress * self.end
        return float(self.start ** (1 - progress) * self.end**progress)


def _form(value: object) -> str:
    return "table" if isinstance(value, Mapping | Annealed) else "number"


Temperature = Annotated[
    Annotated[float, Tag("number")] | Annotated[Annealed, Tag("table")], Discriminator(_form)
]
"""Type of the option ``temperature``: a number or a table; errors refer to the form that was
used."""


@dataclass(frozen=True, kw_only=True)
class TemperatureSchedule:
    """The temperature of an operator over training, absolute or relative to the scores."""

    operator: Operator
    temperature: Temperature
    relative: bool
    by_length: bool = False
    """Whether the temperature is that of a list of 40 and proportional to the number of
    candidates."""

    def of_stages(self, inputs: CascadeInputs) -> float | Tensor:
        """Return one number, or ``[stages, batch]`` if relative to the scores."""
        return inputs.once(self._of_stages)

    def of_stage(self, inputs: CascadeInputs, stage: int) -> float | Tensor:
        """Return one number, or ``[batch]`` if relative to the scores."""
        of_stages = self.of_stages(inputs)
        return of_stages[stage] if isinstance(of_stages, Tensor) else of_stages

    def _of_stages(self, inputs: CascadeInputs) -> float | Tensor:
        temperature = self.temperature
        if isinstance(temperature, Annealed):
            temperature = temperature.at(inputs.progress)
        if self.by_length:
            share = count_real(inputs.mask) / _LIST_LENGTH
            return (temperature * share.clamp(min=1 / _LIST_LENGTH)).expand(inputs.scores.shape[:2])
        if not self.relative:
            return temperature
        scores = at_least_float32(inputs.scores)
        mask = inputs.mask.expand_as(scores)
        return relative_temperature(scores, temperature, operator=self.operator, mask=mask)


def make_temperature_schedule(
    temperature: Temperature | None,
    *,
    operator: Operator,
    relative: bool,
    default: float,
    default_relative: float = 1.0,
) -> TemperatureSchedule:
    """Check a temperature, or use the default if it is ``None``.

    The default of an absolute temperature is for lists of 40 candidates, as in the papers. If the
    logits of the operator grow with the list, it is proportional to the length of each list.

    Args:
        temperature: of the operator; ``None`` for the default.
        operator: the sorting operator.
        relative: whether the temperature is multiplied by the size of the operator's logits.
        default: default of an absolute temperature.
        default_relative: default of a relative temperature.

    Raises:
        ConfigError: if the temperature is not positive.
    """
    by_length = temperature is None and not relative and operator.grows_with_length
    if temperature is None:
        temperature = default_relative if relative else default
    if not isinstance(temperature, Annealed):
        check_temperature(temperature)
    return TemperatureSchedule(
        operator=operator, temperature=temperature, relative=relative, by_length=by_length
    )


def permutation_operator(name: str, *, objective: str) -> PermutationOperator:
    """Return the operator of a name for an objective that needs the probability of every rank.

    Raises:
        ConfigError: if no operator has that name, or it provides top-k probabilities only.
    """
    operator = find_operator(name)
    if not isinstance(operator, PermutationOperator):
        suitable = [n for n in OPERATORS if issubclass(OPERATORS[n], PermutationOperator)]
        raise ConfigError(
            f"operator '{name}' provides top-k probabilities but no permutation, which objective "
            f"'{objective}' requires; use one of {', '.join(suitable)}"
        )
    return operator
