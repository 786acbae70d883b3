"""Apply a schedule to a cascade: trained and frozen stages, active terms, and candidates."""

from typing import final

from torch import Tensor

from cascaderank.cascade import Cascade
from cascaderank.objectives import Objective
from cascaderank.settings.schedule import Plan, Schedule, Timetable


@final
class Scheduler:
    """Freeze and unfreeze the stages of a cascade as the phases of a schedule require.

    A frozen stage has no gradient, its parameters are not updated by the optimizer (neither by
    momentum nor by weight decay), and it is in evaluation mode, so that it scores as in serving,
    without dropout. A stage is frozen in phases that do not train it, and in phases without an
    active term that depends on it.

    Args:
        schedule: schedule of the run.
        cascade: cascade whose stages are trained.
        objective: objective whose terms the phases select.
        epochs: length of a phase without a length; total length if phases repeat.
        batches: number of batches per epoch.

    Raises:
        ConfigError: if a phase names an unknown stage, a pattern matches no term, or the terms of
            a phase train none of its stages.
    """

    def __init__(
        self,
        schedule: Schedule,
        cascade: Cascade,
        objective: Objective,
        *,
        epochs: int,
        batches: int,
    ) -> None:
        self._plans = schedule.plans(cascade.stage_names, objective.terms)
        self.timetable = Timetable(
            [plan.phase for plan in self._plans],
            repeats=schedule.repeats,
            epochs=epochs,
            batches=batches,
        )
        self._cascade = cascade
        self._current: Plan | None = None
        # Parameters that a stage keeps fixed by itself are never unfrozen.
        self._trainable = {
            name: [p for p in stage.parameters() if p.requires_grad]
            for name, stage in cascade.stages.items()
        }

    def enter(self, step: int) -> Plan:
        """Freeze and unfreeze stages for a step, and return the plan of its phase.

        Args:
            step: number of completed training steps.
        """
        plan = self._plans[self.timetable.phase_at(step)]
        if plan is not self._current:
            self._current = plan
            self._unfreeze(plan.stages)
        return plan

    def depth(self, step: int) -> int:
        """Return the number of stages, from the first, to validate at a step.

        The last of them is the last stage that any phase so far has trained; all stages if phases
        repeat.
        """
        names = self._cascade.stage_names
        if self.timetable.cycle:
            return len(names)
        plans_so_far = self._plans[: self.timetable.phase_at(step) + 1]
        return max(names.index(name) for plan in plans_so_far for name in plan.stages) + 1

    def leave(self) -> None:
        """Unfreeze all stages."""
        self._current = None
        self._unfreeze(frozenset(self._trainable))

    def _unfreeze(self, trained: frozenset[str]) -> None:
        """Unfreeze the named stages and freeze all others."""
        for name, stage in self._cascade.stages.items():
            stage.train(name in trained)
            for parameter in self._trainable[name]:
                parameter.requires_grad_(name in trained)
        # A shared parameter is trained if any of its stages is.
        for name in trained:
            for parameter in self._trainable[name]:
                parameter.requires_grad = True


def reached(cascade: Cascade, scores: Tensor, mask: Tensor) -> Tensor:
    """Return which candidates reach each stage, those that all earlier stages keep.

    Args:
        cascade: cascade, for its quotas.
        scores: current scores, ``[stages, batch, list]``.
        mask: true for candidates, false for padding, ``[batch, list]``.

    Returns:
        Boolean tensor ``[stages, batch, list]``; all candidates reach the first stage.
    """
    alive = cascade.select(scores.detach(), mask).roll(1, 0)
    alive[0] = mask
    return alive
