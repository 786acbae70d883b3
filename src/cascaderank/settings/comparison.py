"""Settings of a comparison: methods, grids of settings to tune, and execution."""

import re
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictInt, model_validator

from cascaderank.limits import MOST_JOBS, MOST_SEEDS
from cascaderank.settings.base import Count, Seed, Settings
from cascaderank.settings.files import dotted, parts_of

_VARIANT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 _.+=()-]*[A-Za-z0-9_+=()-])?")


def _by_name(values: object) -> object:
    """Return settings by dotted name; in TOML, an unquoted dotted key is a nested table."""
    return _flat(values) if isinstance(values, dict) else values


def _flat(values: dict[str, object], above: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        name = above + (dotted(key) if above and isinstance(value, dict) else key)
        # Stop at the depth of a setting, because its value may be a table, too.
        depth = 3 if name.startswith("stages") else 2
        if isinstance(value, dict) and len(parts_of(name)) < depth:
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value
    return flat


_BY_NAME = BeforeValidator(_by_name)
_Values = Annotated[tuple[Any, ...], Field(min_length=1, max_length=1_000)]


class TuningSettings(Settings):
    """Search of the grid of each method; every method has the same budget."""

    trials: Count | None = Field(
        None, description="Number of grid points tried per method; default: all points."
    )
    seeds: StrictInt = Field(
        1,
        ge=1,
        le=MOST_SEEDS,
        description="Number of runs per point, with seeds 0, 1, 2, ...",
    )
    seed: Seed = Field(0, description="Seed of the random choice of points.")
    extend: StrictInt = Field(
        2,
        ge=0,
        le=1_000,
        description="Largest number of values added beyond the end of a numeric axis while the "
        "best value is the last one.",
    )


class CompareSettings(Settings):
    """Settings of `cascaderank compare`: methods, seeds, baselines, variants and grids."""

    objectives: tuple[str, ...] = Field(
        ("bce", "lcron"),
        min_length=1,
        description="Methods to compare: names of objectives or of variants.",
    )
    seeds: StrictInt = Field(
        3,
        ge=1,
        le=MOST_SEEDS,
        description="Number of runs per method, with seeds 0, 1, 2, ...",
    )
    baselines: tuple[str, ...] | None = Field(
        None,
        description="Baselines without training; default: random, best_feature and rank_fusion "
        "within the features of each stage; see experiments/baselines.py.",
    )
    variants: dict[str, Annotated[dict[str, Any], _BY_NAME]] = Field(
        {},
        description="Changed settings of the run, such as objective.temperature, by name of the "
        "variant.",
    )
    grid: dict[str, Annotated[dict[str, _Values], _BY_NAME]] = Field(
        {},
        description='Values to try for each setting, by method, or "*" for all methods; the '
        "validation requests select the best.",
    )
    reference: str | None = Field(
        None, description="Method that gains are computed against; default: the first."
    )
    published: str | None = Field(
        None,
        description="Name of a paper's table to print next to the results; see "
        "experiments/published.toml.",
    )
    tuning: TuningSettings = TuningSettings()
    streaming: Count | None = Field(
        None,
        description="For a split by day: number of last days, each of which is tested once with "
        "models trained on the days before it.",
    )
    jobs: StrictInt = Field(
        1,
        ge=1,
        le=MOST_JOBS,
        description="Number of processes that train at the same time.",
    )

    @model_validator(mode="after")
    def _variants_are_folder_names_and_methods_are_distinct(self) -> Self:
        wrong = [n for n in self.variants if not _VARIANT.fullmatch(n)]
        if wrong:
            raise ValueError(
                "variants: a name consists of letters, digits, spaces and _ . + = ( ) -, starts "
                f"with a letter or digit, and does not end with a space or dot; got '{wrong[0]}'"
            )
        repeated = {n for n in self.objectives if self.objectives.count(n) > 1}
        if repeated:
            raise ValueError(
                f"objectives: methods must be distinct; got '{min(repeated)}' more than once"
            )
        return self
