"""Run the trials of several tuning plans concurrently, until each plan has made its choice."""

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait

from cascaderank.experiments.tuning import Outcome, Plan, Trial, Tuned


def carry_out(
    plans: Mapping[str, Plan],
    start: Callable[[str, Trial], "Future[Outcome]"],
    on_outcome: Callable[[str, Trial, Outcome], None],
) -> dict[str, Tuned]:
    """Run the trials that the plans yield until all plans have finished.

    A plan is a generator: it yields trials, receives their outcomes in the same order, and returns
    its choice.

    Args:
        plans: plans by name.
        start: function that starts a trial, given the name of its plan and the trial.
        on_outcome: function that receives the name of the plan, the trial and its outcome when a
            trial ends.

    Returns:
        Results of the plans by name, in the order of ``plans``.
    """
    results: dict[str, Tuned] = {}
    pending: dict[str, list[Future[Outcome]]] = {}
    running: dict[Future[Outcome], tuple[str, Trial]] = {}

    def resume(name: str, outcomes: list[Outcome] | None) -> None:
        try:
            trials = next(plans[name]) if outcomes is None else plans[name].send(outcomes)
        except StopIteration as choice:
            results[name] = choice.value
            return
        pending[name] = []
        for trial in trials:
            future = start(name, trial)
            pending[name].append(future)
            if future.done():
                on_outcome(name, trial, future.result())
            else:
                running[future] = name, trial

    for name in plans:
        resume(name, None)
    while pending:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            on_outcome(*running.pop(future), future.result())
        for name in [n for n, futures in pending.items() if not running.keys() & set(futures)]:
            resume(name, [future.result() for future in pending.pop(name)])
    return {name: results[name] for name in plans}
