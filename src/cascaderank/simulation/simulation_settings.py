"""Settings of a simulation, read from TOML and validated before any work."""

from typing import Literal, Self

from pydantic import Field, StrictFloat, model_validator

from cascaderank.limits import LARGEST_FLOAT32
from cascaderank.settings.base import (
    Choice,
    Count,
    CountOrZero,
    GivenPath,
    Real,
    Seed,
    Settings,
)
from cascaderank.settings.choices import raise_for_options
from cascaderank.settings.run import (
    DataSettings,
    RunSettings,
    TrainSettings,
    check_settings,
)
from cascaderank.simulation.funnel import Funnel, FunnelStage
from cascaderank.stages import STAGES


class SourceSettings(DataSettings):
    """Request log of the users, items and teachers."""

    target: str = Field(
        "feedback", description="Training target of the teachers; see data/labels.py."
    )
    threshold: Real = Field(1.0, description="Minimum label of positive feedback.")
    user: str = Field(description="Request feature that identifies the user.")
    item: str = Field(description="Candidate feature that identifies the item.")
    features: tuple[str, ...] = Field(
        ("*",), min_length=1, description="Features of the simulated log; shell patterns."
    )


class RequestSettings(Settings):
    """Number of requests, and their initial candidates."""

    candidates: Count = Field(1_000, description="Initial candidates of a request.")
    pool: CountOrZero = Field(50, description="Further random items that are logged.")
    users: Count | None = Field(
        None, description="Number of users, sampled at random; all by default."
    )
    requests: Count = Field(1, description="Training requests of each user.")
    seed: Seed = Field(0, description="Seed of all sampling except training.")


class TeacherSettings(Choice):
    """Model that acts as a stage; further keys are its options."""

    model: str = Field(description="Name from `cascaderank ls stages`.")
    features: tuple[str, ...] = Field(
        ("*",), min_length=1, description="Features of the model; shell patterns."
    )

    @model_validator(mode="after")
    def _model_takes_options(self) -> Self:
        raise_for_options(STAGES, self.model, self.options)
        return self


class SimulatedStage(TeacherSettings):
    """One stage of the simulated funnel."""

    keep: Count = Field(description="Number of candidates that the stage keeps.")
    negatives: CountOrZero = Field(description="Number of dropped candidates that are logged.")
    negatives_from: Literal["bottom", "random"] = Field(
        "bottom", description="Logged dropped candidates: lowest scores, or at random."
    )
    noise: StrictFloat = Field(
        0.0, ge=0, le=LARGEST_FLOAT32, description="Standard deviation of the score noise."
    )
    exploration: StrictFloat = Field(
        0.0, ge=0, lt=1, description="Share of kept candidates that is random."
    )


class TruthSettings(Choice):
    """Feedback of the users: observed in logs, or sampled from a further model."""

    by: Literal["model", "observed"] = Field(
        description='"observed": labels of logs; "model": sampled from its probabilities.'
    )
    paths: tuple[GivenPath, ...] = Field(
        (), description="Logs of observed feedback; users of the first log."
    )
    model: str = Field("mlp", description="Name from `cascaderank ls stages`.")
    features: tuple[str, ...] = Field(("*",), min_length=1, description="Features of the model.")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if self.by == "observed" and not self.paths:
            raise ValueError("observed truth needs paths: the logs with the feedback")
        if self.by == "model" and self.paths:
            raise ValueError(
                'paths apply to observed truth only; remove them, or set by = "observed"'
            )
        if self.by == "observed" and self.options:
            raise ValueError(f"observed truth takes no {', '.join(self.options)}")
        raise_for_options(STAGES, self.model, self.options)
        return self


class SimulationSettings(Settings):
    """All settings of a simulation."""

    data: SourceSettings
    funnel: RequestSettings = RequestSettings()
    stages: dict[str, SimulatedStage] = Field(min_length=1, max_length=100)
    truth: TruthSettings
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _stages_are_valid(self) -> Self:
        if "truth" in self.stages:
            raise ValueError(
                "'truth' is reserved and cannot be the name of a stage; rename the stage"
            )
        self.as_funnel()
        return self

    def as_funnel(self) -> Funnel:
        """Return the funnel.

        Raises:
            ConfigError: if a stage keeps and logs more candidates than reach it.
        """
        return Funnel(
            candidates=self.funnel.candidates,
            pool=self.funnel.pool,
            seed=self.funnel.seed,
            stages=tuple(
                FunnelStage(
                    name=name,
                    **stage.model_dump(
                        include={"keep", "negatives", "negatives_from", "noise", "exploration"}
                    ),
                )
                for name, stage in self.stages.items()
            ),
        )

    def teachers(self) -> dict[str, TeacherSettings | TruthSettings]:
        """Return the models to train by name; the truth last, if it is a model."""
        truth = {"truth": self.truth} if self.truth.by == "model" else {}
        return {**self.stages, **truth}

    def run_of(self, name: str, features: tuple[str, ...]) -> RunSettings:
        """Return the settings of the training run of a teacher: one stage, trained with BCE.

        Args:
            name: name of the teacher.
            features: features of the teacher.
        """
        teacher = self.teachers()[name]
        train = self.train
        if name == "truth":  # differs from a stage model even with the same layers
            train = train.model_copy(update={"seed": train.seed + 1})
        return check_settings(
            {
                "data": self.data.model_dump(
                    mode="json", exclude={"user", "item", "features", "threshold"}
                ),
                "relevance": {"threshold": self.data.threshold},
                "stages": {
                    name: {
                        "model": teacher.model,
                        "quota": 1,
                        "features": features,
                        **teacher.options,
                    }
                },
                "objective": {"name": "bce"},
                "train": train.model_dump(mode="json"),
                "evaluation": {"bootstrap": 1},
            }
        )
