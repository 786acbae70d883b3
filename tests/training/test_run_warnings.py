"""Runs warn about settings that do not fit the data, and about training that did not succeed."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from torch import nn

from cascaderank.cascade import Cascade
from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.errors import DataError
from cascaderank.experiments.compare import compare
from cascaderank.runs.data import RunData, run_data
from cascaderank.schema import Schema
from cascaderank.settings.run import check_settings
from cascaderank.training.checkpoint import TrainState
from cascaderank.training.length import TrainingLength
from cascaderank.training.run_result import read_result
from cascaderank.training.run_warnings import (
    _no_better_than_a_feature,
    _short_training,
    _uninformative_scores,
    data_warnings,
)
from cascaderank.training.train_run import train_run

SCHEMA = Schema(features=({"name": "x", "role": "item", "kind": "numeric"},))
LENGTH = TrainingLength(epochs=5, patience=3)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Write a log of lists of equal candidates, labels and levels: for each, the same number."""

    def write(labels, *, x=None, levels=None, requests=40):
        path = tmp_path_factory.mktemp("logs") / "log"
        frame = {
            "request_id": list(range(requests)),
            "x": [x or [float(i) for i in range(len(labels))]] * requests,
            "label": [labels] * requests,
        }
        if levels:
            frame["level"] = [levels] * requests
        names = [f"l{i}" for i in range(max(levels) + 1)] if levels else ()
        with RequestLogWriter(path, name="log", schema=SCHEMA, level_names=names) as writer:
            writer.write(pl.DataFrame(frame))
        return path

    return write


@pytest.fixture
def weighted_log(tmp_path):
    """Write a log of 40 equal lists of 5 candidates, with columns by functions of the row."""

    def write(**columns):
        path = tmp_path / f"log{len(list(tmp_path.iterdir()))}"
        frame = {
            "request_id": list(range(40)),
            "x": [[float(i) for i in range(5)]] * 40,
            "label": [[1.0, 0.0, 0.0, 1.0, 0.0]] * 40,
            **{name: [of(i) for i in range(40)] for name, of in columns.items()},
        }
        with RequestLogWriter(path, name="log", schema=SCHEMA) as writer:
            writer.write(pl.DataFrame(frame))
        return path

    return write


def settings_of(path, **changes):
    return check_settings(
        {
            "data": {"path": str(path), "target": "label"},
            "relevance": {"threshold": 1},
            "stages": {"first": {"model": "linear", "quota": 3}},
            "objective": {"name": "bce"},
        }
    ).changed({name.replace("__", "."): value for name, value in changes.items()})


def warnings_of(settings):
    with run_data(settings) as data:
        return data_warnings(settings, data)


def test_sensible_settings_have_no_warnings(log):
    assert warnings_of(settings_of(log([1.0, 0.0, 0.0, 1.0, 0.0]))) == ()


@pytest.mark.parametrize(
    ("labels", "changes", "message"),
    [
        ([2.0, 0, 0], {"stages__first__quota": 2}, None),
        ([2.0, 1, 0], {"relevance": {"top": 2}, "stages__first__quota": 2}, None),
        ([2.0, 0, 0, 0], {"relevance": {"top": 2}}, "32 of 32 training lists have fewer than 2 .*"
         "leaves 32 places empty"),
        ([3.0, 1, 1, 1], {"relevance": {"top": 2}}, "the lowest label, 1, are ground truth in 32"),
        ([2.0, 0, 0, 0], {"relevance": {"top": 2, "include_zero": True}}, None),
    ],
)  # fmt: skip
def test_the_ground_truth_is_checked(log, labels, changes, message):
    found = warnings_of(settings_of(log(labels), **changes))
    assert len(found) == (message is not None)
    if message:
        assert re.search(message, found[0])


def test_lists_that_no_stage_cuts_are_counted(tmp_path):
    lists = [[1.0, 0.0]] * 30 + [[1.0, 0.0, 0.0, 0.0, 0.0]] * 10
    with RequestLogWriter(tmp_path / "log", name="log", schema=SCHEMA) as writer:
        writer.write(pl.DataFrame({"request_id": range(40), "x": lists, "label": lists}))
    found = warnings_of(settings_of(tmp_path / "log"))
    assert len(found) == 1
    assert "test lists have at most 3 candidates, the last quota" in found[0]


def test_a_stage_whose_candidates_are_all_ground_truth_is_named(log):
    path = log([1.0, 1.0, 0, 0, 0], levels=[2, 2, 0, 0, 0])
    settings = settings_of(path, objective__entry_levels=[2])
    (found,) = warnings_of(settings)
    assert found.startswith(
        "stage 'first' is trained on candidates of level 2 and higher; in 32 of"
    )
    assert warnings_of(settings_of(path)) == ()


@pytest.mark.parametrize("change", [{"relevance__threshold": 99}, {"relevance": {"top": 2}}])
def test_a_log_without_ground_truth_is_refused(log, change):
    labels = [1.0, 0, 0, 0] if "relevance__threshold" in change else [0.0] * 4
    with pytest.raises(DataError, match=r"no candidate is ground truth: .*; set a lower"):
        warnings_of(settings_of(log(labels), **change))


@pytest.mark.parametrize(
    ("state", "decays", "message"),
    [
        (TrainState(epoch=3, step=99, best=0.5, best_epoch=0), False, "99 optimizer steps"),
        (TrainState(epoch=5, step=100, best=0.5, best_epoch=4), False, "best of 5 epochs was the"),
        (TrainState(epoch=4, step=100, best=0.5, best_epoch=3), False, None),
        (TrainState(epoch=5, step=100, best=0.5, best_epoch=4), True, None),
    ],
)
def test_short_training_is_reported(state, decays, message):
    found = list(_short_training(state, LENGTH, decays=decays))
    assert len(found) == (message is not None)
    assert message is None or message in found[0]


def test_a_stage_that_is_worse_than_a_feature_is_named(log, tmp_path):
    path = log([0.0, 1.0, 1.0, 0.0, 0.0], x=[3.0, -2.0, -1.0, 4.0, 5.0])
    settings = settings_of(path, stages__first__quota=2, train__epochs=1)
    result = train_run(settings, tmp_path / "run")
    recall = result.test.per_request["recall/first"]
    with run_data(settings) as data:
        for factor, names in ((0.5, ["'x' alone, ascending, 1.000"]), (1.0, [])):
            values = {**result.test.per_request, "recall/first": factor * np.ones_like(recall)}
            report = replace(result.test, per_request=values)
            found = list(_no_better_than_a_feature(settings, data, report))
            assert len(found) == len(names)
            assert all(name in text for name, text in zip(names, found, strict=True))


def test_requests_are_read_once_for_all_stages(log, tmp_path, monkeypatch):
    path, read, loader = log([0.0, 1.0, 1.0, 0.0, 0.0]), [], RunData.loader
    settings = settings_of(path, train__epochs=1, stages__second={"model": "linear", "quota": 2})
    report = train_run(settings, tmp_path / "run").test
    monkeypatch.setattr(
        RunData, "loader", lambda self, rows: read.append(len(rows)) or loader(self, rows)
    )
    with run_data(settings) as data:
        list(_no_better_than_a_feature(settings, data, report))
        assert read == [len(data.split.train), len(data.split.test)]


def test_a_comparison_lists_the_warnings_of_its_runs(log, tmp_path):
    path = log([1.0, 0, 0, 0, 0], x=[1.0] * 5, requests=50)
    settings = settings_of(path, train__epochs=1)
    found = compare(settings, tmp_path / "runs", objectives=["bce", "ranknet"], seeds=2).warnings
    assert found[0].startswith("bce, ranknet (4 of 4 runs): training took ")
    assert [text.partition(": ")[2].split(" ")[0] for text in found] == [
        "training", "the", "stage", "stage",
    ]  # fmt: skip


def test_a_run_records_its_warnings(log, tmp_path):
    path = log([1.0, 0, 0, 0, 0], x=[1.0] * 5, requests=50)
    settings = settings_of(path, train__epochs=1)
    result = train_run(settings, tmp_path / "run")
    assert [w.split(" ")[0] for w in result.warnings] == ["training", "the", "stage", "stage"]
    assert "no better than a random order (0.600)" in result.warnings[2]
    assert "gives all candidates the same score in 5 of 5" in result.warnings[3]
    assert read_result(result.folder).warnings == result.warnings


class _Popular(nn.Module):
    """Scores by the item alone, or by item and request."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, batch):
        return batch.items["x"] + self.weight * batch.request["hour"][:, None] * batch.items["x"]


@pytest.mark.parametrize(("weight", "count"), [(0.0, 1), (-3.0, 0)])
def test_a_stage_that_ignores_the_request_is_named(tmp_path, weight, count):
    schema = Schema(
        features=(*SCHEMA.features, {"name": "hour", "role": "request", "kind": "numeric"})
    )
    rng = np.random.default_rng(0)
    frame = {
        "request_id": range(60),
        "x": rng.normal(size=(60, 6)).tolist(),
        "hour": rng.normal(size=60),
    }
    frame["label"] = [[1.0, 0, 0, 0, 0, 0]] * 60
    with RequestLogWriter(tmp_path / "log", name="log", schema=schema) as writer:
        writer.write(pl.DataFrame(frame))
    settings = settings_of(tmp_path / "log")
    with run_data(settings) as data:
        cascade = Cascade({"first": _Popular(weight)}, quotas=(3,))
        found = list(_uninformative_scores(settings, data, cascade))
    assert len(found) == count
    assert all("keeps other candidates in 0 of" in text for text in found)


def test_a_ground_truth_above_the_last_quota_is_reported(log):
    (found,) = warnings_of(settings_of(log([3.0, 2, 1, 1, 1, 0]), relevance={"top": 4}))
    assert found.startswith("relevance.top is 4 and the last quota 3, so the recall")


@pytest.mark.parametrize(
    ("levels", "feedback", "warned"),
    [
        ([0, 0, 1, 2], None, ""),
        ([0, 1, 1, 2, 2, 2], None, "each level has more candidates than the one below it"),
        ([0, 0, 1, 1], [0.0, 1.0, 0.0, 1.0], ""),
        ([0, 0, 1, 1], [0.0, 1.0, 0.0, 0.0], "40 candidates of level 'l0' have. If l0, l1 is not"),
    ],
)
def test_levels_in_reverse_order_are_pointed_out(tmp_path, levels, feedback, warned):
    frame = {
        "request_id": list(range(40)),
        "x": [[float(i) for i in range(len(levels))]] * 40,
        "label": [[1.0] + [0.0] * (len(levels) - 1)] * 40,
        "level": [levels] * 40,
        **({"feedback": [feedback] * 40} if feedback else {}),
    }
    names = [f"l{i}" for i in range(max(levels) + 1)]
    with RequestLogWriter(tmp_path / "log", name="log", schema=SCHEMA, level_names=names) as writer:
        writer.write(pl.DataFrame(frame))
    settings = settings_of(tmp_path / "log")
    with run_data(settings, folder=tmp_path) as data:
        found = [w for w in data_warnings(settings, data) if "level_names" in w]
    assert bool(found) == bool(warned)
    assert all(warned in warning for warning in found)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"candidate_weight": lambda i: [0.0] * 5}, "candidate_weight"),
        ({"request_weight": lambda i: 0.0}, "request_weight"),
        (
            {
                "request_weight": lambda i: float(i % 2),
                "candidate_weight": lambda i: [float(i % 2 == 0)] * 5,
            },
            "candidate_weight",
        ),
    ],
)
def test_a_log_without_a_weight_above_0_is_refused(weighted_log, weights, message):
    with pytest.raises(DataError, match=f"found weight 0 in all; set .* column {message}"):
        warnings_of(settings_of(weighted_log(**weights)))


@pytest.mark.parametrize(("untrained", "warned"), [(4, True), (20, False)])
def test_lists_of_weight_0_are_reported(weighted_log, untrained, warned):
    def weights(i):
        return [float(i % untrained > 0)] * 5

    found = warnings_of(settings_of(weighted_log(candidate_weight=weights)))
    assert len(found) == warned
    if warned:
        assert re.match(
            r"all candidates of \d+ of 32 training lists have weight 0, .* Corr", *found
        )
    path = weighted_log(candidate_weight=weights, request_weight=lambda i: weights(i)[0])
    assert warnings_of(settings_of(path)) == ()
