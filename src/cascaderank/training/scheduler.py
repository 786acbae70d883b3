"""A schedule at work: who stands still, which terms count, and whom a stage learns from."""

from typing import final

from torch import Tensor

from cascaderank.cascade import Cascade
from cascaderank.objectives import Objective
from cascaderank.settings.schedule import Plan, Schedule, Timetable


@final
class Scheduler:
    """Go through the phases of a schedule by the number of steps that are done.

    A stage that does not learn stands still: no gradient is worked out for it, the optimizer
    leaves it alone (momentum and weight decay too), and it scores as it would serve, without
    dropout. So does a stage that no counted term would teach.

    Args:
        schedule: of the run.
        cascade: whose stages learn in turn.
        objective: whose terms count in turn.
        epochs: the length of a phase that has none, and of all if phases repeat.
        batches: in an epoch.

    Raises:
        ConfigError: if a phase speaks of what there is not, or leaves nothing to learn.
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
        self._now: Plan | None = None
        # What a stage keeps fixed by itself is not set free by a phase.
        self._free = {
            name: [p for p in stage.parameters() if p.requires_grad]
            for name, stage in cascade.stages.items()
        }

    def enter(self, step: int) -> Plan:
        """Set stages free or still for a step, and return what holds."""
        plan = self._plans[self.timetable.phase_at(step)]
        if plan is not self._now:
            self._now = plan
            self._set_free(plan.stages)
        return plan

    def depth(self, step: int) -> int:
        """How many stages, from the first, are worth judging: to the last one that has learned."""
        names = self._cascade.stage_names
        if self.timetable.cycle:
            return len(names)
        begun = self._plans[: self.timetable.phase_at(step) + 1]
        return max(names.index(name) for plan in begun for name in plan.stages) + 1

    def leave(self) -> None:
        """Set all stages free again."""
        self._now = None
        self._set_free(frozenset(self._free))

    def _set_free(self, learning: frozenset[str]) -> None:
        for name, stage in self._cascade.stages.items():
            stage.train(name in learning)
            for parameter in self._free[name]:
                parameter.requires_grad_(name in learning)
        # What stages share learns as soon as one of them does.
        for name in learning:
            for parameter in self._free[name]:
                parameter.requires_grad = True


def reached(cascade: Cascade, scores: Tensor, mask: Tensor) -> Tensor:
    """Mark who gets to each stage by the present scores, ``[stages, batch, list]`` bool."""
    alive = cascade.select(scores.detach(), mask).roll(1, 0)
    alive[0] = mask
    return alive
