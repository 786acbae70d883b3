"""Planted truth: relevance depends on one genre among several."""

import itertools

import numpy as np
import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.errors import ConfigError
from cascaderank.experiments.baselines import build_baseline
from cascaderank.experiments.scorers import fit_scorer
from cascaderank.runs.data import run_data
from cascaderank.schema import Feature, Schema
from cascaderank.settings.run import check_settings
from cascaderank.training.train_run import train_run

GENRES = [f"genre {i:02}" for i in range(12)]
LENGTH, QUOTAS = 12, (6, 3)
SCHEMA = Schema(
    features=(
        Feature(name="film", role="item", kind="categorical"),
        Feature(name="genres", role="item", kind="categorical", multiple=True),
        Feature(name="likes", role="request", kind="categorical", vocabulary="genres", multiple=True),
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Exactly three of the twelve candidates of a request have the first genre, among others.

    Films are new in each request, so that only genres can tell.
    """
    rng = np.random.default_rng(0)
    requests = []
    for number in range(150):
        relevant = rng.permutation(LENGTH) < 3
        lists = [rng.choice(GENRES[1:], rng.integers(4), replace=False).tolist() for _ in relevant]
        for genres in itertools.compress(lists, relevant):
            genres.insert(rng.integers(0, len(genres) + 1), GENRES[0])
        likes = rng.choice(GENRES, 2, replace=False).tolist()
        requests.append((number, likes, lists, relevant.astype(float).tolist()))
    path = tmp_path_factory.mktemp("logs") / "films"
    ids, likes, genres, labels = (list(column) for column in zip(*requests, strict=True))
    films = [[f"{n}-{i}" for i in range(LENGTH)] for n in ids]
    columns = {"request_id": ids, "film": films, "genres": genres, "likes": likes, "label": labels}
    with RequestLogWriter(path, name="films", schema=SCHEMA) as writer:
        writer.write(pl.DataFrame(columns))
    return path


def settings_of(path, **stages):
    return check_settings(
        {
            "data": {"path": str(path), "target": "label"},
            "relevance": {"top": 3},
            "stages": {
                "first": {"model": "linear", "quota": QUOTAS[0], **stages},
                "second": {"model": "mlp", "quota": QUOTAS[1], "hidden": [8], **stages},
            },
            "objective": {"name": "bce"},
            "train": {"epochs": 6, "batch_size": 10, "learning_rate": 0.05},
            "evaluation": {"bootstrap": 2},
        }
    )


def test_training_finds_the_genre_among_several(log, tmp_path):
    def recall(name, *, epochs, features):
        settings = settings_of(log, features=features).changed({"train.epochs": epochs})
        return train_run(settings, tmp_path / name).test.metrics["joint_recall"].mean

    assert recall("without", epochs=1, features=["likes", "film"]) < 0.5, "three of twelve"
    assert recall("with", epochs=5, features=["*"]) > 0.9


def test_scorers_and_baselines_leave_lists_of_values_out(log):
    with run_data(settings_of(log)) as data:
        with pytest.raises(ConfigError, match="pattern '\\*' must match a numeric feature"):
            build_baseline("best_feature", settings_of(log), data)
        pytest.importorskip("lightgbm")
        cascade, _ = fit_scorer(
            "lightgbm_lambdarank", {"rounds": 2, "patience": 2}, settings_of(log), data
        )
        assert [f.name for f in cascade.stages["first"].features] == ["film"]
        with pytest.raises(
            ConfigError, match="with one value each; the last stage has none: genres"
        ):
            fit_scorer(
                "lightgbm_lambdarank", {}, settings_of(log, features=["genres", "likes"]), data
            )
