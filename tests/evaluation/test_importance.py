"""Importance by permutation: informative features outrank noise, by role and by stage."""

import json
import math

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from torch import nn

from cascaderank.cascade import Cascade
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import ConfigError, DataError
from cascaderank.evaluation import permutation_importance
from cascaderank.reports import importance_tables
from cascaderank.schema import FittedSchema

REQUESTS, LENGTH = 60, 12
QUOTAS = (6, 3)


class Scorer(nn.Module):
    """Score by a function of the batch."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, batch):
        assert not self.training, "stages are in evaluation mode"
        return self.function(batch)


def feature(name, role, **more):
    return {"name": name, "role": role, "kind": "numeric", "transform": "none", **more}


SCHEMA = FittedSchema(
    features=(
        feature("good", "item"),
        feature("weak", "item"),
        feature("noise", "item"),
        feature("sign", "request"),
        feature("age", "request"),
        feature("seen", "history"),
        feature("liked", "history"),
        feature("other", "history", sequence="clicks"),
    )
)


@pytest.fixture(scope="module")
def log():
    """Labels are `good` times `sign` plus a little of `weak`; lists have 3 to 12 candidates."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, LENGTH + 1, REQUESTS)
    good, weak, noise = ([rng.normal(size=n) for n in lengths] for _ in range(3))
    sign = rng.choice([-1.0, 1.0], REQUESTS)
    entries = rng.integers(1, 4, REQUESTS)
    frame = pl.DataFrame(
        {
            "request_id": range(REQUESTS),
            "good": [x.tolist() for x in good],
            "weak": [x.tolist() for x in weak],
            "noise": [x.tolist() for x in noise],
            "sign": sign,
            "age": rng.normal(size=REQUESTS),
            "seen": [[s] * n for s, n in zip(sign, entries, strict=True)],
            "liked": [[s] * n for s, n in zip(sign, entries, strict=True)],
            "other": [[1.0]] * REQUESTS,
            "label": [(s * a + 0.3 * b).tolist() for s, a, b in zip(sign, good, weak, strict=True)],
        }
    )
    return EncodedLog.of_frame(frame, SCHEMA, target="label")


def by_request(batch):
    items, sign = batch.items, batch.request["sign"][:, None]
    return sign * items["good"] + 0.3 * items["weak"] + 0 * items["noise"]


def by_history(batch):
    mask = batch.history_mask["history"]
    sign = (batch.history["seen"] * mask).sum(-1) / mask.sum(-1)
    return sign[:, None] * batch.items["good"]


@pytest.fixture(scope="module")
def cascade():
    """The first stage reads the request, the second the history."""
    stages = {"first": Scorer(by_request), "second": Scorer(by_history)}
    return Cascade(stages, QUOTAS).train()


def measured(cascade, log, names=None, batch_size=16, rows=None, **options):
    features = names or dict.fromkeys(cascade.stage_names, SCHEMA.features)
    rows = np.arange(REQUESTS) if rows is None else rows
    loader = RequestLoader(log, rows, batch_size=batch_size)
    return permutation_importance(cascade, loader, features, **({"k": 3} | options))


def test_informative_features_outrank_noise(cascade, log):
    found = measured(cascade, log)
    loss = {(f.stage, f.feature): f for f in found.features}
    assert len(loss) == 2 * 7  # two features of one sequence are one unit
    good, sign = loss["first", "good"], loss["first", "sign"]
    assert good.role == "item"
    assert sign.role == "request"
    assert good.joint_recall_loss > 5 * good.joint_recall_error > 0
    assert sign.joint_recall_loss > 5 * sign.joint_recall_error > 0
    assert good.recall_loss > loss["first", "weak"].recall_loss > 0
    history = loss["second", "seen + liked"]
    assert history.role == "history"
    assert history.joint_recall_loss > 5 * history.joint_recall_error > 0
    assert history.recall_loss > 5 * history.recall_error > 0
    unused = [("first", n) for n in ("noise", "age", "seen + liked", "other")]
    unused += [("second", n) for n in ("weak", "noise", "sign", "age", "other")]
    for key in unused:
        assert loss[key].joint_recall_loss == loss[key].recall_loss == 0
        assert loss[key].joint_recall_error == 0
    order = [f.joint_recall_loss for f in found.features if f.stage == "first"]
    assert order == sorted(order, reverse=True)
    assert found.requests == REQUESTS


def test_the_loss_is_that_of_permuted_values_in_one_stage(cascade, log):
    """With all candidates of a list interchangeable, recall is that of a random order."""
    only_good = {"alone": Scorer(lambda batch: batch.items["good"])}
    cascade = Cascade(only_good, (3,))
    rows = np.flatnonzero(np.diff(log.offsets) > 3)
    labels = {"k": None, "threshold": 0.5}
    found = measured(cascade, log, {"alone": SCHEMA.features[:1]}, rows=rows, repeats=80, **labels)
    chance = []
    for row in rows:
        y = log.labels[log.offsets[row] : log.offsets[row + 1]]
        if (y >= 0.5).any():
            chance.append(3 / len(y))
    (good,) = found.features
    assert good.joint_recall_loss == good.recall_loss
    assert found.joint_recall - good.joint_recall_loss == pytest.approx(np.mean(chance), abs=0.02)
    assert (found.requests, found.undefined) == (len(chance), len(rows) - len(chance))


def test_results_depend_on_the_seed_and_not_on_the_batch_size(cascade, log):
    few = {"second": [SCHEMA["good"], SCHEMA["seen"]]}
    seven = measured(cascade, log, few, batch_size=7, repeats=2)
    assert seven == measured(cascade, log, few, batch_size=60, repeats=2)
    assert seven != measured(cascade, log, few, batch_size=60, repeats=2, seed=1)


def test_the_standard_error_is_over_requests(cascade, log):
    one = measured(cascade, log, {"first": SCHEMA.features[:1]}, rows=np.arange(1))
    assert math.isnan(one.features[0].joint_recall_error)
    assert json.loads(json.dumps(one.to_json()))["features"][0]["joint_recall_error"] is None
    many = measured(cascade, log, {"first": SCHEMA.features[:1]})
    few = measured(cascade, log, {"first": SCHEMA.features[:1]}, rows=np.arange(15))
    ratio = few.features[0].recall_error / many.features[0].recall_error
    assert 1.5 < ratio < 2.7  # about the root of 60 / 15


def test_the_mode_of_the_cascade_is_restored(cascade, log):
    measured(cascade, log, repeats=1)
    assert cascade.training


def test_tables_fit_and_have_a_row_per_feature(cascade, log):
    console = Console(width=80)
    with console.capture() as captured:
        console.print(*importance_tables(measured(cascade, log, repeats=1)))
    text = captured.get()
    assert max(map(len, text.splitlines())) <= 80
    assert "first: joint recall" in text
    assert text.count("seen + liked") == 2
    assert "-0.0000" not in text
    assert "1 permutation, 60 requests" in " ".join(text.split())
    constant = [line.split() for line in text.splitlines() if line.startswith("other")]
    assert constant == [["other", "history", "constant", "constant"]] * len(constant) != []
    assert text.count("constant  ") + text.count("constant\n") == 2 * len(constant)


def test_invalid_input_is_rejected(cascade, log):
    features = SCHEMA.features[:1]
    with pytest.raises(ConfigError, match=r"no stage 'frist' \(did you mean 'first'\?\)"):
        measured(cascade, log, {"frist": features})
    with pytest.raises(ConfigError, match="repeats must be a positive integer"):
        measured(cascade, log, repeats=0)
    with pytest.raises(ConfigError, match="the ground truth must be defined"):
        measured(cascade, log, k=None)
    with pytest.raises(DataError, match="no evaluated request has ground truth"):
        measured(cascade, log, k=None, threshold=99.0)


def test_features_with_several_values_are_permuted_as_one():
    """Categories of a candidate and of a request decide; lists have different lengths."""
    fitted = FittedSchema(
        features=(
            {"name": "tags", "role": "item", "kind": "categorical", "multiple": True},
            {"name": "likes", "role": "request", "kind": "categorical", "multiple": True},
            feature("place", "item", width=2),
        ),
        vocabularies={"tags": (0, 1), "likes": (0, 1)},
    )
    rng = np.random.default_rng(1)
    good = rng.integers(0, 2, (40, 8))
    likes = rng.integers(0, 2, 40)
    frame = pl.DataFrame(
        {
            "request_id": range(40),
            "tags": [[[int(t)] * int(1 + t) for t in row] for row in good],
            "likes": [[int(y)] * int(1 + y) for y in likes],
            "place": [[[0.0, 1.0]] * 8] * 40,
            "label": (good == likes[:, None]).astype(float).tolist(),
        }
    )
    log = EncodedLog.of_frame(frame, fitted, target="label")

    def same(batch):
        return (batch.items["tags"][..., 0] == batch.request["likes"][:, None, 0]).float()

    cascade = Cascade({"only": Scorer(same)}, (4,))
    loader = RequestLoader(log, np.arange(40), batch_size=9)
    found = permutation_importance(cascade, loader, {"only": fitted.features}, threshold=1)
    loss = {f.feature: f.joint_recall_loss for f in found.features}
    assert loss["tags"] > 0.1
    assert loss["likes"] > 0.1
    assert loss["place"] == 0


def test_permuted_candidates_keep_the_values_of_their_request(log):
    from cascaderank.evaluation.importance import _Permutation

    loader = RequestLoader(log, np.arange(REQUESTS), batch_size=REQUESTS)
    batch = loader.collate(np.arange(REQUESTS))
    permuted = _Permutation(loader, 0, 0).of(batch, 0)
    before, after = batch.items["good"], permuted.items["good"]
    for row in range(REQUESTS):
        real = batch.mask[row]
        assert sorted(before[row, real].tolist()) == sorted(after[row, real].tolist())
    assert not torch.equal(before, after)
    assert sorted(batch.request["age"].tolist()) == sorted(permuted.request["age"].tolist())
