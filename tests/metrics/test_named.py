"""Names of metrics take any keyword option, and have one canonical form."""

import pytest
import torch
from pydantic import ValidationError

from cascaderank.errors import ConfigError
from cascaderank.evaluation import Evaluator
from cascaderank.metrics import METRICS, named_metric
from cascaderank.settings.evaluation_settings import EvaluationSettings
from cascaderank.settings.run import check_settings


def rbp_metric(scores, labels, *, persistence: float = 0.8, mask=None):
    """Rank-biased precision, as another distribution could register it."""
    if not 0 < persistence < 1:
        raise ConfigError(f"persistence must be in (0, 1); got {persistence}")
    mask = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask
    order = scores.masked_fill(~mask, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    relevance = labels.masked_fill(~mask, 0.0).gather(-1, order)
    weights = persistence ** torch.arange(scores.shape[-1], dtype=torch.float64)
    return ((1 - persistence) * (relevance * weights).sum(-1)).to(scores.dtype)


def weighted_metric(scores, labels, *, strength: float, exact: bool = False, mask=None):
    """A metric with a required option and a switch."""
    return torch.full(scores.shape[:-1], strength + exact)


@pytest.fixture
def registered(monkeypatch):
    assert "ndcg" in METRICS
    monkeypatch.setitem(METRICS._entries, "rbp", rbp_metric)
    monkeypatch.setitem(METRICS._entries, "weighted", weighted_metric)


@pytest.fixture
def lists():
    g = torch.Generator().manual_seed(5)
    return torch.randn(4, 20, generator=g), torch.randint(0, 4, (4, 20), generator=g).float()


@pytest.mark.parametrize(
    ("text", "metric", "options"),
    [
        ('ndcg(gain="linear")', "ndcg", {"gain": "linear"}),
        ("ndcg(gain='linear')@10", "ndcg", {"gain": "linear", "k": 10}),
        ("ndcg(k=10)", "ndcg", {"k": 10}),
        ('opa(pairs="all")', "opa", {"pairs": "all"}),
        ("recall(m=5, k=3)", "recall", {"m": 5, "k": 3}),
        ("recall(threshold=2)@5", "recall", {"m": 5, "threshold": 2}),
        ("average_precision(k=3)", "average_precision", {"k": 3}),
        ("auc(k=3)", "auc", {"k": 3}),
    ],
)
def test_options_in_parentheses_are_those_of_the_metric(lists, text, metric, options):
    want = METRICS[metric](*lists, **options)
    assert named_metric(text)(*lists, k=7).equal(want)
    assert named_metric(named_metric(text).text)(*lists, k=7).equal(want)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ndcg()", "ndcg"),
        ("ndcg( k=10 , gain = 'linear' )", 'ndcg(gain="linear")@10'),
        ('ndcg(gain="linear")@10', 'ndcg(gain="linear")@10'),
        ("recall(k=3)@10", "recall@10@3"),
        ("recall(m=10)@3", None),
        ("recall(threshold=3.0)@10", "recall@10 >= 3"),
        ("recall(m=10) >= 3.0 among >= 1", "recall@10 >= 3.0 among >= 1"),
        ("map(k=3)", "map(k=3)"),
        ("gauc(threshold=2.5) among >= 2", "gauc >= 2.5 among >= 2"),
        ("rcs(k=10)", "rcs@10"),
        ("rbp(persistence=0.9)", "rbp(persistence=0.9)"),
        ("weighted(strength=1, exact=true)", "weighted(exact=true, strength=1.0)"),
        ("weighted(exact=False, strength=-2)", "weighted(exact=false, strength=-2.0)"),
    ],
)
def test_the_canonical_name_is_stable(registered, text, canonical):
    if canonical is None:
        with pytest.raises(ConfigError, match="m is specified twice"):
            named_metric(text)
        return
    assert named_metric(text).text == canonical
    assert named_metric(canonical).text == canonical


@pytest.mark.parametrize(
    "text",
    ["ndcg", "map@10", "recall@30@15", "recall@10 >= 3", "recall@10 >= 3.0", "auc >= 4 among >= 3",
     "gauc", "pooled_auc", "rcs@10", "bias"],
)  # fmt: skip
def test_a_name_without_parentheses_is_printed_as_written(text):
    assert named_metric(text).text == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('ndcg(gian="linear")', "no option 'gian' .did you mean 'gain'"),
        ('ndcg(gain="cubic")', "gain='cubic'"),
        ("ndcg(gain=linear)", "gain must be a number, a string in quotes, true or false"),
        ("ndcg(mask=1)", "no option 'mask'"),
        ("ndcg(10)", "written as name=value"),
        ("ndcg(k=[10])", "k must be a number"),
        ("ndcg(k=1, k=2)", "written as name=value"),
        ("recall(k=3)", "requires a cut-off"),
        ("recall(m=0)", "m must be a positive integer; got 0"),
        ("recall(threshold=3)@5 >= 2", "threshold is specified twice"),
        ("auc(k=5) >= 3", "takes one of k and a threshold"),
        ("recall(k=3, threshold=1)@5", "takes one of k and a threshold"),
        ("gauc(k=3)", "metric 'gauc' has no option 'k'"),
        ("gauc(threshold='high')", "threshold must be a number"),
        ("rcs(k=0)", "k must be a positive integer"),
        ("rbp(persistence=1.5)", r"persistence must be in \(0, 1\); got 1.5"),
        ("weighted", "requires option 'strength'"),
        ("cascade_recall(quotas=3)", "evaluates a whole cascade"),
    ],
)
def test_a_wrong_option_is_reported_when_the_name_is_read(registered, text, message):
    with pytest.raises(ConfigError, match=message):
        named_metric(text)


def settings_with(*metrics):
    return check_settings(
        {
            "data": {"path": "shop"},
            "relevance": {"top": 2},
            "stages": {"ranking": {"model": "mlp", "quota": 2}},
            "evaluation": {"metrics": list(metrics)},
        }
    )


def test_settings_hold_canonical_names_and_reports_are_keyed_by_them(registered, lists):
    written = ["rbp(persistence=.9)", "ndcg(k=5, gain='linear')", "map"]
    metrics = settings_with(*written).evaluation.metrics
    assert metrics == ("rbp(persistence=0.9)", 'ndcg(gain="linear")@5', "map")
    scores, labels = lists
    evaluator = Evaluator(quotas=(4,), k=2, metrics=written)
    evaluator.update(scores[None], labels)
    report = evaluator.report(bootstrap=5)
    assert tuple(report.stages["stage_1"].metrics) == metrics
    want = rbp_metric(scores.double(), labels, persistence=0.9).mean()
    assert report.stages["stage_1"].metrics[metrics[0]].mean == pytest.approx(float(want))


def test_two_spellings_of_one_metric_are_one_metric_twice():
    with pytest.raises(ConfigError, match="metrics must be distinct"):
        settings_with("ndcg@5", "ndcg(k=5)")


@pytest.mark.parametrize("threshold", [1e-5, 1e-3, 1e16, 1e22, 3.0, -2.5e-7])
def test_a_threshold_of_any_size_can_be_read_again(threshold):
    named = named_metric(f"recall(threshold={threshold!r})@10")
    assert named_metric(named.text) == named
    assert named.threshold == threshold


@pytest.mark.parametrize(
    "name", ["map", "mrr", "gauc", "pooled_auc", "rcs", "bias", "absolute_error"]
)
def test_a_name_that_reports_use_cannot_be_registered(name):
    with pytest.raises(ConfigError, match=f"'{name}' is reserved"):
        METRICS.register(name)(lambda scores, labels: scores)


@pytest.mark.parametrize(
    "pair", [("recall@10 >= 3", "recall@10 >= 3.0"), ("map@5", "average_precision@5")]
)
def test_two_spellings_of_a_threshold_or_an_alias_are_one_metric(pair):
    with pytest.raises(ValidationError, match="must be distinct"):
        EvaluationSettings(metrics=pair)
