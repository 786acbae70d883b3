"""Plans are carried out together, and workers share the threads of torch."""

from concurrent.futures import Future, ProcessPoolExecutor

import pytest
import torch

from cascaderank.experiments.execution import local
from cascaderank.experiments.execution.plans import carry_out
from cascaderank.progress import Silent


def test_results_have_the_order_of_the_plans():
    """The first plan has two rounds, so the second plan ends before it."""

    def plan(rounds):
        for number in range(rounds):
            outcomes = yield [number]
            assert outcomes == [(number,)]
        return rounds

    def start(name, trial):
        future = Future()
        future.set_result((trial,))
        return future

    completed = []
    results = carry_out(
        {"long": plan(2), "short": plan(1)}, start, lambda name, *_: completed.append(name)
    )
    assert completed == ["long", "short", "long"]
    assert list(results.items()) == [("long", 2), ("short", 1)]


@pytest.mark.parametrize(("threads", "jobs", "each"), [(8, 2, 4), (8, 3, 2), (1, 2, 1)])
def test_workers_share_the_threads_of_torch(monkeypatch, threads, jobs, each):
    started = []

    def pool(workers, *, initargs, **_):
        started.append((workers, initargs[1]))
        return ProcessPoolExecutor(1)  # starts no process without a job

    monkeypatch.setattr(local, "ProcessPoolExecutor", pool)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    with local.runner(jobs, Silent()):
        pass
    assert started == [(jobs, each)]
