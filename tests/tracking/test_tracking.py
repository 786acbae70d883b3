"""Trackers receive the losses and metrics of a run, once per step, and cannot end its training."""

import json
import sys
import types
import warnings
from typing import ClassVar

import numpy as np
import pytest

from cascaderank.errors import ConfigError, MissingExtraError
from cascaderank.tracking import TRACKERS
from cascaderank.training.run_tracking import EVERY, RunTracking
from cascaderank.training.train_run import train_run
from tests.training.test_resume import StopAfter, StoppedError, bits_of


class Recorder:
    """Tracker that keeps what it receives, also over several processes."""

    runs: ClassVar[dict[str, dict]] = {}

    def __init__(self, folder, *, name):
        self.received = self.runs.setdefault(
            name, {"begun": [], "scalars": [], "texts": [], "embeddings": [], "closed": 0}
        )

    def begin(self, step):
        self.received["begun"].append(step)

    def scalars(self, step, values):
        assert all(np.isfinite(value) for value in values.values())
        self.received["scalars"].append((step, dict(values)))

    def text(self, name, text):
        self.received["texts"].append(name)

    def embeddings(self, step, name, vectors, labels):
        assert vectors.shape[0] == len(labels)
        self.received["embeddings"].append(name)

    def close(self):
        self.received["closed"] += 1


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setitem(TRACKERS._entries, "recorder", Recorder)
    monkeypatch.setattr(Recorder, "runs", {})
    return Recorder


def test_terms_metrics_and_norms_are_recorded(funnel, settings_for, tmp_path, recorder):
    settings = settings_for(funnel, train__batch_size=8)
    train_run(settings.changed({"train.track": ["recorder"]}), tmp_path / "run")
    got = recorder.runs["run"]
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    by_step = {}
    for step, values in got["scalars"]:
        assert not by_step.setdefault(step, {}).keys() & values.keys()
        by_step[step].update(values)
    for line in lines:
        of_epoch = by_step[line["step"]]
        for group in ("train", "weights", "validation"):
            for name, value in line[group].items():
                assert of_epoch[f"{group}/{name}"] == value
    last = lines[-1]["step"]
    assert by_step[last]["test/joint_recall"] == report["test"]["metrics"]["joint_recall"]["mean"]
    inner = [step for step, values in by_step.items() if "step/loss" in values]
    assert inner == list(range(EVERY, last + 1, EVERY))
    for step in inner:
        norms = [by_step[step][f"gradient_norm/{stage}"] for stage in settings.stages]
        assert min(norms) > 0
    assert (got["begun"], got["texts"], got["closed"]) == ([0], ["train"], 1)
    assert {"retrieval.item_id", "ranking.user_id"} <= set(got["embeddings"])


def test_tracking_changes_no_bit_of_a_run(funnel, settings_for, tmp_path, recorder):
    settings = settings_for(funnel)
    for name, track in (("plain", None), ("tracked", ["recorder"])):
        of_run = settings if track is None else settings.changed({"train.track": track})
        train_run(of_run, tmp_path / name)
    assert bits_of(tmp_path / "plain") == bits_of(tmp_path / "tracked")
    assert "track" not in (tmp_path / "plain" / "config.toml").read_text()


def test_without_trackers_no_norm_is_computed(funnel, settings_for, tmp_path, monkeypatch):
    def fail(*_):
        raise AssertionError("computed")

    monkeypatch.setattr("cascaderank.training.run_tracking.gradient_norms", fail)
    train_run(settings_for(funnel), tmp_path / "run")
    assert not (tmp_path / "run" / "tracking").exists()


@pytest.mark.parametrize("method", ["begin", "scalars", "text", "embeddings", "close"])
def test_a_tracker_that_fails_is_left_out(
    method, funnel, settings_for, tmp_path, recorder, monkeypatch
):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder, method, fail)
    settings = settings_for(funnel, train__track=["recorder"])
    with pytest.warns(UserWarning, match="tracking by recorder ended: .*No space left") as caught:
        train_run(settings, tmp_path / "run")
    assert len(caught) == 1
    assert (tmp_path / "run" / "report.json").exists()


def test_unknown_trackers_are_refused(funnel, settings_for):
    with pytest.raises(ConfigError, match=r"no tracker called 'tensorbord' \(did you mean 'ten"):
        settings_for(funnel, train__track=["tensorbord"])
    with pytest.raises(ConfigError, match="must not repeat"):
        settings_for(funnel, train__track=["wandb", "wandb"])


@pytest.mark.parametrize(
    ("name", "module"),
    [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow.tracking")],
)
def test_a_missing_library_is_reported_before_training(
    name, module, funnel, settings_for, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'cascaderank\[{name}\]'"):
        train_run(settings_for(funnel, train__track=[name]), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


class FakeWandb(types.ModuleType):
    """As the library: one run per id; steps that are already logged are ignored."""

    def __init__(self):
        super().__init__("wandb")
        self.runs = {}

    def init(self, *, project, dir, id, name, resume):  # noqa: A002
        assert (project, resume) == ("cascaderank", "allow")
        run = self.runs.setdefault(id, types.SimpleNamespace(step=0, history={}, finished=0))
        run.step = max(run.history, default=-1) + 1

        def log(values, *, step):
            if step >= max(run.history, default=0):
                run.history.setdefault(step, {}).update(values)

        def finish():
            run.finished += 1

        run.log, run.finish = log, finish
        run.config = types.SimpleNamespace(update=lambda values, *, allow_val_change: None)
        return run


class FakeMlflow(types.ModuleType):
    """As the client: each call adds a point to the history of a metric."""

    def __init__(self):
        super().__init__("mlflow.tracking")
        self.histories, self.texts, self.runs, self.ended = {}, [], [], []

    def MlflowClient(self):  # noqa: N802
        return self

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        assert name == "cascaderank"
        return "7"

    def create_run(self, experiment, *, tags):
        assert (experiment, tags) == ("7", {"mlflow.runName": "run"})
        self.runs.append(f"id{len(self.runs)}")
        return self.get_run(self.runs[-1])

    def get_run(self, run_id):
        assert run_id in self.runs
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id))

    def log_metric(self, run_id, key, value, *, step):
        entry = types.SimpleNamespace(step=step, value=value)
        self.histories.setdefault((run_id, key), []).append(entry)

    def get_metric_history(self, run_id, key):
        return self.histories.get((run_id, key), [])

    def log_text(self, run_id, text, artifact_file):
        self.texts.append(artifact_file)

    def set_terminated(self, run_id):
        self.ended.append(run_id)


def tensorboard_points(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tracking" / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, round(e.value, 6)) for e in events.Scalars(tag)] for tag in tags}


def wandb_points(library):
    (run,) = library.runs.values()
    assert run.finished >= 1
    points = {}
    for step, values in sorted(run.history.items()):
        for name, value in values.items():
            points.setdefault(name, []).append((step, round(value, 6)))
    return points


def mlflow_points(library):
    assert len(library.runs) == 1
    assert library.texts == ["train.txt"]
    return {
        key: [(e.step, round(e.value, 6)) for e in entries]
        for (_, key), entries in library.histories.items()
    }


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_resumed_run_continues_without_doubled_steps(
    name, funnel, settings_for, tmp_path, monkeypatch
):
    if name == "tensorboard":
        pytest.importorskip("tensorboard")
    library = {"wandb": FakeWandb(), "mlflow": FakeMlflow()}.get(name)
    module = {"wandb": "wandb", "mlflow": "mlflow.tracking"}.get(name)

    def points(folder):
        return {
            "tensorboard": lambda: tensorboard_points(folder),
            "wandb": lambda: wandb_points(library),
            "mlflow": lambda: mlflow_points(library),
        }[name]()

    # A checkpoint every 16 steps: what is written after it is computed again.
    options = {"batch_size": 8, "checkpoint_every": 16, "epochs": 2, "track": [name]}
    settings = settings_for(funnel, **{f"train__{k}": v for k, v in options.items()})
    found = []
    for stops in ((), (23, 20)):
        if library is not None:
            library = type(library)()
            monkeypatch.setitem(sys.modules, module, library)
        folder = tmp_path / ("stopped" if stops else "whole") / "run"
        for stop in stops:
            with pytest.raises(StoppedError):
                train_run(settings, folder, progress=StopAfter(stop))
        train_run(settings, folder)
        found.append(points(folder))
    whole, stopped = found
    assert whole == stopped
    assert {"step/loss", "gradient_norm/ranking", "train/loss", "test/joint_recall"} <= set(whole)
    steps = [step for step, _ in whole["step/loss"]]
    assert steps == sorted(set(steps)) == list(range(EVERY, steps[-1] + 1, EVERY))


def test_real_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    record(tmp_path, "wandb")
    files = [p for p in (tmp_path / "wandb").rglob("*.wandb") if not p.is_symlink()]
    assert files


def test_real_mlflow_files(tmp_path, monkeypatch):
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    record(tmp_path, "mlflow")
    record(tmp_path, "mlflow", done=2)
    client = tracking.MlflowClient()
    run = client.get_run((tmp_path / "mlflow-id.txt").read_text())
    assert run.data.tags["mlflow.runName"] == "shop"
    history = client.get_metric_history(run.info.run_id, "test/ndcg_10")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.5), (3, 0.5)]


def record(folder, name, *, done=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        with RunTracking([name], folder, name="shop") as tracking:
            tracking.begin(done, {"train": "epochs = 3"})
            for step in range(max(done, 1), 4 if done else 3):
                tracking._scalars(step, {"train/loss": 1 / step, "test/ndcg@10": 0.5})
            assert tracking._trackers, "no tracker failed"
