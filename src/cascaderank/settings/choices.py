"""Settings of a stage and of an objective: the name of a component, and its options."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from cascaderank.objectives import OBJECTIVES
from cascaderank.previous import Output
from cascaderank.registry import Registry
from cascaderank.settings.base import Choice, Count
from cascaderank.stages import STAGES


def raise_for_options(registry: Registry[Any], name: str, options: Mapping[str, object]) -> None:
    """Check the options of a registered component.

    Raises:
        ValueError: if an option is unknown or invalid; the message lists all mistakes.
    """
    mistakes = registry.option_mistakes(name, options)
    if mistakes:
        raise ValueError("; ".join(mistakes))


class StageSettings(Choice):
    """A stage of the cascade; all other keys are options of its model."""

    model: str = Field(description="Name of the model; `cascaderank ls stages` lists them.")
    quota: Count = Field(description="Number of candidates that the stage keeps.")
    features: tuple[str, ...] = Field(
        ("*",),
        min_length=1,
        description='Features that the stage uses: shell patterns; "!" excludes a pattern.',
    )
    previous: tuple[Output, ...] = Field(
        (),
        max_length=2,
        description="Outputs of the previous stage that the stage also reads: score, rank.",
    )

    @model_validator(mode="after")
    def _outputs_are_distinct(self) -> Self:
        if len(set(self.previous)) < len(self.previous):
            raise ValueError(f"previous must not repeat an output; got {[*self.previous]}")
        return self

    @model_validator(mode="after")
    def _model_takes_options(self) -> Self:
        raise_for_options(STAGES, self.model, self.options)
        return self


class ObjectiveSettings(Choice):
    """Training objective; all other keys are its options."""

    name: str = Field(
        "lcron", description="Name of the objective; `cascaderank ls objectives` lists them."
    )

    @model_validator(mode="after")
    def _objective_takes_options(self) -> Self:
        reserved = {"stages", "quotas", "ground_truth", "threshold"} & set(self.options)
        if reserved:
            raise ValueError(
                f"{', '.join(sorted(reserved))} cannot be set here; quotas are set in [stages], "
                "the ground truth in [relevance]"
            )
        raise_for_options(OBJECTIVES, self.name, self.options)
        return self
