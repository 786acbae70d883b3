"""Comparisons: the same requests for all methods, and the ceiling."""

import json
import math

import numpy as np
import polars as pl
import pytest

from cascaderank.errors import ConfigError, DataError, SchemaError
from cascaderank.experiments.compare import compare
from cascaderank.settings.run import read_settings


@pytest.fixture
def small(funnel, settings_for):
    return settings_for(
        funnel,
        train__epochs=1,
        compare__seeds=2,
        compare__baselines=["random"],
        compare__objectives=["bce", "lcron"],
    )


def test_methods_are_evaluated_on_the_same_requests(small, tmp_path):
    found = compare(small, str(tmp_path))
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


def test_full_catalogue_retrieval_is_compared(small, tmp_path):
    names = {"item": "item_id", "user": "user_id", "cutoffs": [20]}
    alone = ["*", "!match_*", "!gap_*"]
    changes = {"catalogue": names, "stages.retrieval.features": alone}
    found = compare(small.changed(changes), tmp_path)
    random, bce, lcron = found.methods
    assert random.search == []
    assert [v.metric for v in bce.search] == [
        f"{name}@20" for name in ("hit_rate", "ndcg", "recall", "precision")
    ]
    values = [
        pl.read_parquet(tmp_path / f"lcron/run/fold-0/seed-{s}/per_request.parquet")[
            "catalogue/recall@20"
        ].to_numpy()
        for s in (0, 1)
    ]
    assert lcron.search[2].mean == pytest.approx(np.nanmean(values), abs=1e-12)
    assert lcron.search[2].gain == pytest.approx(lcron.search[2].mean - bce.search[2].mean)


def test_the_planted_ceiling_is_used_for_its_own_quotas_only(small, tmp_path):
    own = small.changed({"stages.retrieval.features": ["*", "!match_*", "!gap_*"]})
    assert compare(own, tmp_path / "a").ceiling_kind == "planted"
    other = compare(own.changed({"stages.ranking.quota": 15}), tmp_path / "b")
    assert (other.ceiling_kind, other.ceiling) == ("quotas", 1.0)


def test_every_request_is_in_one_test_fold(small, tmp_path):
    folds = small.changed({"data.split": {"by": "fold", "folds": 3}, "compare.seeds": 1})
    found = compare(folds, tmp_path)
    assert (found.folds, found.requests) == (3, 240)
    rows = [
        pl.read_parquet(tmp_path / f"bce/run/fold-{i}/seed-0/per_request.parquet")["row"]
        for i in range(3)
    ]
    assert sorted(pl.concat(rows).to_list()) == list(range(240))


def test_a_grid_may_have_an_infinite_value(small, tmp_path):
    clipped = {"bce": {"train.clip_norm": [math.inf]}, "free": {"train.epochs": [1]}}
    changes = {
        "compare.seeds": 1,
        "compare.grid": clipped,
        "compare.objectives": ["bce", "free"],
        "compare.variants": {"free": {"train.clip_norm": math.inf}},
    }
    found = compare(small.changed(changes), tmp_path)
    (tuned,) = found.methods[1].tuning
    assert tuned["chosen"] == {"train.clip_norm": "inf"}
    assert json.loads((tmp_path / "comparison.json").read_text()) == found.to_json()
    for run in ("bce/clip_norm=inf", "free/epochs=1"):
        config = tmp_path / run / "fold-0/seed-0/config.toml"
        assert read_settings(config).train.clip_norm == math.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compare.objectives": ["bec"]}, r"no objective called 'bec' \(did you mean 'bce'\?\)"),
        (
            {"compare.variants": {"bce": {"objective.temperature": 3}}},
            "compare, method 'bce': .* has no option 'temperature'",
        ),
        (
            {"compare.variants": {"cold": {}}, "compare.objectives": ["clod"]},
            r"no objective called 'clod'.*; nor a variant \(did you mean 'cold'\?\)",
        ),
        ({"compare.grid": {"lcorn": {"train.epochs": [1]}}}, "did you mean 'lcron'"),
        ({"compare.grid": {"bce": {"train.epochs": [1, 1]}}}, "values must be distinct"),
        ({"compare.grid": {"*": {"train.epochs": []}}}, "compare.grid"),
        ({"compare.grid": {"*": {"train.clip_norm": [1, math.nan]}}}, "clip_norm: Input should be"),
        ({"compare.grid": {"*": {"train.epochs": [1, math.inf]}}}, "train.epochs: Input should be"),
        ({"compare.grid": {"lcron": {"objective.temperature": [math.inf]}}}, "finite numbers; got"),
        ({"compare.grid": {"*": {"train.seed": [0, 1]}}}, "seeds are those of compare.seeds"),
        ({"compare.grid": {"lcron": {"objective.temperature": [-1.0]}}}, "method 'lcron': temp"),
        ({"compare.variants": {"bce": {"relevance.top": 5}}}, "method 'bce': changes relevance"),
        ({"compare.variants": {"bce": {"data.target": "label"}}}, "method 'bce': changes data"),
        ({"compare.variants": {"bce": {"stages.ranking.quota": 9}}}, "names and quotas of stages"),
        ({"compare.variants": {"a/b": {}}}, "a name consists of letters.* got 'a/b'"),
        ({"compare.objectives": ["bce", "bce"]}, "got 'bce' more than once"),
        ({"compare.streaming": 2}, 'streaming needs data.split.by = "day"; got "request"'),
        ({"compare.grid": {"lcron": {"train.epohs": [1]}}}, "unknown setting train.epohs"),
        ({"compare.baselines": ["best"]}, "unknown baseline 'best'"),
    ],
)
def test_invalid_settings_are_rejected_before_any_training(small, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        compare(small.changed(changes), tmp_path)
    assert not list(tmp_path.rglob("weights.safetensors"))


def test_an_unknown_feature_of_a_variant_is_rejected(small, tmp_path):
    wrong = {"lcron": {"stages.ranking.features": ["pirce"]}}
    with pytest.raises(SchemaError, match=r"'lcron': stages.ranking.features: .*'price'"):
        compare(small.changed({"compare.variants": wrong}), tmp_path)
    assert not list(tmp_path.rglob("weights.safetensors"))


def test_a_variant_with_the_name_of_a_baseline_is_rejected(small, tmp_path):
    changes = {"compare.variants": {"random order": {}}, "compare.objectives": ["random order"]}
    with pytest.raises(ConfigError, match="'random order' is the name of a baseline"):
        compare(small.changed(changes), tmp_path)


class Counted:
    """Progress reporter that counts steps of the outermost task."""

    def __init__(self):
        self.total = self.done = self.depth = 0

    def start(self, what, total):
        self.depth += 1
        self.total += total * (self.depth == 1)

    def advance(self, steps=1, note=""):
        self.done += steps * (self.depth == 1)

    def grow(self, steps):
        self.total += steps * (self.depth == 1)

    def stop(self, note=""):
        self.depth -= 1


@pytest.mark.parametrize("rates", [[1e-5, 1e-4], [1e-3]], ids=["extended", "not"])
def test_progress_reaches_its_total(small, tmp_path, rates):
    heard = Counted()
    tuned = small.changed({"compare.grid": {"bce": {"train.learning_rate": rates}}})
    found = compare(tuned, tmp_path, progress=heard)
    assert heard.done == heard.total == len(list(tmp_path.rglob("report.json")))
    (fold,) = found.methods[1].tuning
    assert (len(fold["tried"]) > len(rates)) == (len(rates) == 2)


def test_a_variant_is_trained_with_its_settings(small, tmp_path):
    changes = {
        "compare.objectives": ["lcron", "cold"],
        "compare.seeds": 1,
        "compare.variants": {
            "cold": {"objective.temperature": 0.5, "stages.ranking.features": ["item_id", "price"]},
        },
    }
    found = compare(small.changed(changes), tmp_path)
    assert [m.name for m in found.methods] == ["random order", "lcron", "cold"]
    settings = read_settings(tmp_path / "cold/run/fold-0/seed-0/config.toml")
    assert settings.objective.options == {"temperature": 0.5}
    assert settings.stages["ranking"].features == ("item_id", "price")
    assert found.ceiling_kind == "quotas", "what is planted is for stages that see something else"


def test_costs_of_reused_runs_are_kept(small, tmp_path):
    first = compare(small, tmp_path).methods[1]
    (tmp_path / ".lock").unlink()  # as in a copy without hidden files
    again = compare(small, tmp_path).methods[1]
    assert first.peak_memory is not None
    assert first.peak_memory > 2**24
    assert (again.peak_memory, again.tuning) == (first.peak_memory, first.tuning)


def test_missing_ground_truth_is_reported(small, tmp_path):
    nothing = small.changed({"relevance": {"threshold": 1e9}})
    with pytest.raises(DataError, match="no candidate is ground truth"):
        compare(nothing, tmp_path)
