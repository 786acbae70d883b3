"""Settings of a run, validated when read."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import ConfigDict, Discriminator, Field, StrictFloat, StrictInt, Tag, model_validator

from cascaderank.data.labels import TARGETS, TargetSettings
from cascaderank.data.loading.candidates import CandidateSettings, CatalogueSettings
from cascaderank.data.loading.request_order import Order
from cascaderank.data.split import DaySplit, RequestSplit, SplitSettings
from cascaderank.errors import ConfigError, ShapeError, did_you_mean
from cascaderank.limits import LARGEST_FLOAT32
from cascaderank.objectives import build_objective
from cascaderank.settings.base import Count, GivenPath, Real, Seed, Settings, Warmup
from cascaderank.settings.choices import ObjectiveSettings, StageSettings
from cascaderank.settings.comparison import CompareSettings
from cascaderank.settings.evaluation_settings import EvaluationSettings
from cascaderank.settings.files import check_as, flat, read_as, with_changes
from cascaderank.settings.schedule import Schedule
from cascaderank.tensors import check_quotas
from cascaderank.tracking import TRACKERS

AutoCount = Annotated[
    Annotated[Count, Tag("number")] | Annotated[Literal["auto"], Tag("auto")],
    Discriminator(lambda value: "auto" if isinstance(value, str) else "number"),
]
"""A positive number, or ``"auto"``; errors refer to the form that was used."""
_BATCHES_AHEAD = 10_000
_STAGES = 100
_SMALLEST = 2.0**-126  # of the normal numbers of float32, the type of labels


class DataSettings(Settings):
    """Request log, labels, split and histories."""

    path: GivenPath = Field(description="Folder of the request log, see `cascaderank prepare`.")
    target: TargetSettings | None = Field(
        None,
        description="Definition of the labels: a name, or a table with a label z for each level; "
        "default: funnel for a log with levels, label for one with labels alone.",
    )
    split: SplitSettings = Field(
        RequestSplit(), description="Split into training, validation and test requests."
    )
    history_length: Count = Field(
        50, description="Number of most recent entries of a history that are kept."
    )

    @model_validator(mode="after")
    def _target_exists(self) -> Self:
        if isinstance(self.target, str) and self.target not in TARGETS:
            raise ValueError(
                f"no target called '{self.target}'{did_you_mean(self.target, TARGETS)}; "
                f"available: {', '.join(TARGETS)}, or a table with z"
            )
        return self


class RelevanceSettings(Settings):
    """Ground truth: the candidates with the highest labels, or with labels above a threshold.

    With both ``top`` and ``threshold``, the candidates with the highest labels among those that
    reach the threshold.
    """

    top: Count | None = Field(
        None, description="Number k of candidates per list, those with the highest labels."
    )
    threshold: Real | None = Field(
        None, description="Smallest label of the ground truth; any number of candidates per list."
    )
    include_zero: bool = Field(
        default=False,
        description="Whether candidates with label 0 can be ground truth where fewer than top "
        "have a higher label. Applies to the targets label and feedback; of others, every "
        "candidate can be.",
    )

    @model_validator(mode="after")
    def _top_or_threshold(self) -> Self:
        if self.top is None and self.threshold is None:
            raise ValueError("give top, threshold or both; got neither")
        return self


class TrainSettings(Settings):
    """Length of training, batches, optimizer, schedule and device."""

    epochs: AutoCount = Field(
        "auto",
        description="Maximum number of passes over the training requests, in total or, if the "
        'schedule has phases that do not repeat, for each phase without a length; "auto": by '
        "number of steps, see docs/training.md.",
    )
    batch_size: AutoCount = Field(
        "auto",
        description='Number of requests per step; "auto": 4 to 256, so that an epoch has enough '
        "steps, see docs/training.md.",
    )
    order: Order = Field(
        "shuffled",
        description='Order of the requests: "shuffled", or "days": days in chronological order, '
        "shuffled within each day.",
    )
    bucketing: bool = Field(
        default=False,
        description="Whether lists of similar length share a batch, which reduces padding.",
    )
    prefetch: StrictInt = Field(
        0,
        ge=0,
        le=_BATCHES_AHEAD,
        description="Number of batches that a background thread builds in advance.",
    )
    learning_rate: StrictFloat = Field(
        0.01, gt=0, lt=10, description="Learning rate, at the start if it decays."
    )
    objective_learning_rate: StrictFloat | None = Field(
        None,
        gt=0,
        lt=10,
        description="Learning rate of the parameters of the objective, such as its learned "
        "weights; default: learning_rate.",
    )
    decay: Literal["cosine", "linear", "none"] = Field(
        "none",
        description='Decay of the learning rate after the warm-up; "linear" and "cosine": to 0 '
        "over the steps of each phase of the schedule.",
    )
    warmup: Warmup = Field(
        0, description="Linear warm-up of the learning rate: a number of steps, or a fraction."
    )
    weight_decay: StrictFloat = Field(
        0.0, ge=0, le=LARGEST_FLOAT32, description="Coefficient of decoupled weight decay, AdamW's."
    )
    average: StrictFloat | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay of an exponential moving average of the weights over the steps, which "
        "is validated and saved instead of the last weights; default: no average.",
    )
    embedding_optimizer: Literal["auto", "adamw", "sparse_adam", "row_wise_adagrad"] = Field(
        "auto",
        description='Optimizer of embedding tables; "auto": row_wise_adagrad for tables of at '
        "least 1,000,000 rows, adamw for others.",
    )
    clip_norm: StrictFloat = Field(
        10.0,
        gt=0,
        allow_inf_nan=True,
        description="Maximum norm of the gradient, which is scaled down to it; inf: no maximum.",
    )
    patience: AutoCount = Field(
        "auto",
        description="Number of epochs without a better validation value after which training ends; "
        '"auto": at least 3 epochs and 150 steps.',
    )
    candidates: CandidateSettings | None = Field(
        None, description="Sampling of the training candidates; default: all logged candidates."
    )
    schedule: Schedule = Field(
        Schedule(preset="joint"),
        description="Training schedule: a preset or a table of phases, see docs/schedules.md.",
    )
    start: GivenPath | None = Field(
        None,
        description="Folder of a complete run whose weights initialise the cascade; default: "
        "random initialisation.",
    )
    seed: Seed = Field(
        0,
        description="Seed of initialisation, order and sampling; on the CPU, equal seeds give "
        "bitwise equal results.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "cpu", description='Device; "auto": the first available of cuda, mps and cpu.'
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Precision of hidden layers in training; weights and scores are float32.",
    )
    compile: bool = Field(
        default=False,
        description="Whether torch.compile compiles the stages; compilation takes minutes.",
    )
    track: tuple[str, ...] | None = Field(
        None,
        description="Trackers that show losses and metrics during training: tensorboard, wandb, "
        "mlflow; default: none.",
    )
    checkpoint_every: Count = Field(200, description="Number of steps between checkpoints.")

    @model_validator(mode="after")
    def _trackers_exist(self) -> Self:
        for name in self.track or ():
            if name not in TRACKERS:
                raise ValueError(
                    f"track: no tracker called '{name}'{did_you_mean(name, TRACKERS)}; available: "
                    f"{', '.join(TRACKERS)}"
                )
        if len(set(self.track or ())) < len(self.track or ()):
            raise ValueError(f"track must not repeat a tracker; got {[*(self.track or ())]}")
        return self

    @model_validator(mode="after")
    def _sparse_adam_has_no_weight_decay(self) -> Self:
        if self.embedding_optimizer == "sparse_adam" and self.weight_decay:
            raise ValueError(
                "embedding_optimizer: sparse_adam does not support weight decay; got weight_decay "
                f"= {self.weight_decay}; set weight_decay = 0, or embedding_optimizer = "
                "'row_wise_adagrad'"
            )
        return self


class RunSettings(Settings):
    """All settings of a run, and of a comparison of runs."""

    # The default writes infinity, such as in compare.grid, as null, which is the same as not set.
    model_config = ConfigDict(ser_json_inf_nan="constants")

    data: DataSettings
    relevance: RelevanceSettings
    stages: dict[str, StageSettings] = Field(min_length=1, max_length=_STAGES)
    objective: ObjectiveSettings = ObjectiveSettings()
    train: TrainSettings = TrainSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    catalogue: CatalogueSettings | None = None
    compare: CompareSettings = CompareSettings()

    @model_validator(mode="after")
    def _quotas_do_not_grow(self) -> Self:
        try:
            check_quotas(self.quotas, stages=len(self.stages))
        except (ConfigError, ShapeError) as error:
            raise ValueError(str(error)) from None
        first = next(iter(self.stages))
        if self.stages[first].previous:
            raise ValueError(f"stages.{first}.previous: the first stage has no previous stage")
        return self

    @model_validator(mode="after")
    def _objective_and_schedule_fit_the_stages(self) -> Self:
        try:
            objective = build_objective(
                self.objective.name,
                stages=list(self.stages),
                quotas=self.quotas,
                ground_truth=self.ground_truth.top,
                threshold=self.ground_truth.threshold,
                **self.objective.options,
            )
            self.train.schedule.plans(tuple(self.stages), objective.terms)
        except (ConfigError, ShapeError) as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _random_candidates_have_a_catalogue(self) -> Self:
        pool = self.train.candidates is not None and self.train.candidates.pool > 0
        if pool and self.catalogue is None:
            raise ValueError(
                "train.candidates.pool draws random items and needs the feature that identifies an "
                "item; set catalogue.item"
            )
        if self.objective.options.get("corrected") and not pool:
            raise ValueError(
                f"corrected = true of '{self.objective.name}' needs random candidates, whose "
                "sampling probability it corrects for; set train.candidates.pool"
            )
        return self

    @model_validator(mode="after")
    def _what_is_chosen_has_validation_requests(self) -> Self:
        if not isinstance(self.data.split, DaySplit) or self.data.split.validation_days:
            return self
        if any(self.compare.grid.values()):
            raise ValueError(
                "the best of compare.grid is chosen on validation requests; got "
                "data.split.validation_days = 0; set it to 1 or more, or leave the grid out"
            )
        if self.catalogue is not None and self.catalogue.decides is not None:
            raise ValueError(
                "catalogue.decides is a metric of the validation requests; got "
                "data.split.validation_days = 0; set it to 1 or more, or leave decides out"
            )
        return self

    @property
    def ground_truth(self) -> RelevanceSettings:
        """Ground truth of the run: ``relevance``, with a threshold if label 0 is excluded.

        The threshold is then the smallest normal number of float32.
        """
        given = self.relevance
        graded = self.data.target in ("label", "feedback")
        if given.threshold is not None or given.include_zero or not graded:
            return given
        return given.model_copy(update={"threshold": _SMALLEST})

    @property
    def quotas(self) -> tuple[int, ...]:
        """Number of candidates that each stage keeps, first stage first."""
        return tuple(stage.quota for stage in self.stages.values())

    def changed(self, changes: Mapping[str, object]) -> "RunSettings":
        """Return a copy with new values for some settings.

        Args:
            changes: new values by dotted name, such as ``{"train.seed": 1}``.

        Raises:
            ConfigError: if the changed settings are invalid.
        """
        values = self.model_dump(mode="json", exclude_none=True)
        return check_settings(with_changes(values, changes))

    def differences(self, other: "RunSettings") -> list[str]:
        """Return one line for each setting of the run that differs from that of another run.

        A line has the form ``"train.seed: 0, not 1"``, this value first; or ``"train.start: runs/a,
        now not set"`` and ``"train.start: not set, now runs/a"``.
        """
        own, others = (flat(settings.of_run()) for settings in (self, other))
        lines = []
        for name in sorted({*own, *others}):
            if own.get(name) != others.get(name):
                between = "not" if name in own and name in others else "now"
                lines.append(
                    f"{name}: {own.get(name, 'not set')}, {between} {others.get(name, 'not set')}"
                )
        return lines

    def to_toml(self) -> str:
        """Return the settings of the run, including defaults, as TOML."""
        return tomli_w.dumps(self.of_run())

    def of_run(self) -> dict[str, Any]:
        """Return the settings of the run as JSON values, without those of a comparison."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"compare"})


def read_settings(path: str | os.PathLike[str], changes: Sequence[str] = ()) -> RunSettings:
    """Read and validate the settings of a run from a TOML file.

    Args:
        path: file to read.
        changes: settings to replace, each as ``"train.seed=3"``; the value is TOML, or a string if
            it is not valid TOML.

    Raises:
        ConfigError: if the file cannot be read or has mistakes; the message lists all of them.
    """
    return read_as(RunSettings, path, changes)


def check_settings(values: Mapping[str, object]) -> RunSettings:
    """Validate the settings of a run.

    Args:
        values: nested values, as read from a config.

    Raises:
        ConfigError: if a setting is missing, unknown or invalid; the message lists all mistakes.
    """
    return check_as(RunSettings, values)
