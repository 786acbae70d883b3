"""Jobs: equal results for any number of processes, and termination of the workers.

Tests that wait for a process have no deadline of their own, since a busy machine may be slow: they
wait as long as the process lives, and the limit of pytest ends a test that waits in vain.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cascaderank.data.encoding.column_files import mapping_of
from cascaderank.errors import DivergedError, RunError
from cascaderank.experiments.compare import compare
from cascaderank.experiments.execution.job import Job
from cascaderank.experiments.execution.local import runner
from cascaderank.progress import Silent
from cascaderank.runs.data import run_data
from cascaderank.runs.sharing import open_shared, share

PLAN = {
    "objectives": ["bce", "lcron"],
    "seeds": 2,
    "baselines": ["random"],
    "grid": {"bce": {"train.learning_rate": [0.003, 0.01]}},
    "tuning": {"extend": 1},
}


@pytest.fixture
def small(funnel, settings_for):
    return settings_for(funnel, train__epochs=2, compare=PLAN)


@pytest.fixture(autouse=True)
def one_thread():
    """Fix the number of threads, which affects the rounding of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def found_in(folder):
    """All results and files of a comparison, without costs."""
    found = json.loads((folder / "comparison.json").read_text())
    for method in found["methods"]:
        for cost in [k for k in method if "second" in k or "memory" in k]:
            del method[cost]
        for fold in method["tuning"]:
            for tried in fold["tried"]:
                tried.pop("seconds")
    runs = sorted(folder.rglob("weights.safetensors"))
    return found, {p.relative_to(folder): p.read_bytes() for p in runs}


@pytest.mark.slow
def test_two_jobs_have_the_results_of_one(small, undisturbed, tmp_path):
    compare(small, undisturbed)
    compare(small, tmp_path / "two", jobs=2)
    assert found_in(tmp_path / "two") == found_in(undisturbed)
    threads = json.loads(next((tmp_path / "two/lcron").rglob("environment.json")).read_text())
    assert threads["threads"] == 1


def test_one_job_runs_in_this_process(small, tmp_path, monkeypatch):
    monkeypatch.setattr("multiprocessing.get_context", None)
    compare(small.changed({"compare.objectives": ["bce"], "compare.grid": {}}), tmp_path)


def test_columns_are_mapped_and_not_copied(small, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a[1]*"))  # a path, and no pattern
    (tmp_path / "a[1]*").mkdir()
    with run_data(small) as data:
        path = share(data)
        columns = sum(p.stat().st_size for p in data.folder.glob("column-*"))
        assert path.stat().st_size < columns / 2
        there = open_shared(path)
        for name, values in data.encoded.items.items():
            mapped = there.encoded.items[name]
            assert mapping_of(mapped) is not None
            np.testing.assert_array_equal(mapped, values)
        np.testing.assert_array_equal(there.encoded.labels, data.encoded.labels)
        np.testing.assert_array_equal(there.split.test, data.split.test)
        assert there.encoded.request_ids.equals(data.encoded.request_ids)
        assert there.schema == data.schema
        assert there.log.fingerprint == data.log.fingerprint
        assert (there.item, there.batch_size) == (data.item, data.batch_size)
        rows = np.concatenate([data.split.train, data.split.test])
        for batch, other in zip(
            data.loader(rows).epoch(0), there.loader(rows).epoch(0), strict=True
        ):
            for name, value in vars(batch).items():
                torch.testing.assert_close(
                    getattr(other, name), value, rtol=0, atol=0, equal_nan=True
                )
        assert share(data) == path, "written once"
    assert not path.exists()


def test_what_is_shared_holds_no_program(small):
    with run_data(small) as data:
        content = json.loads(share(data).read_text())
    assert {"log", "schema", "split", "encoded"} <= content.keys()


BROKEN = {"train.learning_rate": 1.0, "train.weight_decay": 1e30}  # weights overflow


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_diverged_trial_does_not_end_the_comparison(small, tmp_path, jobs):
    rates = small.changed(
        {
            "compare.grid": {"bce": {"train.weight_decay": [0.0, 1e30, 1e31]}},
            "compare.objectives": ["bce"],
        }
    )
    found = compare(rates, tmp_path, jobs=jobs).methods[-1]
    (fold,) = found.tuning
    assert fold["chosen"] == {"train.weight_decay": 0.0}
    assert [t["validation"] is None for t in fold["tried"]] == [False, True, True]
    assert "the loss is not finite at step" in fold["tried"][1]["failed"]


def test_divergence_at_every_point_is_an_error(small, tmp_path):
    broken = {"compare.variants": {"bce": BROKEN}, "compare.objectives": ["bce"]}
    with pytest.raises(DivergedError, match=r"bce: .*the loss is not finite at step"):
        compare(small.changed({**broken, "compare.grid": {}}), tmp_path)


def test_a_killed_process_is_reported(small, tmp_path):
    long = small.changed({"train.epochs": 10_000, "train.patience": 10_000})
    with (
        run_data(small) as data,
        pytest.raises(RunError, match="a worker process ended before its run"),
    ):
        _kill_what_runs(data, Job(settings=long, folder=tmp_path / "long", may_fail=False))


def _kill_what_runs(data, job):
    with runner(2, Silent()) as start:
        running = start(job, data)
        while not (job.folder / "checkpoint.pt").exists():
            assert not running.done()
            time.sleep(0.01)
        for child in multiprocessing.active_children():
            child.kill()
        running.result()


@pytest.fixture(scope="module")
def undisturbed(funnel, tmp_path_factory):
    """Folder of an uninterrupted comparison."""
    return tmp_path_factory.mktemp("comparison")


@pytest.mark.parametrize(
    "whole_group",
    [pytest.param(True, id="group", marks=pytest.mark.slow), pytest.param(False, id="parent")],
)
def test_a_killed_comparison_resumes(small, undisturbed, tmp_path, whole_group):
    config = tmp_path / "config.toml"
    config.write_text(small.to_toml() + _compare_toml())
    folder = tmp_path / "killed"
    words = [sys.executable, "-m", "cascaderank.cli", "compare", str(config), "--jobs", "2"]

    process = subprocess.Popen(
        [*words, "--run", str(folder)],
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    workers = []
    try:
        while not list(folder.rglob("report.json")):
            assert process.poll() is None
            time.sleep(0.002)
        workers = _children(process.pid)
    finally:
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    # No worker survives, so the locks of its runs are free for the next command.
    while any(_lives(worker) for worker in workers):
        time.sleep(0.01)
    process.communicate()
    assert len(workers) >= 2, "the test needs at least two workers"
    assert not (folder / "comparison.json").exists(), (
        "the comparison must have been killed before its end"
    )
    compare(small, folder, jobs=2 if whole_group else 1)
    compare(small, undisturbed)
    assert found_in(folder) == found_in(undisturbed)


def _compare_toml():
    import tomli_w

    return "\n" + tomli_w.dumps({"compare": PLAN})


def _children(process):
    tasks = Path(f"/proc/{process}/task")
    if not tasks.exists():
        pytest.skip("the test reads /proc, which only Linux has")
    return [
        int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()
    ]


def _lives(process):
    """Whether any thread of the process is alive; its locks are held until the last has ended."""
    try:
        states = [p.read_text() for p in Path(f"/proc/{process}/task").glob("*/stat")]
    except OSError:
        return Path(f"/proc/{process}").exists()
    return any(state.rpartition(")")[2].split()[0] not in "ZX" for state in states)
