"""Runs with the objective entire_chain: alone, joint with a cascade, and on unsuitable logs."""

import numpy as np
import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.errors import ConfigError, DataError
from cascaderank.runs.load import load_run
from cascaderank.schema import Schema
from cascaderank.settings.run import check_settings
from cascaderank.stages import prune
from cascaderank.training.train_run import train_run

SCHEMA = Schema(
    features=(
        {"name": "user", "role": "request", "kind": "categorical"},
        {"name": "taste", "role": "item", "kind": "numeric"},
        {"name": "quality", "role": "item", "kind": "numeric"},
    )
)
LEVELS = ("dropped", "preranked", "exposed")


def written(folder, *, levels=True, feedback=True, clicks=0.5):
    rng = np.random.default_rng(0)
    requests, length = 120, 16
    taste, quality = rng.normal(size=(2, requests, length))
    level = (quality > 0).astype(int) + (quality > 1)
    columns = {
        "request_id": list(range(requests)),
        "user": rng.integers(0, 9, requests),
        "taste": taste.tolist(),
        "quality": quality.tolist(),
        "label": (taste + quality > 1).astype(int).tolist(),
    }
    if levels:
        columns["level"] = level.astype(np.int8).tolist()
    if feedback:
        clicked = (level == 2) & (rng.random(level.shape) < clicks)
        columns["feedback"] = clicked.astype(np.float32).tolist()
    names = LEVELS if levels else ()
    with RequestLogWriter(folder, name="shop", schema=SCHEMA, level_names=names) as writer:
        writer.write(pl.DataFrame(columns))
    return folder


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return written(tmp_path_factory.mktemp("logs") / "log")


def settings_of(log, stages=("ecmm",), objective=None, **options):
    models = {"ecmm": {"width": 8}, "ecm": {"hidden": [8]}, "mlp": {"hidden": [8]}}
    return check_settings(
        {
            "data": {"path": str(log), "target": "label", "split": {"by": "request", "seed": 1}},
            "relevance": {"threshold": 1},
            "stages": {
                f"stage_{t}": {"model": name, "quota": 8 - 2 * t, **models.get(name, {})}
                for t, name in enumerate(stages)
            },
            "objective": {"name": "entire_chain", **(objective or {}), **options},
            "train": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01},
            "evaluation": {"bootstrap": 5},
        }
    )


@pytest.mark.parametrize("name", ["ecm", "ecmm", "esmm", "cold", "fscd", "two_tower"])
def test_a_stage_is_trained_alone(log, tmp_path, name):
    result = train_run(settings_of(log, [name], penalty=1e-5), tmp_path / "run")
    # Half of the candidates are kept, so that random order has a recall of 0.5.
    assert result.test.metrics["joint_recall"].mean > 0.6
    cascade = load_run(tmp_path / "run").cascade
    assert not cascade.training


def test_the_exposed_level_defaults_to_the_highest_of_the_log(log, tmp_path):
    explicit = train_run(settings_of(log, ["ecm"], exposed_level=2), tmp_path / "explicit")
    default = train_run(settings_of(log, ["ecm"]), tmp_path / "default")
    assert explicit.validation == default.validation
    assert (tmp_path / "explicit/metrics.jsonl").read_bytes() == (
        tmp_path / "default/metrics.jsonl"
    ).read_bytes()


def test_a_cascade_is_trained_jointly_while_its_first_stage_is_trained_on_the_chain(log, tmp_path):
    settings = settings_of(
        log,
        ["ecmm", "mlp"],
        learns=["stage_0"],
        penalty=1e-5,
        sampling={"rates": [1.0, 0.9, 0.8]},
        joint={"name": "lcron", "relative_temperature": True},
    )
    result = train_run(settings, tmp_path / "run")
    assert result.test.metrics["joint_recall"].mean > 0.5
    metrics = pl.read_ndjson(tmp_path / "run" / "metrics.jsonl")
    terms = {name for name in metrics["train"].struct.fields if name != "loss"}
    assert terms == {
        "chain/stage_0", "penalty/stage_0", "end_to_end", "top_k/stage_0", "top_k/stage_1",
    }  # fmt: skip
    trained = load_run(tmp_path / "run")
    cascade, schema = trained.cascade, trained.schema
    small = prune(cascade.stages["stage_0"], schema)
    assert small.parameters[1] < small.parameters[0]
    assert small.multiply_adds[1].per_candidate <= small.multiply_adds[0].per_candidate


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        ({"levels": False}, {}, "has no levels, which identify the exposed"),
        (
            {"feedback": False},
            {},
            r"has no feedback, .* clicks are the targets of 'stage_0' \(ecmm\)",
        ),
        (
            {"feedback": False},
            {
                "stages": ["cold", "mlp"],
                "learns": ["stage_0"],
                "joint": {"name": "entire_chain", "learns": ["stage_1"], "event": "click"},
            },
            r"the targets of 'stage_1' \(mlp\); prepare .* or train stages of one score",
        ),
        (
            {},
            {"sampling": {"rates": [1e-6, 1, 1]}},
            r"of the domain click .* sampled at \[1e-06, 1",
        ),
        ({"feedback": False}, {"stages": ["mlp"], "event": "click"}, "has no feedback"),
        ({"clicks": 0.0}, {}, r"none is of the domain click \(click 0, unclicked"),
        ({"clicks": 0.0}, {"stages": ["mlp"], "event": "click"}, "of the domain click"),
        ({"clicks": 1.0}, {"exposures_only": True}, "of the domain unclicked"),
        ({}, {"exposed_level": 3}, "of the domain click or unclicked"),
    ],
)
def test_a_log_without_candidates_of_a_domain_is_refused_before_training(
    tmp_path, options, settings, message
):
    log = written(tmp_path / "log", **options)
    with pytest.raises(DataError, match=message):
        train_run(settings_of(log, **settings), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_log_without_feedback_trains_exposures(tmp_path):
    log = written(tmp_path / "log", feedback=False)
    result = train_run(settings_of(log, ["mlp"]), tmp_path / "run")
    assert result.test.metrics["joint_recall"].mean > 0.5


def test_an_invalid_option_is_reported_with_its_name(log):
    with pytest.raises(ConfigError, match="penalty must be a number of at least 0"):
        settings_of(log, penalty=-1.0)
