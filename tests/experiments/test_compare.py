"""A comparison judges all methods on the same requests, and says what it is out of."""

import json

import numpy as np
import polars as pl
import pytest

from cascaderank.errors import ConfigError, DataError
from cascaderank.experiments.compare import compare


@pytest.fixture
def small(funnel, settings_for):
    return settings_for(
        funnel,
        train__epochs=1,
        compare__seeds=2,
        compare__baselines=["random"],
        compare__objectives=["bce", "lcron"],
    )


def test_methods_are_judged_on_the_same_requests(small, tmp_path):
    found = compare(small, tmp_path)
    assert [m.name for m in found.methods] == ["random order", "bce", "lcron"]
    tested = [
        set(pl.read_parquet(tmp_path / f"{name}/run/fold-0/seed-{seed}/per_request.parquet")["row"])
        for name in ("bce", "lcron")
        for seed in (0, 1)
    ]
    assert all(rows == tested[0] for rows in tested)
    assert found.requests == len(tested[0])
    assert json.loads((tmp_path / "comparison.json").read_text()) == found.to_json()


def test_the_mean_is_over_seeds_then_requests(small, tmp_path):
    found = compare(small, tmp_path)
    lcron = found.methods[2]
    values = np.stack(
        [
            pl.read_parquet(tmp_path / f"lcron/run/fold-0/seed-{s}/per_request.parquet")[
                "joint_recall"
            ].to_numpy()
            for s in (0, 1)
        ]
    )
    assert lcron.joint_recall == pytest.approx(np.nanmean(values.mean(0)), abs=1e-12)
    assert lcron.seed_deviation == pytest.approx(np.nanmean(values, 1).std(ddof=1), abs=1e-12)
    assert lcron.low < lcron.joint_recall < lcron.high
    assert lcron.share_of_ceiling == pytest.approx(lcron.joint_recall / found.ceiling)


def test_the_planted_ceiling_is_used_for_its_own_quotas_only(small, tmp_path):
    own = small.changed({"stages.retrieval.features": ["*", "!match_*", "!gap_*"]})
    assert compare(own, tmp_path / "a").ceiling_kind == "planted"
    other = compare(own.changed({"stages.ranking.quota": 15}), tmp_path / "b")
    assert (other.ceiling_kind, other.ceiling) == ("quotas", 1.0)


def test_folds_test_every_request_once(small, tmp_path):
    folds = small.changed({"data.split": {"by": "fold", "folds": 3}, "compare.seeds": 1})
    found = compare(folds, tmp_path)
    assert (found.folds, found.requests) == (3, 240)
    rows = [
        pl.read_parquet(tmp_path / f"bce/run/fold-{i}/seed-0/per_request.parquet")["row"]
        for i in range(3)
    ]
    assert sorted(pl.concat(rows).to_list()) == list(range(240))


def test_the_grid_is_decided_by_validation(small, tmp_path):
    values = [1e-6, 0.01]
    tuned = small.changed(
        {
            "compare.objectives": ["bce"],
            "compare.grid": {"bce": {"train.learning_rate": values}},
            "train.epochs": 3,
        }
    )
    found = compare(tuned, tmp_path)
    validation = {
        value: np.mean(
            [
                json.loads(path.read_text())["training"]["validation_joint_recall"]
                for path in tmp_path.glob(f"bce/learning_rate={value}/fold-0/seed-*/report.json")
            ]
        )
        for value in values
    }
    best = max(validation, key=validation.get)
    assert best == 0.01, "else this test shows nothing"
    (tuned,) = found.methods[-1].tuning
    assert tuned["chosen"] == {"train.learning_rate": best}
    assert {
        t["values"]["train.learning_rate"]: t["validation"] for t in tuned["tried"]
    } == validation
    assert found.methods[-1].name == "bce"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"compare.objectives": ["bec"]}, r"no objective called 'bec' \(did you mean 'bce'\?\)"),
        (
            {"compare.options": {"bce": {"objective.temperature": 3}}},
            "compare, objective 'bce': .* has no option 'temperature'",
        ),
        ({"compare.grid": {"lcron": {"train.epohs": [1]}}}, "unknown setting train.epohs"),
        ({"compare.baselines": ["best"]}, "no baseline called 'best'"),
    ],
)
def test_mistakes_are_told_before_any_training(small, tmp_path, changes, told):
    with pytest.raises(ConfigError, match=told):
        compare(small.changed(changes), tmp_path)
    assert not list(tmp_path.rglob("weights.safetensors"))


def test_nothing_to_judge_by_is_told(small, tmp_path):
    nothing = small.changed({"relevance": {"threshold": 1e9}})
    with pytest.raises(DataError, match="no test request has ground truth"):
        compare(nothing, tmp_path)
