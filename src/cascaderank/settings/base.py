"""Base classes of all settings that are read from a file and validated."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictFloat,
    StrictInt,
    Tag,
)

from cascaderank.limits import LARGEST, LARGEST_FLOAT32

Count = Annotated[StrictInt, Field(ge=1, le=LARGEST)]
"""A positive number; booleans, and numbers with a decimal point or exponent, are refused."""

CountOrZero = Annotated[StrictInt, Field(ge=0, le=LARGEST)]
"""A number of at least 0."""

Seed = Annotated[StrictInt, Field(ge=0, le=2**63 - 1)]
"""Seed of a generator of random numbers."""

Real = Annotated[StrictFloat, Field(ge=-LARGEST_FLOAT32, le=LARGEST_FLOAT32)]
"""A finite number in the range of float32."""

Warmup = Annotated[
    Annotated[CountOrZero, Tag("steps")]
    | Annotated[StrictFloat, Field(ge=0, lt=1), Tag("fraction")],
    Discriminator(lambda value: "fraction" if isinstance(value, float) else "steps"),
]
"""A number of steps, or a fraction of them in [0, 1); errors refer to the form that was used."""


def _not_empty(path: object) -> object:
    if path == "":
        raise ValueError("expected a path, found an empty text")
    return path


GivenPath = Annotated[Path, BeforeValidator(_not_empty)]
"""A path; an empty text, which would be the working folder, is refused."""


class Settings(BaseModel):
    """Immutable, validated record; unknown keys, NaN and infinity are errors.

    Every number has a range: declare it as one of the types of this module, or with the limits of
    :func:`pydantic.Field`.

    Examples:
        >>> class Tuning(Settings):
        ...     trials: int = 4
        >>> Tuning(trials=8).trials
        8
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Choice(Settings):
    """Name and options of a registered component, in one table.

    Subclasses declare the key of the name; all other keys are options of the component.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        """Keys other than the declared fields, by name."""
        return dict(self.model_extra or {})
