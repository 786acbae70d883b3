"""An interrupted run resumes, and its result is bitwise identical to an uninterrupted one."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from cascaderank.data.sources import SOURCES
from cascaderank.errors import ConfigError, RunError
from cascaderank.runs.load import load_run
from cascaderank.settings.run import read_settings
from cascaderank.training.train_run import train_run


class StoppedError(Exception):
    """Simulates the end of a process between two steps."""


class StopAfter:
    """Progress reporter that raises after a number of training steps."""

    def __init__(self, steps):
        self.steps = steps
        self.training = False

    def start(self, what, total):
        self.training = what.startswith("epoch")

    def advance(self, steps=1, note=""):
        if self.training and steps == 1:
            self.steps -= 1
            if self.steps == 0:
                raise StoppedError

    def stop(self, note=""):
        pass


def bits_of(folder):
    report = json.loads((folder / "report.json").read_text())
    del report["training"]["seconds"], report["training"]["peak_memory_bytes"]
    return {
        "weights": (folder / "weights.safetensors").read_bytes(),
        "metrics": (folder / "metrics.jsonl").read_bytes(),
        "per_request": (folder / "per_request.parquet").read_bytes(),
        "report": report,
    }


def test_stopping_after_any_step_changes_no_bit(funnel, settings_for, tmp_path):
    settings = settings_for(funnel)
    train_run(settings, tmp_path / "whole")
    whole = bits_of(tmp_path / "whole")
    steps = [json.loads(line)["step"] for line in whole["metrics"].splitlines()]
    assert len(steps) == 3, "the test needs several epochs"
    for stop in range(1, steps[-1] + 1, 2):
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(StoppedError):
            train_run(settings, folder, progress=StopAfter(stop))
        assert not (folder / "report.json").exists()
        train_run(settings, folder)
        assert bits_of(folder) == whole, f"differs when stopped after step {stop}"


def test_resuming_is_bitwise_identical_with_any_loader_options(funnel, settings_for, tmp_path):
    options = {"order": "days", "bucketing": True, "prefetch": 2, "epochs": 2}
    settings = settings_for(funnel, **{f"train__{name}": v for name, v in options.items()})
    train_run(settings, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(settings, tmp_path / "stopped", progress=StopAfter(8))
    assert not [t for t in threading.enumerate() if t.name.startswith("cascaderank-prefetch")]
    train_run(settings, tmp_path / "stopped")
    assert bits_of(tmp_path / "stopped") == bits_of(tmp_path / "whole")


@pytest.mark.parametrize("choice", ["sparse_adam", "row_wise_adagrad"])
def test_resuming_is_bitwise_identical_with_lazy_optimizers(funnel, settings_for, tmp_path, choice):
    settings = settings_for(funnel, train__embedding_optimizer=choice, train__epochs=1)
    train_run(settings, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(settings, tmp_path / "stopped", progress=StopAfter(4))
    train_run(settings, tmp_path / "stopped")
    assert bits_of(tmp_path / "stopped") == bits_of(tmp_path / "whole")


def test_resuming_is_bitwise_identical_with_a_prior_and_a_linear_layer(
    funnel, settings_for, tmp_path
):
    settings = settings_for(
        funnel,
        stages__retrieval={"model": "linear", "quota": 30, "prior": "price"},
        stages__ranking={"model": "mlp", "quota": 20, "linear_skip": True, "prior": "quality"},
        train__epochs=1,
    )
    train_run(settings, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(settings, tmp_path / "stopped", progress=StopAfter(4))
    train_run(settings, tmp_path / "stopped")
    assert bits_of(tmp_path / "stopped") == bits_of(tmp_path / "whole")
    stages = load_run(tmp_path / "stopped").cascade.stages
    weights = [stages["retrieval"].prior.weight, stages["ranking"].prior.weight]
    assert all(0 < abs(weight - 1) < 0.5 for weight in weights), "trained, from 1"


def test_a_prior_that_a_stage_does_not_read_is_refused_before_training(
    funnel, settings_for, tmp_path
):
    stage = {"model": "mlp", "quota": 20, "prior": "price", "features": ["*", "!price"]}
    settings = settings_for(funnel, stages__ranking=stage)
    with pytest.raises(
        ConfigError, match=r"ranking.*: prior must be .* got 'price'; available: quality"
    ):
        train_run(settings, tmp_path / "run")


PHASES = {
    "phases": [
        {"stages": ["retrieval"], "terms": ["top_k/*"], "candidates": "survivors", "steps": 7},
        {"candidates": "survivors", "epochs": 1},
    ]
}


@pytest.mark.parametrize(
    "schedule",
    [PHASES, {**PHASES, "repeat": True}],
    ids=["phases", "repeated"],
)
def test_resuming_is_bitwise_identical_in_any_phase(funnel, settings_for, tmp_path, schedule):
    annealed = {"start": 100.0, "end": 20.0}
    changes = {"train__schedule": schedule, "objective__temperature": annealed}
    settings = settings_for(funnel, **changes, train__epochs=2)
    train_run(settings, tmp_path / "whole")
    whole = bits_of(tmp_path / "whole")
    for stop in (5, 6, 7, 8):  # around the first change of phase; an epoch has 6 steps
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(StoppedError):
            train_run(settings, folder, progress=StopAfter(stop))
        train_run(settings, folder)
        assert bits_of(folder) == whole, f"differs when stopped after step {stop}"


def test_another_seed_has_other_weights(funnel, settings_for, tmp_path):
    train_run(settings_for(funnel), tmp_path / "a")
    train_run(settings_for(funnel, train__seed=1), tmp_path / "b")
    assert bits_of(tmp_path / "a")["weights"] != bits_of(tmp_path / "b")["weights"]


def test_resuming_after_sigkill_is_bitwise_identical(funnel, settings_for, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(settings_for(funnel, train__epochs=12, train__patience=12).to_toml())

    def start(folder):
        return subprocess.Popen(
            [sys.executable, "-m", "cascaderank.cli", "train", str(config), "--run", str(folder)],
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def lines(folder):
        metrics = folder / "metrics.jsonl"
        return metrics.read_bytes().count(b"\n") if metrics.exists() else 0

    def finished(process):
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()

    train_run(read_settings(config), tmp_path / "whole")
    killed = tmp_path / "killed"
    process = start(killed)
    try:
        while lines(killed) < 3 and process.poll() is None:
            time.sleep(0.002)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL, "the process must have been killed before its end"
    assert not (killed / "report.json").exists()
    finished(start(killed))
    assert bits_of(killed) == bits_of(tmp_path / "whole")


def test_a_complete_run_is_not_run_again(funnel, settings_for, tmp_path):
    first = train_run(settings_for(funnel), tmp_path / "run")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()}
    again = train_run(settings_for(funnel), tmp_path / "run")
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()}
    assert {k: v for k, v in before.items() if k != ".lock"} == {
        k: v for k, v in after.items() if k != ".lock"
    }
    assert again.test.to_json() == first.test.to_json()
    assert again.seconds == pytest.approx(first.seconds, abs=1e-3)
    assert again.peak_memory == first.peak_memory


def test_other_settings_do_not_touch_a_run(funnel, settings_for, tmp_path):
    train_run(settings_for(funnel), tmp_path / "run")
    before = bits_of(tmp_path / "run")
    with pytest.raises(RunError, match=r"other settings \(train\.seed: 0, not 1\)"):
        train_run(settings_for(funnel, train__seed=1), tmp_path / "run")
    assert bits_of(tmp_path / "run") == before


@pytest.mark.parametrize("steps", [5, 10**6], ids=["killed", "complete"])
def test_a_run_is_not_finished_on_other_data(settings_for, tmp_path, steps):
    log, folder = tmp_path / "log", tmp_path / "run"
    make = SOURCES["synthetic"]
    make(None, log, requests=100, seed=1)
    if steps == 5:
        with pytest.raises(StoppedError):
            train_run(settings_for(log), folder, progress=StopAfter(steps))
    else:
        train_run(settings_for(log), folder)
    make(None, log, requests=100, seed=2, overwrite=True)
    with pytest.raises(RunError, match="was trained on another data set than"):
        train_run(settings_for(log), folder)


def test_a_damaged_checkpoint_is_reported_and_kept(funnel, settings_for, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(StoppedError):
        train_run(settings_for(funnel), folder, progress=StopAfter(5))
    (folder / "checkpoint-previous.pt").unlink()
    (folder / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(RunError, match=r"checkpoint\.pt: cannot resume .* remove the file"):
        train_run(settings_for(funnel), folder)
    assert (folder / "checkpoint.pt").read_bytes() == b"not a checkpoint"


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_the_previous_checkpoint_is_used_if_the_last_is_damaged(
    funnel, settings_for, tmp_path, damage
):
    settings, folder = settings_for(funnel), tmp_path / "run"
    train_run(settings, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(settings, folder, progress=StopAfter(11))
    last = folder / "checkpoint.pt"
    content = last.read_bytes()
    if damage == "missing":  # killed between two renames
        last.unlink()
        train_run(settings, folder)
    else:
        last.write_bytes(content[:-500] + bytes([content[-500] ^ 1]) + content[-499:])
        with pytest.warns(UserWarning, match=r"checksum does not match.*checkpoint-previous\.pt"):
            train_run(settings, folder)
    assert bits_of(folder) == bits_of(tmp_path / "whole")
    assert not list(folder.glob("checkpoint*"))
