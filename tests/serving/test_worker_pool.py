"""A full queue refuses at once, and a job that ends makes room."""

import threading

import pytest

from cascaderank.serving.worker_pool import QueueFullError, WorkerPool


def test_what_does_not_fit_is_refused_until_a_job_ends():
    pool, gate = WorkerPool(2, queue=1, name="test"), threading.Event()
    running = [pool.submit(gate.wait) for _ in range(3)]
    with pytest.raises(QueueFullError) as refused:
        pool.submit(gate.wait)
    assert refused.value.retry_after >= 1
    assert pool.jobs == 3
    gate.set()
    assert all(future.result(5) for future in running)
    assert pool.submit(lambda: 7).result(5) == 7
    pool.close()
    assert pool.jobs == 0


def test_errors_reach_the_caller_and_free_the_place():
    pool = WorkerPool(1, queue=0, name="test")
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result(5)
    pool.close()
    assert pool.jobs == 0


def test_a_cancelled_job_frees_its_place():
    pool, gate = WorkerPool(1, queue=1, name="test"), threading.Event()
    pool.submit(gate.wait)
    waiting = pool.submit(lambda: 1)
    assert waiting.cancel()
    assert pool.jobs == 1
    gate.set()
    pool.close()
    assert pool.jobs == 0
