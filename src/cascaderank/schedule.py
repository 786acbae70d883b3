"""What a training schedule is: phases that are gone through, and what holds in each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Any, Literal, Self, final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.objectives import Term

PRESETS = ("joint", "alternating", "sequential", "rankflow")
"""Names of schedules that need no phases of one's own; see ``docs/schedules.md``."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Phase(_Settings):
    """Who learns what from whom, and for how long."""

    stages: tuple[str, ...] | None = Field(
        None, min_length=1, description="Stages that learn; all if not given. Others stand still."
    )
    terms: tuple[str, ...] = Field(
        ("*",), min_length=1, description="Terms of the objective that count; shell patterns."
    )
    candidates: Literal["all", "survivors"] = Field(
        "all", description="Whom a stage learns from: all, or who passes the stages before it."
    )
    epochs: int | None = Field(None, ge=1, description="Length in passes over the data.")
    steps: int | None = Field(None, ge=1, description="Length in batches.")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give one of epochs and steps, and not both")
        return self


@final
@dataclass(frozen=True)
class Plan:
    """What holds in one phase."""

    phase: Phase
    stages: frozenset[str]
    """That learn."""
    terms: frozenset[str]
    """That count."""


class Schedule(_Settings):
    """A preset by its name, or phases of one's own.

    Examples:
        >>> Schedule.model_validate("sequential").preset
        'sequential'
        >>> own = Schedule(phases=(Phase(stages=("ranking",), epochs=2), Phase(epochs=1)))
        >>> [phase.candidates for phase in own.phases]
        ['all', 'all']
    """

    preset: Literal["joint", "alternating", "sequential", "rankflow"] | None = Field(
        None, description="Phases that have a name."
    )
    steps: int | None = Field(None, ge=1, description="Length of a preset's turn; else an epoch.")
    phases: tuple[Phase, ...] = Field((), description="Phases of one's own, in their order.")
    repeat: bool = Field(
        default=False, description="Begin again after the last phase, to the last epoch."
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in PRESETS:
            raise ValueError(
                f"no schedule called '{value}'{did_you_mean(value, PRESETS)}; "
                f"there are {', '.join(PRESETS)}, and phases of one's own"
            )
        return {"preset": value}

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.preset is None) == (not self.phases):
            raise ValueError("give one of preset and phases, and not both")
        if self.preset is not None and self.repeat:
            raise ValueError("repeat goes with phases; presets know by themselves")
        if self.steps is not None and self.preset not in ("alternating", "rankflow"):
            raise ValueError("steps is for 'alternating' and 'rankflow'; phases have theirs")
        endless = [n for n, p in enumerate(self.phases) if p.epochs is None and p.steps is None]
        if self.repeat and endless:
            raise ValueError(f"phases.{endless[0]} needs epochs or steps if phases repeat")
        return self

    @property
    def repeats(self) -> bool:
        """Whether the phases are gone through again and again until the last epoch."""
        return self.repeat or self.preset in ("alternating", "rankflow")

    def plans(self, stages: Sequence[str], terms: Sequence[Term]) -> tuple[Plan, ...]:
        """Return what holds in each phase.

        Args:
            stages: names of the stages, first first.
            terms: of the objective.

        Raises:
            ConfigError: if a phase speaks of a stage that there is not, a pattern fits no term,
                or a phase leaves nothing to learn.
        """
        return tuple(
            _planned(phase, f"phase {n} of the schedule", stages, terms)
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


def _planned(phase: Phase, where: str, stages: Sequence[str], terms: Sequence[Term]) -> Plan:
    for name in phase.stages or ():
        if name not in stages:
            raise ConfigError(
                f"{where}: no stage called '{name}'{did_you_mean(name, stages)}; "
                f"there are {', '.join(stages)}"
            )
    known = [term.name for term in terms]
    for pattern in phase.terms:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ConfigError(
                f"{where}: no term of the objective is called '{pattern}'"
                f"{did_you_mean(pattern, known)}; there are {', '.join(known)}"
            )
    asked = phase.stages or tuple(stages)
    counted = [
        term
        for term in terms
        if any(fnmatchcase(term.name, pattern) for pattern in phase.terms)
        and (term.stage is None or stages[term.stage] in asked)
    ]
    if not counted:
        raise ConfigError(
            f"{where}: {', '.join(asked)} would learn nothing from the terms "
            f"{', '.join(phase.terms)}; there are {', '.join(known)}"
        )
    taught = frozenset(stages[term.stage] for term in counted if term.stage is not None)
    whole = any(term.stage is None for term in counted)
    return Plan(
        phase=phase,
        stages=frozenset(asked) if whole else taught,
        terms=frozenset(term.name for term in counted),
    )


class Timetable:
    """Which phase each step of training is in.

    Args:
        phases: in their order.
        repeats: whether they begin again after the last.
        epochs: the length of a phase that has none, and of all if phases repeat.
        batches: in an epoch.

    Examples:
        >>> phases = [Phase(steps=2), Phase(epochs=1)]
        >>> table = Timetable(phases, repeats=True, epochs=3, batches=4)
        >>> [table.phase_at(step) for step in range(table.steps)]
        [0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    """

    def __init__(
        self, phases: Sequence[Phase], *, repeats: bool, epochs: int, batches: int
    ) -> None:
        self._ends = list(accumulate(p.steps or (p.epochs or epochs) * batches for p in phases))
        self._repeats = repeats
        self.steps = epochs * batches if repeats else self._ends[-1]
        """Of all training."""
        self.cycle = self._ends[-1] if repeats else 0
        """Steps after which phases begin again; 0 if they do not."""

    def phase_at(self, step: int) -> int:
        """Return the number of the phase that a step is in, from 0; steps count from 0."""
        if self._repeats:
            step %= self._ends[-1]
        return next((n for n, end in enumerate(self._ends) if step < end), len(self._ends) - 1)

    def changes(self, step: int) -> bool:
        """Whether a step is the first of a phase that is not the first and will not come again."""
        return not self._repeats and step in self._ends[:-1]

    def is_final(self, step: int) -> bool:
        """Whether a step is in the last phase, or in phases that repeat."""
        return self._repeats or self.phase_at(step) == len(self._ends) - 1
