"""A run starts from the weights of another, also on a later log with new categories."""

import numpy as np
import polars as pl
import pytest
import torch

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.errors import ConfigError, RunError
from cascaderank.runs.load import load_run
from cascaderank.schema import Schema
from cascaderank.settings.run import check_settings
from cascaderank.training.train_run import train_run

ITEM = {"name": "item", "role": "item", "kind": "categorical"}
PRICE = {"name": "price", "role": "item", "kind": "numeric"}


def write(path, items, *, features=(ITEM, PRICE), price=1.0):
    rng = np.random.default_rng(0)
    drawn = rng.choice(items, (60, 6))
    frame = pl.DataFrame(
        {
            "request_id": range(60),
            "item": drawn.tolist(),
            "price": (price * rng.normal(size=(60, 6))).tolist(),
            "label": (drawn % 2).astype(float).tolist(),
        }
    )
    schema = Schema(features=features)
    with RequestLogWriter(path, name="log", schema=schema) as writer:
        writer.write(frame.select("request_id", *schema.names, "label"))
    return path


def settings_of(log, **changes):
    return check_settings(
        {
            "data": {"path": str(log), "target": "label"},
            "relevance": {"threshold": 1},
            "stages": {"ranking": {"model": "mlp", "quota": 3, "hidden": [4]}},
            "objective": {"name": "bce"},
            "train": {"epochs": 1, **changes},
            "evaluation": {"bootstrap": 5},
        }
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    train_run(settings_of(write(folder / "log", [3, 7, 8, 9])), folder / "run")
    return folder / "run"


def test_old_categories_keep_their_weights_and_new_ones_get_rows(first, tmp_path):
    log = write(tmp_path / "log", [1, 4, 7, 8, 9, 12], price=50.0)
    train_run(settings_of(log, start=str(first), learning_rate=1e-9), tmp_path / "run")
    before, after = load_run(first), load_run(tmp_path / "run")
    assert before.schema.vocabularies["item"] == (3, 7, 8, 9)
    assert after.schema.vocabularies["item"] == (3, 7, 8, 9, 1, 4, 12)
    assert after.schema.moments == before.schema.moments
    old, new = before.cascade.state_dict(), after.cascade.state_dict()
    assert old.keys() == new.keys()
    for name, weights in old.items():
        kept = new[name][: len(weights)] if weights.dim() else new[name]
        torch.testing.assert_close(kept, weights, rtol=0, atol=1e-6)
    tables = [name for name in old if len(new[name]) > len(old[name])]
    assert [len(new[name]) - len(old[name]) for name in tables] == [3]
    assert new[tables[0]][-3:].abs().sum() > 0


def test_other_features_and_folders_are_refused(first, tmp_path):
    log = write(tmp_path / "log", [3, 7], features=(ITEM,))
    with pytest.raises(ConfigError, match=r"trained on a log with other features: .* prepare both"):
        train_run(settings_of(log, start=str(first)), tmp_path / "run")
    with pytest.raises(RunError, match="no such folder; name that of a complete run"):
        train_run(settings_of(log, start=str(tmp_path / "none")), tmp_path / "run")


def test_the_options_that_differ_are_named(tmp_path, first):
    settings = load_run(first).settings
    changes = {"train.start": str(first), "stages.ranking.hidden": [8, 4]}
    changes["stages.ranking.features"] = ["item"]
    expected = r"expected hidden = \[8, 4\], found \[4\]; it also uses price; set the same"
    with pytest.raises(ConfigError, match=expected):
        train_run(settings.changed(changes), tmp_path / "run")
