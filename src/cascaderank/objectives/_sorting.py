"""How objectives sort: by which operator, and how warm."""

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
from cascaderank.tensors import at_least_float32


@final
@dataclass(frozen=True, kw_only=True)
class Annealed:
    """A temperature that changes as training goes on.

    In a TOML file it is a table: ``temperature = { start = 200, end = 20 }``.

    Args:
        start: before the first step; positive.
        end: when training is over; positive.
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
        """Return the temperature after a share of training, in [0, 1]; exact at both ends."""
        if self.shape == "linear":
            return (1 - progress) * self.start + progress * self.end
        return float(self.start ** (1 - progress) * self.end**progress)


def _form(value: object) -> str:
    return "table" if isinstance(value, Mapping | Annealed) else "number"


Temperature = Annotated[
    Annotated[float, Tag("number")] | Annotated[Annealed, Tag("table")], Discriminator(_form)
]
"""What objectives take for a temperature; a mistake is told of the form that was meant."""


@dataclass(frozen=True, kw_only=True)
class Warmth:
    """The temperature of an operator, for the lists of a batch."""

    operator: Operator
    temperature: Temperature
    relative: bool

    def of_stages(self, inputs: CascadeInputs) -> float | Tensor:
        """Return one number, or ``[stages, batch]`` if it is relative to the scores."""
        return inputs.once(self._of_stages)

    def of_stage(self, inputs: CascadeInputs, stage: int) -> float | Tensor:
        """Return one number, or ``[batch]`` if it is relative to the scores."""
        of_stages = self.of_stages(inputs)
        return of_stages[stage] if isinstance(of_stages, Tensor) else of_stages

    def _of_stages(self, inputs: CascadeInputs) -> float | Tensor:
        now = self.temperature
        if isinstance(now, Annealed):
            now = now.at(inputs.progress)
        if not self.relative:
            return now
        scores = at_least_float32(inputs.scores)
        mask = inputs.mask.expand_as(scores)
        return relative_temperature(scores, now, operator=self.operator, mask=mask)


def make_warmth(
    temperature: Temperature | None,
    *,
    operator: Operator,
    relative: bool,
    usual: float,
    usual_relative: float = 1.0,
) -> Warmth:
    """Check a temperature, or put in what is usual if none is given.

    Raises:
        ConfigError: if it is not positive.
    """
    if temperature is None:
        temperature = usual_relative if relative else usual
    if not isinstance(temperature, Annealed):
        check_temperature(temperature)
    return Warmth(operator=operator, temperature=temperature, relative=relative)


def permutation_operator(name: str, *, objective: str) -> PermutationOperator:
    """Return the operator of a name for an objective that needs the probability of every rank.

    Raises:
        ConfigError: if there is no operator of that name, or it knows only the top k.
    """
    operator = find_operator(name)
    if not isinstance(operator, PermutationOperator):
        some = [known for known in OPERATORS if issubclass(OPERATORS[known], PermutationOperator)]
        raise ConfigError(
            f"'{objective}' learns whole orders, and operator '{name}' tells only who is among "
            f"the top k; take one of {', '.join(some)}"
        )
    return operator
