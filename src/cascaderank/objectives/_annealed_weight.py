"""Weights of terms that change during training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

from pydantic import ConfigDict, Discriminator, Tag

from cascaderank.limits import check_not_negative


@final
@dataclass(frozen=True, kw_only=True)
class AnnealedWeight:
    """A weight that changes linearly during training.

    In a TOML file it is a table: ``coupling = { start = 0, end = 1 }``.

    Args:
        start: weight before the first step; at least 0.
        end: weight at the end of training; at least 0.

    Raises:
        ConfigError: if a weight is not a finite number of at least 0.

    Examples:
        >>> AnnealedWeight(start=0.0, end=2.0).at(0.25)
        0.5

    Source: this project.
    """

    start: float
    end: float
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            check_not_negative(getattr(self, name), f"{name} of a weight")

    def at(self, progress: float) -> float:
        """Return the weight at a fraction of training, in [0, 1]."""
        return (1 - progress) * self.start + progress * self.end


def _form(value: object) -> str:
    return "table" if isinstance(value, Mapping | AnnealedWeight) else "number"


TermWeight = Annotated[
    Annotated[float, Tag("number")] | Annotated[AnnealedWeight, Tag("table")], Discriminator(_form)
]
"""Type of an option that is the weight of a term: a number or a table."""


def term_weight(value: TermWeight, name: str) -> float | Callable[[float], float]:
    """Return the weight of a term, as a number or as a function of the progress of training.

    Raises:
        ConfigError: if it is a number that is not finite or below 0.
    """
    if isinstance(value, AnnealedWeight):
        return value.at
    check_not_negative(value, name)
    return value
