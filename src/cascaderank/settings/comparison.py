"""What a comparison is: methods, what is tried of each, and how it is run."""

import re
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from cascaderank.settings.base import Settings

_VARIANT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 _.+=()-]*[A-Za-z0-9_+=()-])?")


def _by_name(values: object) -> object:
    """Settings by their dotted names: TOML has tables in tables where the dots are not quoted."""
    return _flat(values) if isinstance(values, dict) else values


def _flat(values: dict[str, object], above: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        name = f"{above}{key}"
        # No deeper than settings go: the value of one may be a table itself.
        depth = 3 if name.startswith("stages") else 2
        if isinstance(value, dict) and name.count(".") + 1 < depth:
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value
    return flat


_BY_NAME = BeforeValidator(_by_name)
_Values = Annotated[tuple[Any, ...], Field(min_length=1)]


class TuningSettings(Settings):
    """How the values of a grid are tried; every method has the same budget."""

    trials: int | None = Field(
        None, ge=1, description="Points of its grid that each method tries; all if not given."
    )
    seeds: int = Field(1, ge=1, description="Runs per point, seeded 0, 1, 2, ...")
    seed: int = Field(0, ge=0, description="Of the draw of points.")
    extend: int = Field(
        2,
        ge=0,
        description="Values tried beyond the end of an axis of numbers while the best is there.",
    )


class CompareSettings(Settings):
    """What `cascaderank compare` runs beside one another."""

    objectives: tuple[str, ...] = Field(
        ("bce", "lcron"), min_length=1, description="Methods: names of objectives or of variants."
    )
    seeds: int = Field(3, ge=1, description="Runs per method, seeded 0, 1, 2, ...")
    baselines: tuple[str, ...] = Field(
        ("random",), description="Scorers without training: see experiments/baselines.py."
    )
    variants: dict[str, Annotated[dict[str, Any], _BY_NAME]] = Field(
        {}, description="By name: settings of the run that differ, such as objective.temperature."
    )
    grid: dict[str, Annotated[dict[str, _Values], _BY_NAME]] = Field(
        {}, description='By method, or "*" for all: values to try; validation requests decide.'
    )
    reference: str | None = Field(
        None, description="Method that gains are over; the first if not given."
    )
    published: str | None = Field(
        None, description="A paper's table to print beside: see experiments/published.toml."
    )
    tuning: TuningSettings = TuningSettings()
    streaming: int | None = Field(
        None, ge=1, description="Of a split by day: how many of the last days are tests, each once."
    )
    jobs: int = Field(1, ge=1, description="Processes that train at the same time.")

    @model_validator(mode="after")
    def _names_are_those_of_folders(self) -> Self:
        wrong = [n for n in self.variants if not _VARIANT.fullmatch(n)]
        if wrong:
            raise ValueError(
                f"a variant is called by letters, digits, spaces and _ . + = ( ) -, and starts "
                f"with a letter or a digit; got '{wrong[0]}'"
            )
        twice = {n for n in self.objectives if self.objectives.count(n) > 1}
        if twice:
            raise ValueError(f"'{min(twice)}' is compared twice; name it once")
        return self
