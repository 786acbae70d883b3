"""Settings of a run: read once, checked at once, never changed."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import Field, model_validator

from cascaderank.data.labels import TARGETS, TargetSettings
from cascaderank.data.loading.candidates import CandidateSettings, CatalogueSettings
from cascaderank.data.loading.request_order import Order
from cascaderank.data.split import RequestSplit, SplitSettings
from cascaderank.errors import ConfigError, ShapeError, did_you_mean
from cascaderank.metrics import named_metric
from cascaderank.objectives import OBJECTIVES, build_objective
from cascaderank.registry import Registry
from cascaderank.settings.base import Choice, Settings
from cascaderank.settings.comparison import CompareSettings
from cascaderank.settings.files import check_as, flat, read_as, with_changes
from cascaderank.settings.schedule import Schedule
from cascaderank.stages import STAGES
from cascaderank.tensors import check_quotas


def raise_for_options(registry: Registry[Any], name: str, options: Mapping[str, object]) -> None:
    """Check the options of a registered thing.

    Raises:
        ValueError: for all that is wrong with them.
    """
    mistakes = registry.option_mistakes(name, options)
    if mistakes:
        raise ValueError("; ".join(mistakes))


class DataSettings(Settings):
    """Which request log, and what is taken from it."""

    path: Path = Field(description="Folder that `cascaderank prepare` wrote.")
    target: TargetSettings = Field(
        "funnel", description="What the labels are made of: a name, or a table with z by level."
    )
    split: SplitSettings = Field(RequestSplit(), description="Which requests train and test.")
    history_length: int = Field(50, ge=1, description="Latest entries of a history that are kept.")

    @model_validator(mode="after")
    def _target_exists(self) -> Self:
        if isinstance(self.target, str) and self.target not in TARGETS:
            raise ValueError(
                f"no target called '{self.target}'{did_you_mean(self.target, TARGETS)}; "
                f"there are {', '.join(TARGETS)}"
            )
        return self


class RelevanceSettings(Settings):
    """What counts as ground truth: the top of each list, or labels from a threshold up."""

    top: int | None = Field(None, ge=1, description="The so many best by label.")
    threshold: float | None = Field(None, description="Every label of at least this.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.top is None) == (self.threshold is None):
            raise ValueError("give one of top and threshold, and not both")
        return self


class StageSettings(Choice):
    """One stage of the cascade; further keys are options of its model."""

    model: str = Field(description="What `cascaderank ls stages` lists.")
    quota: int = Field(ge=1, description="How many candidates the stage passes on.")
    features: tuple[str, ...] = Field(
        ("*",), min_length=1, description="Features it may use; shell patterns."
    )

    @model_validator(mode="after")
    def _model_takes_options(self) -> Self:
        raise_for_options(STAGES, self.model, self.options)
        return self


class ObjectiveSettings(Choice):
    """What is minimised; further keys are options of the objective."""

    name: str = Field("lcron", description="What `cascaderank ls objectives` lists.")

    @model_validator(mode="after")
    def _objective_takes_options(self) -> Self:
        said = {"stages", "quotas", "ground_truth", "threshold"} & set(self.options)
        if said:
            raise ValueError(
                f"{', '.join(sorted(said))} cannot be said here: quotas are those of [stages], "
                "ground truth is that of [relevance]"
            )
        raise_for_options(OBJECTIVES, self.name, self.options)
        return self


class TrainSettings(Settings):
    """How long and how fast to learn."""

    epochs: int = Field(10, ge=1, description="Passes over requests, at most; of each phase.")
    batch_size: int = Field(64, ge=1, description="Requests per step.")
    order: Order = Field(
        "shuffled", description='Of requests: by chance, or "days": day by day, by chance in each.'
    )
    bucketing: bool = Field(
        default=False, description="Lists of like length share a batch: less padding."
    )
    prefetch: int = Field(0, ge=0, description="Batches that a thread makes in advance.")
    learning_rate: float = Field(1e-3, gt=0, lt=10, description="Adam's step size.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay (AdamW).")
    embedding_optimizer: Literal["auto", "adamw", "sparse_adam", "row_wise_adagrad"] = Field(
        "auto", description="Of tables of embeddings; auto: lazy from a million rows."
    )
    clip_norm: float = Field(10.0, gt=0, description="Longest gradient that is not cut down.")
    patience: int = Field(3, ge=1, description="Epochs without a better validation before the end.")
    candidates: CandidateSettings | None = Field(
        None, description="Which candidates a request is trained on; all if not given."
    )
    schedule: Schedule = Field(
        Schedule(preset="joint"), description="Who learns when: see docs/schedules.md."
    )
    start: Path | None = Field(None, description="Folder of a run whose weights to begin with.")
    seed: int = Field(0, ge=0, description="Equal seeds give equal bits on CPU.")
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of hidden layers in training; weights and scores are float32."
    )
    compile: bool = Field(
        default=False, description="Let torch.compile fuse the stages; takes minutes to begin."
    )
    checkpoint_every: int = Field(200, ge=1, description="Steps between checkpoints.")

    @model_validator(mode="after")
    def _decay_has_someone_to_do_it(self) -> Self:
        if self.embedding_optimizer == "sparse_adam" and self.weight_decay:
            raise ValueError(
                "sparse_adam knows no weight decay; set weight_decay = 0, or embedding_optimizer "
                "= 'row_wise_adagrad'"
            )
        return self


class EvaluationSettings(Settings):
    """How to judge."""

    batch_size: int = Field(256, ge=1, description="Requests per step; changes no result.")
    bootstrap: int = Field(1_000, ge=1, description="Resamples behind the 95 % intervals.")
    seed: int = Field(0, ge=0, description="Of the resampling.")
    metrics: tuple[str, ...] = Field(
        (), description='More metrics of each stage, such as "ndcg@15", "ndcg", "map" and "opa".'
    )

    @model_validator(mode="after")
    def _metrics_exist(self) -> Self:
        try:
            names = tuple(named_metric(name).text for name in self.metrics)
        except ConfigError as error:
            raise ValueError(f"metrics: {error}") from None
        if len({*names}) < len(names):
            raise ValueError(f"metrics: one is there twice; got {list(self.metrics)}")
        object.__setattr__(self, "metrics", names)  # canonical: reports are keyed by these names
        return self


class RunSettings(Settings):
    """One run, whole."""

    data: DataSettings
    relevance: RelevanceSettings
    stages: dict[str, StageSettings] = Field(min_length=1)
    objective: ObjectiveSettings = ObjectiveSettings()
    train: TrainSettings = TrainSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    catalogue: CatalogueSettings | None = None
    compare: CompareSettings = CompareSettings()

    @model_validator(mode="after")
    def _quotas_never_grow(self) -> Self:
        try:
            check_quotas(self.quotas, stages=len(self.stages))
        except (ConfigError, ShapeError) as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _objective_and_schedule_fit_the_stages(self) -> Self:
        try:
            objective = build_objective(
                self.objective.name,
                stages=list(self.stages),
                quotas=self.quotas,
                ground_truth=self.relevance.top,
                threshold=self.relevance.threshold,
                **self.objective.options,
            )
            self.train.schedule.plans(tuple(self.stages), objective.terms)
        except (ConfigError, ShapeError) as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _random_candidates_can_be_drawn(self) -> Self:
        pool = self.train.candidates is not None and self.train.candidates.pool > 0
        if pool and self.catalogue is None:
            raise ValueError(
                "train.candidates.pool draws random items, and nothing says what tells items "
                "apart; name the feature in catalogue.item"
            )
        if self.objective.options.get("corrected") and not pool:
            raise ValueError(
                f"corrected = true of '{self.objective.name}' needs random candidates whose chance "
                "is known; draw some with train.candidates.pool"
            )
        return self

    @property
    def quotas(self) -> tuple[int, ...]:
        """Of each stage, first stage first."""
        return tuple(stage.quota for stage in self.stages.values())

    def changed(self, changes: Mapping[str, object]) -> "RunSettings":
        """Return a copy with settings replaced by their dotted names.

        Raises:
            ConfigError: if a changed setting is wrong.
        """
        mine = self.model_dump(mode="json", exclude_none=True)
        return check_settings(with_changes(mine, changes))

    def differences(self, other: "RunSettings") -> list[str]:
        """Return one line for each setting that differs, such as ``"train.seed: 0, not 1"``."""
        mine, theirs = (flat(s.of_run()) for s in (self, other))
        return [
            f"{name}: {mine.get(name, 'not set')}, not {theirs.get(name, 'not set')}"
            for name in sorted({*mine, *theirs})
            if mine.get(name) != theirs.get(name)
        ]

    def to_toml(self) -> str:
        """Write the settings of the run, defaults included, as TOML."""
        return tomli_w.dumps(self.of_run())

    def of_run(self) -> dict[str, Any]:
        """Return the settings of one run, as JSON can hold them: all but what is compared."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"compare"})


def read_settings(path: str | os.PathLike[str], changes: Sequence[str] = ()) -> RunSettings:
    """Read a TOML file; every mistake in it is reported in one error.

    Args:
        path: the file.
        changes: settings to replace, each as ``"train.seed=3"``; the value is TOML, or a string
            if it is not TOML.

    Raises:
        ConfigError: if the file cannot be read, or for everything that is wrong in it.
    """
    return read_as(RunSettings, path, changes)


def check_settings(values: Mapping[str, object]) -> RunSettings:
    """Check nested settings.

    Raises:
        ConfigError: for everything that is wrong, in one message.
    """
    return check_as(RunSettings, values)
