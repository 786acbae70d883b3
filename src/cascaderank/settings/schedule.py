"""Training schedules: a sequence of phases, each with its stages, terms and candidates."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal, Self, final

from pydantic import Field, model_validator

from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.objectives import Term
from cascaderank.schema import matched_names
from cascaderank.settings.base import Count, Settings

PRESETS = ("joint", "alternating", "sequential", "rankflow")
"""Names of predefined schedules; see ``docs/schedules.md``."""


class Phase(Settings):
    """Stages, terms, candidates and length of one phase."""

    stages: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Names of the stages that are trained; default: all.",
    )
    terms: tuple[str, ...] = Field(
        ("*",), min_length=1, description="Active terms of the objective, as shell patterns."
    )
    candidates: Literal["all", "survivors"] = Field(
        "all",
        description="Training candidates of a stage: all, or those that the earlier stages keep.",
    )
    epochs: Count | None = Field(None, description="Length in epochs.")
    steps: Count | None = Field(None, description="Length in batches.")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError(
                f"give one of epochs and steps; got epochs = {self.epochs}, steps = {self.steps}"
            )
        return self


@final
@dataclass(frozen=True)
class Plan:
    """A phase resolved for the stages and terms of a run."""

    phase: Phase
    stages: frozenset[str]
    """Names of the stages that are trained."""
    terms: frozenset[str]
    """Names of the active terms."""


class Schedule(Settings):
    """A preset by name, or custom phases.

    Examples:
        >>> Schedule.model_validate("sequential").preset
        'sequential'
        >>> own = Schedule(phases=(Phase(stages=("ranking",), epochs=2), Phase(epochs=1)))
        >>> [phase.candidates for phase in own.phases]
        ['all', 'all']
    """

    preset: Literal["joint", "alternating", "sequential", "rankflow"] | None = Field(
        None, description="Name of a predefined schedule."
    )
    steps: Count | None = Field(None, description="Steps per phase of a preset; an epoch if None.")
    phases: tuple[Phase, ...] = Field((), max_length=1_000, description="Custom phases, in order.")
    repeat: bool = Field(default=False, description="Repeat the phases until the last epoch.")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in PRESETS:
            raise ValueError(
                f"no schedule called '{value}'{did_you_mean(value, PRESETS)}; "
                f"available: {', '.join(PRESETS)}, or a table of phases"
            )
        return {"preset": value}

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.preset is None) == (not self.phases):
            given = "neither" if self.preset is None else "both"
            raise ValueError(f"give one of preset and phases; got {given}")
        if self.preset is not None and self.repeat:
            raise ValueError(
                f"repeat applies to phases, not to a preset; got preset '{self.preset}'"
            )
        if self.steps is not None and self.preset not in ("alternating", "rankflow"):
            raise ValueError(
                "steps applies to the presets 'alternating' and 'rankflow'; "
                f"got {f'preset {self.preset!r}' if self.preset else 'phases'}; "
                "set steps of each phase"
            )
        without_length = [
            n for n, p in enumerate(self.phases) if p.epochs is None and p.steps is None
        ]
        if self.repeat and without_length:
            raise ValueError(
                f"phases.{without_length[0]} needs epochs or steps if phases repeat; got neither"
            )
        return self

    @property
    def repeats(self) -> bool:
        """Whether the phases are repeated until the last epoch."""
        return self.repeat or self.preset in ("alternating", "rankflow")

    def plans(self, stages: Sequence[str], terms: Sequence[Term]) -> tuple[Plan, ...]:
        """Return the plan of each phase.

        Args:
            stages: names of the stages, first stage first.
            terms: terms of the objective.

        Raises:
            ConfigError: if a phase names an unknown stage, a pattern matches no term, or the terms
                of a phase train none of its stages.
        """
        return tuple(
            _plan(phase, f"phase {n} of the schedule", stages, terms)
            for n, phase in enumerate(self._phases_of(stages), start=1)
        )

    def _phases_of(self, stages: Sequence[str]) -> tuple[Phase, ...]:
        turn = {"steps": self.steps, "epochs": None if self.steps else 1}
        match self.preset:
            case "joint":
                return (Phase(),)
            case "alternating":
                return tuple(Phase(stages=(name,), **turn) for name in stages)
            case "sequential":
                return tuple(Phase(stages=(name,), candidates="survivors") for name in stages)
            case "rankflow":
                tutored = ("regression/*", "ranking/*")
                return (Phase(terms=("self/*",), **turn), Phase(terms=tutored, **turn))
        return self.phases


def _plan(phase: Phase, where: str, stages: Sequence[str], terms: Sequence[Term]) -> Plan:
    for name in phase.stages or ():
        if name not in stages:
            raise ConfigError(
                f"{where}: no stage called '{name}'{did_you_mean(name, stages)}; "
                f"the cascade has {', '.join(stages)}"
            )
    known = [term.name for term in terms]
    active, unmatched = matched_names(known, phase.terms)
    if unmatched:
        raise ConfigError(
            f"{where}: no term of the objective matches '{unmatched[0]}'"
            f"{did_you_mean(unmatched[0], known)}; its terms are {', '.join(known)}"
        )
    selected = phase.stages or tuple(stages)
    used = [
        term
        for term in terms
        if term.name in active and (term.stage is None or stages[term.stage] in selected)
    ]
    if not used:
        raise ConfigError(
            f"{where}: the terms {', '.join(phase.terms)} train none of the stages "
            f"{', '.join(selected)}; the terms of the objective are {', '.join(known)}"
        )
    with_term = frozenset(stages[term.stage] for term in used if term.stage is not None)
    whole_cascade = any(term.stage is None for term in used)
    return Plan(
        phase=phase,
        stages=frozenset(selected) if whole_cascade else with_term,
        terms=frozenset(term.name for term in used),
    )


class Timetable:
    """Mapping from training steps to phases.

    Args:
        phases: the phases, in order.
        repeats: whether the phases are repeated after the last one.
        epochs: length of a phase without a length; total length if phases repeat.
        batches: number of batches per epoch.

    Examples:
        >>> phases = [Phase(steps=2), Phase(epochs=1)]
        >>> table = Timetable(phases, repeats=True, epochs=3, batches=4)
        >>> [table.phase_at(step) for step in range(table.steps)]
        [0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1]
        >>> table = Timetable(phases, repeats=False, epochs=3, batches=4)
        >>> [table.position_at(step) for step in range(table.steps)]
        [(0, 2), (1, 2), (0, 4), (1, 4), (2, 4), (3, 4)]
    """

    def __init__(
        self, phases: Sequence[Phase], *, repeats: bool, epochs: int, batches: int
    ) -> None:
        self._ends = list(accumulate(p.steps or (p.epochs or epochs) * batches for p in phases))
        self._repeats = repeats
        self.steps = epochs * batches if repeats else self._ends[-1]
        """Total number of training steps."""
        ends = [0, *self._ends]
        self.lengths = [self.steps] if repeats else [b - a for a, b in pairwise(ends)]
        """Number of steps of each phase; of all together if the phases repeat."""
        self.cycle = self._ends[-1] if repeats else 0
        """Number of steps after which the phases repeat; 0 if they do not."""

    def phase_at(self, step: int) -> int:
        """Return the index from 0 of the phase of a step; steps count from 0."""
        if self._repeats:
            step %= self._ends[-1]
        return next((n for n, end in enumerate(self._ends) if step < end), len(self._ends) - 1)

    def changes(self, step: int) -> bool:
        """Whether a step starts a phase other than the first, in a schedule without repetition."""
        return not self._repeats and step in self._ends[:-1]

    def position_at(self, step: int) -> tuple[int, int]:
        """Return the number of steps completed in the phase of a step, and its length in steps.

        If the phases repeat, the numbers of completed and of all steps.
        """
        if self._repeats:
            return step, self.steps
        phase = self.phase_at(step)
        start = self._ends[phase - 1] if phase else 0
        return step - start, self._ends[phase] - start

    def is_final(self, step: int) -> bool:
        """Whether a step is in the last phase, or the phases repeat."""
        return self._repeats or self.phase_at(step) == len(self._ends) - 1
