"""Settings of a simulation: a TOML file, checked at once."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from cascaderank.config import (
    Choice,
    DataSettings,
    RunSettings,
    Settings,
    TrainSettings,
    check_settings,
    raise_for_options,
)
from cascaderank.simulation.funnel import Funnel, FunnelStage
from cascaderank.stages import STAGES


class SourceSettings(DataSettings):
    """Which request log users, items and teachers come from."""

    target: str = Field("feedback", description="What teachers learn: see data/labels.py.")
    threshold: float = Field(1.0, description="Labels of at least this are positive.")
    user: str = Field(description="Request feature that names the user.")
    item: str = Field(description="Candidate feature that names the item.")
    features: tuple[str, ...] = Field(
        ("*",), min_length=1, description="Features of the simulated log; shell patterns."
    )


class RequestSettings(Settings):
    """How many requests, and how each begins."""

    candidates: int = Field(1_000, ge=1, description="Items that a request starts from.")
    pool: int = Field(50, ge=0, description="Further items that are logged by chance.")
    users: int | None = Field(None, ge=1, description="Users drawn by chance; all if not given.")
    requests: int = Field(1, ge=1, description="Training requests of each user.")
    seed: int = Field(0, ge=0, description="Of all chance but that of training.")


class TeacherSettings(Choice):
    """A model that plays a stage; further keys are its options."""

    model: str = Field(description="What `cascaderank ls stages` lists.")
    features: tuple[str, ...] = Field(
        ("*",), min_length=1, description="Features it may use; shell patterns."
    )

    @model_validator(mode="after")
    def _model_takes_options(self) -> Self:
        raise_for_options(STAGES, self.model, self.options)
        return self


class SimulatedStage(TeacherSettings):
    """One stage of the simulated funnel."""

    keep: int = Field(ge=1, description="Candidates that it passes on.")
    negatives: int = Field(ge=0, description="Candidates it dropped that are logged.")
    negatives_from: Literal["bottom", "random"] = Field(
        "bottom", description="Which of those: of the lowest scores, or by chance."
    )
    noise: float = Field(0.0, ge=0, description="Deviation of the noise on a score.")
    exploration: float = Field(0.0, ge=0, lt=1, description="Share of what is kept by chance.")


class TruthSettings(Choice):
    """What the user would do: as was observed, or as one more model has it."""

    by: Literal["model", "observed"] = Field(
        description='"observed": labels of logs; "model": drawn from its probabilities.'
    )
    paths: tuple[Path, ...] = Field((), description="Logs that tell; users are those of the first.")
    model: str = Field("mlp", description="What `cascaderank ls stages` lists.")
    features: tuple[str, ...] = Field(("*",), min_length=1, description="Features it may use.")

    @model_validator(mode="after")
    def _says_where_it_comes_from(self) -> Self:
        if self.by == "observed" and not self.paths:
            raise ValueError("observed truth needs paths: the logs that tell it")
        if self.by == "model" and self.paths:
            raise ValueError('paths are for observed truth; leave them out, or say by = "observed"')
        if self.by == "observed" and self.options:
            raise ValueError(f"observed truth takes no {', '.join(self.options)}")
        raise_for_options(STAGES, self.model, self.options)
        return self


class SimulationSettings(Settings):
    """A simulation, whole."""

    data: SourceSettings
    funnel: RequestSettings = RequestSettings()
    stages: dict[str, SimulatedStage] = Field(min_length=1)
    truth: TruthSettings
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _stages_fit_into_one_another(self) -> Self:
        if "truth" in self.stages:
            raise ValueError("no stage can be called truth; rename it")
        self.as_funnel()
        return self

    def as_funnel(self) -> Funnel:
        """Return how a request goes.

        Raises:
            ConfigError: if a stage keeps and logs more than reaches it.
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
        """Return the models that are trained, by name; the truth last, if it is one."""
        truth = {"truth": self.truth} if self.truth.by == "model" else {}
        return {**self.stages, **truth}

    def run_of(self, name: str, features: tuple[str, ...]) -> RunSettings:
        """Return the settings that train a teacher: a cascade of one stage, by BCE.

        Args:
            name: of the teacher.
            features: those that it uses.
        """
        teacher = self.teachers()[name]
        train = self.train
        if name == "truth":  # not the model that plays a stage, even with the same layers
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
