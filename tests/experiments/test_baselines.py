"""Baselines: scores, and selection on training requests only."""

from dataclasses import replace

import polars as pl
import pytest
import torch

from cascaderank.batch import RequestBatch
from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.errors import ConfigError, SchemaError
from cascaderank.experiments.baselines import (
    BASELINES,
    FeatureOrder,
    RandomOrder,
    RankFusion,
    build_baseline,
    default_baselines,
)
from cascaderank.experiments.compare import _sees_more
from cascaderank.experiments.methods import methods_of
from cascaderank.runs.data import run_data
from cascaderank.schema import Feature, Schema
from cascaderank.settings.run import check_settings

NAN = float("nan")


def batch_of(rows=None, **items):
    items = {name: torch.tensor(values) for name, values in items.items()}
    mask = torch.ones_like(next(iter(items.values())), dtype=torch.bool)
    return RequestBatch(mask=mask, items=items, rows=rows)


@pytest.fixture
def log(tmp_path):
    """Labels are -bad; good is correct in half of the requests and missing in the others."""
    schema = Schema(
        features=tuple(
            Feature(name=n, role="item", kind="numeric", missing=n == "some")
            for n in ("good", "bad", "some")
        )
    )
    path = tmp_path / "log"
    values = [[float((7 * i + r) % 10) for i in range(10)] for r in range(60)]
    with RequestLogWriter(path, name="log", schema=schema) as writer:
        writer.write(
            pl.DataFrame(
                {
                    "request_id": range(60),
                    "good": [v if r % 2 else [0.0] * 10 for r, v in enumerate(values)],
                    "bad": [[-x for x in v] for v in values],
                    "some": [[None] * 9 + [1.0] for _ in values],
                    "label": values,
                }
            )
        )
    return path


@pytest.fixture
def settings(log):
    return check_settings(
        {
            "data": {"path": str(log), "target": "label"},
            "relevance": {"top": 2},
            "stages": {"a": {"model": "linear", "quota": 4}, "b": {"model": "linear", "quota": 2}},
        }
    )


def test_best_feature_selects_feature_and_direction(settings):
    with run_data(settings) as data:
        best = build_baseline("best_feature", settings, data)
        only_good = build_baseline("best_feature:goo*", settings, data)
        of_all = build_baseline("best_feature_of_all", settings, data)
    assert best.name == "best feature by stage"
    assert best.chosen == {"a": "-bad", "b": "-bad"}
    assert only_good.chosen == {"a": "good", "b": "good"}
    assert of_all.name == "best single feature"
    assert of_all.chosen == {"feature": "-bad"}
    assert best.cascade.quotas == (4, 2)
    assert best.cascade.stage_names == ("a", "b")


def test_a_feature_is_chosen_within_the_limits_of_each_stage(settings):
    settings = settings.changed({"stages.a.features": ["good", "some"]})
    with run_data(settings) as data:
        best = build_baseline("best_feature", settings, data)
        of_all = build_baseline("best_feature_of_all", settings, data)
        single = build_baseline("feature:bad", settings, data)
        fusion = build_baseline("rank_fusion", settings, data)
        fusion_of_all = build_baseline("rank_fusion_of_all", settings, data)
        seen = build_baseline("feature:good", settings, data)
    assert best.chosen == {"a": "good", "b": "-bad"}
    assert fusion.cascade.stages["a"].features == ["good", "some"]
    assert fusion_of_all.name == "rank fusion of 3"
    assert [x.sees_more for x in (best, fusion, seen)] == [False] * 3
    assert [x.sees_more for x in (of_all, single, fusion_of_all)] == [True] * 3


def test_the_feature_of_a_later_stage_is_chosen_among_what_is_left(tmp_path):
    """`first` finds the best three of ten, `whole` orders the list well, `rest` only those three."""
    schema = Schema(
        features=tuple(
            Feature(name=n, role="item", kind="numeric") for n in ("first", "whole", "rest")
        )
    )
    labels = [5.0, 4.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    with RequestLogWriter(tmp_path / "log", name="log", schema=schema) as writer:
        writer.write(
            pl.DataFrame(
                {
                    "request_id": range(20),
                    "first": [[1.0] * 3 + [0.0] * 7] * 20,
                    "whole": [[7.0, 6.0, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0]] * 20,
                    "rest": [[3.0, 2.0, 1.0] + [9.0] * 7] * 20,
                    "label": [labels] * 20,
                }
            )
        )
    settings = check_settings(
        {
            "data": {"path": str(tmp_path / "log"), "target": "label"},
            "relevance": {"top": 1},
            "stages": {
                "a": {"model": "linear", "quota": 3, "features": ["first"]},
                "b": {"model": "linear", "quota": 1, "features": ["whole", "rest"]},
            },
        }
    )
    with run_data(settings) as data:
        assert build_baseline("best_feature", settings, data).chosen == {"a": "first", "b": "rest"}


def test_a_stage_without_numeric_features_has_a_random_order(settings, log):
    settings = settings.changed({"stages.a.features": ["some"]})
    with run_data(settings) as data:
        best = build_baseline("best_feature:good", settings, data)
        assert default_baselines(data) == ("random", "best_feature", "rank_fusion")
        empty = replace(data, schema=data.schema.model_copy(update={"features": ()}))
        assert default_baselines(empty) == ("random",)
    assert best.chosen == {"b": "good"}
    assert isinstance(best.cascade.stages["a"], RandomOrder)
    assert not best.sees_more


def test_missing_values_of_a_feature_rank_last():
    batch = batch_of(x=[[1.0, NAN, 3.0]])
    assert FeatureOrder("x")(batch).argsort(descending=True).tolist() == [[2, 0, 1]]
    assert FeatureOrder("x", sign=-1.0)(batch).argsort(descending=True).tolist() == [[0, 2, 1]]


def test_rank_fusion_sums_reciprocal_ranks_of_present_values():
    features = [Feature(name=n, role="item", kind="numeric") for n in ("x", "y")]
    got = RankFusion(features)(batch_of(x=[[3.0, 2.0, NAN]], y=[[NAN, 5.0, 7.0]]))
    expected = [[1 / 61, 1 / 62 + 1 / 62, 1 / 61]]
    torch.testing.assert_close(got, torch.tensor(expected))


def test_rank_fusion_ignores_padding():
    features = [Feature(name="x", role="item", kind="numeric")]
    items = {"x": torch.tensor([[9.0, 1.0, 2.0]])}
    mask = torch.tensor([[False, True, True]])
    got = RankFusion(features)(RequestBatch(mask=mask, items=items))
    torch.testing.assert_close(got, torch.tensor([[0.0, 1 / 62, 1 / 61]]))


def test_stage_fusion_uses_the_features_of_each_stage(settings):
    settings = settings.changed({"stages.a.features": ["bad"]})
    with run_data(settings) as data:
        for text in ("rank_fusion:*d", "stage_fusion:*d"):
            found = build_baseline(text, settings, data)
            assert found.name == "rank fusion by stage"
            stages = found.cascade.stages.values()
            assert [stage.features for stage in stages] == [["bad"], ["good", "bad"]]


def test_a_random_order_depends_on_seed_and_request_alone():
    whole = RandomOrder(0)(batch_of(torch.tensor([4, 5]), x=[[0.0] * 8] * 2))
    alone = RandomOrder(0)(batch_of(torch.tensor([5]), x=[[0.0] * 8]))
    assert torch.equal(whole[1:], alone)
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(RandomOrder(1)(batch_of(torch.tensor([5]), x=[[0.0] * 8])), alone)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("randon", ConfigError, r"unknown baseline 'randon' \(did you mean 'random'\?\)"),
        ("feature", ConfigError, "needs a feature, such as 'feature:f1'"),
        ("feature:god", SchemaError, r"no feature 'god' \(did you mean 'good'\?\)"),
    ],
)
def test_invalid_baselines_are_rejected(settings, text, error, message):
    with run_data(settings) as data, pytest.raises(error, match=message):
        build_baseline(text, settings, data)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_scores_every_candidate(settings, name):
    text = f"{name}:*" if name == "feature" else name
    with run_data(settings) as data:
        cascade = build_baseline(text, settings, data).cascade
        from cascaderank.data.loading.loader import RequestLoader

        batch = next(RequestLoader(data.encoded, data.split.test, batch_size=3).epoch(0))
        scores = cascade(batch)
    assert scores.shape == (2, *batch.mask.shape)
    assert scores.isfinite().all()


def test_methods_with_more_features_than_a_stage_may_use_are_found(settings, log):
    settings = settings.changed({"stages.a.features": ["good"]})
    settings = settings.changed(
        {
            "compare.variants": {
                "wide": {"objective.name": "bce", "stages.a.features": ["good", "bad"]},
                "narrow": {"objective.name": "bce", "stages.b.features": ["some"]},
            },
            "compare.grid": {"lcron": {"stages.a.features": [["good"], ["bad"]]}},
        }
    )
    names = ("bce", "wide", "narrow", "lcron", "lightgbm_lambdarank")
    request_log = RequestLog.open(log)
    more = {m.name: _sees_more(m, settings, request_log) for m in methods_of(settings, names)}
    assert more == {
        "bce": False, "wide": True, "narrow": False, "lcron": True, "lightgbm_lambdarank": True,
    }  # fmt: skip
