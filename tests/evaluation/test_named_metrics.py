"""Metrics named in a config: parsing, reports per stage, and tables."""

import json

import pytest
import torch
from rich.console import Console

from cascaderank.errors import ConfigError
from cascaderank.evaluation import Evaluator, Report
from cascaderank.experiments.results import summarise
from cascaderank.metrics import METRICS, named_metric
from cascaderank.reports.comparison_tables import comparison_tables
from cascaderank.reports.evaluation_tables import report_tables
from cascaderank.reports.paper_tables import latex, markdown
from cascaderank.settings.run import check_settings
from tests.experiments.runs import runs_of


@pytest.fixture
def lists():
    g = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 5, (9, 30), generator=g).float()
    return (
        labels + 2 * torch.randn(9, 30, generator=g),
        labels,
        torch.rand(9, 30, generator=g) > 0.2,
    )


@pytest.mark.parametrize(
    ("text", "metric", "options"),
    [
        ("ndcg", "ndcg", {"gain": "exponential"}),
        ("ndcg@15", "ndcg", {"k": 15}),
        ("map", "average_precision", {"k": 7}),
        ("average_precision@10", "average_precision", {"m": 10, "k": 7}),
        ("mrr", "reciprocal_rank", {"k": 7}),
        ("recall@12", "recall", {"m": 12, "k": 7}),
        ("recall@12@5", "recall", {"m": 12, "k": 5}),
        ("precision@4", "precision", {"m": 4, "k": 7}),
        ("hit_rate@4", "hit_rate", {"m": 4, "k": 7}),
        ("auc", "auc", {"k": 7}),
        ("opa", "opa", {}),
        ("kendall_tau", "kendall_tau", {}),
    ],
)
def test_a_metric_name_uses_its_sizes_and_the_ground_truth_of_the_run(lists, text, metric, options):
    scores, labels, mask = lists
    found = named_metric(text)(scores, labels, k=7, mask=mask)
    assert found.equal(METRICS[metric](scores, labels, mask=mask, **options))


def test_the_threshold_of_the_run_applies_unless_the_name_has_a_size(lists):
    scores, labels, mask = lists
    by_threshold = METRICS["recall"](scores, labels, m=5, threshold=3, mask=mask)
    assert named_metric("recall@5")(scores, labels, threshold=3, mask=mask).equal(by_threshold)
    by_size = METRICS["recall"](scores, labels, m=5, k=2, mask=mask)
    assert named_metric("recall@5@2")(scores, labels, threshold=3, mask=mask).equal(by_size)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ndgc@5", "no metric called 'ndgc'"),
        ("ndcg@0", "a metric is written as ndcg, ndcg@15"),
        ("ndcg@5@3", "takes at most 1 number(s) after @"),
        ("opa@3", "takes at most 0 number(s) after @"),
        ("auc@3", "takes at most 0 number(s) after @"),
        ("recall", "requires a cut-off, such as 'recall@10'"),
        ("cascade_recall@3", "evaluates a whole cascade"),
    ],
)
def test_an_invalid_metric_name_is_rejected_before_any_work(text, message):
    run = {
        "data": {"path": "shop"},
        "relevance": {"top": 2},
        "stages": {"ranking": {"model": "mlp", "quota": 2}},
        "evaluation": {"metrics": [text]},
    }
    with pytest.raises(ConfigError) as error:
        check_settings(run)
    assert "evaluation: metrics: " in str(error.value)
    assert message in str(error.value)


def test_repeated_metrics_are_rejected():
    with pytest.raises(ConfigError, match="metrics must be distinct"):
        check_settings(
            {
                "data": {"path": "shop"},
                "relevance": {"top": 2},
                "stages": {"ranking": {"model": "mlp", "quota": 2}},
                "evaluation": {"metrics": ["map", "map"]},
            }
        )


def test_named_metrics_are_reported_by_stage_and_round_trip_through_json(lists):
    scores, labels, mask = lists
    names = ["ndcg@5", "map", "opa"]
    evaluator = Evaluator(quotas=(9, 4), k=4, metrics=names)
    both = torch.stack([scores, -scores])
    for rows in torch.arange(9).split(4):
        evaluator.update(both[:, rows], labels[rows], mask=mask[rows], rows=rows)
    report = evaluator.report(bootstrap=20)
    for stage, sign in (("stage_1", 1), ("stage_2", -1)):
        assert list(report.stages[stage].over_all_candidates) == names
        for name in names:
            values = named_metric(name)(sign * scores.double(), labels, k=4, mask=mask)
            found = report.stages[stage].over_all_candidates[name]
            assert found.mean == pytest.approx(values.nanmean().item())
            assert report.per_request[f"all_candidates/{name}/{stage}"].shape == (9,)
    again = Report.from_json(json.loads(json.dumps(report.to_json())))
    assert again.stages == report.stages
    console = Console(width=100)
    with console.capture() as captured:
        console.print(*report_tables(report))
    assert f"{report.stages['stage_2'].over_all_candidates['map'].mean:.4f}" in captured.get()


def test_named_metrics_are_in_every_table_of_a_comparison():
    settings = check_settings(
        {
            "data": {"path": "shop"},
            "relevance": {"top": 2},
            "stages": {name: {"model": "mlp", "quota": 2} for name in ("retrieval", "ranking")},
            "evaluation": {"metrics": ["ndcg@5", "opa"], "bootstrap": 50},
        }
    )
    runs = runs_of({"random": 0.4, "bce": 0.6, "lcron": 0.7})
    for seen in runs.values():
        for values in seen.values.values():
            for stage, shift in (("retrieval", 0.0), ("ranking", 0.01)):
                joint = values["joint_recall"]
                values[f"all_candidates/ndcg@5/{stage}"] = [v * 0.5 + shift for v in joint]
                values[f"all_candidates/opa/{stage}"] = [v * 0.25 + shift for v in joint]
    found = summarise(settings, runs, dataset="shop", fold_names=["fold 0"])
    by_name = {m.name: m for m in found.methods}
    metrics = {(v.stage, v.metric): v for v in by_name["lcron"].stage_metrics}
    assert list(metrics) == [(s, m) for s in ("retrieval", "ranking") for m in ("ndcg@5", "opa")]
    lcron, bce = by_name["lcron"], by_name["bce"]
    ndcg = metrics["ranking", "ndcg@5"]
    assert ndcg.mean == pytest.approx(0.5 * lcron.joint_recall + 0.01)
    assert ndcg.gain == pytest.approx(0.5 * lcron.gain)
    assert ndcg.low < ndcg.mean < ndcg.high
    assert all(v.gain is None for v in [*bce.stage_metrics, *by_name["random"].stage_metrics])
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["methods"][2]["stage_metrics"][0]["metric"] == "ndcg@5"
    console = Console(width=100)
    with console.capture() as captured:
        console.print(*comparison_tables(found))
    number = f"{ndcg.mean:.4f}".removeprefix("0")
    for text in (captured.get(), markdown(found), latex(found)):
        assert number in text
    assert max(map(len, captured.get().splitlines())) <= 100


def test_a_metric_of_ones_own_that_fails_is_named(lists, monkeypatch):
    def broken_metric(scores, labels, *, mask=None):
        return scores.no_such_method

    monkeypatch.setitem(METRICS._entries, "broken", broken_metric)
    expected = r"metric 'broken' failed with AttributeError: .*\(test_named_metrics.py, line \d+\)"
    with pytest.raises(ConfigError, match=expected) as failure:
        named_metric("broken")(*lists[:2])
    assert isinstance(failure.value.__cause__, AttributeError)
    monkeypatch.setitem(METRICS._entries, "broken", lambda s, y, *, mask=None: s.mean())
    with pytest.raises(ConfigError, match=r"one value per list, \[9\]; got \[\]"):
        named_metric("broken")(*lists[:2])
