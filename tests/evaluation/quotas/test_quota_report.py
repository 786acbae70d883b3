"""The report on quotas: chosen on some requests, evaluated on others, where the truth is known."""

import json
import math

import numpy as np
import pytest
from rich.console import Console

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.evaluation.quotas import CostTable, Goal, report_quotas
from cascaderank.reports.quota_plot import quota_plot
from cascaderank.reports.quota_tables import quota_tables
from tests.evaluation.quotas.cases import funnel, linear
from tests.oracles import quotas as oracle

NOISE = (1.2, 0.7, 0.3)
COSTS = {"first": (2.0, 1.0), "second": (3.0, 4.0), "last": (5.0, 20.0)}


def costs():
    return dict(zip(COSTS, linear(*COSTS.values()).values(), strict=True))


def report(goal=None, *, present=(20, 10, 4), **options):
    validation = funnel(250, 30, NOISE, k=4, seed=1)
    test = funnel(400, 30, NOISE, k=4, seed=2)
    defaults = {"unit": "products", "bootstrap": 100}
    return validation, test, report_quotas(
        validation, test, costs(), present=present, goal=goal, **{**defaults, **options}
    )  # fmt: skip


def test_the_best_is_within_its_interval_of_the_best_by_exhaustive_evaluation():
    """The truth is the recall over 4,000 other requests of the same distribution."""
    budget = 330.0
    _, _, found = report(Goal(kind="budget", value=budget), bootstrap=300)
    world = funnel(2_000, 30, NOISE, k=4, seed=3)
    vectors = list(oracle.vectors(3, 30, 4))
    recalls = dict(zip(vectors, np.nanmean(world.recalls(vectors), axis=1), strict=True))
    lengths = world.lengths.tolist()
    affordable = [v for v in vectors if oracle.cost(COSTS.values(), lengths, v) <= budget * 1.01]
    best = max(recalls[v] for v in affordable)
    assert found.exhaustive
    assert found.evaluated == len(vectors)
    assert found.best.test.low <= best <= found.best.test.high
    assert recalls[found.best.quotas] > best - 0.01
    assert best - np.median([recalls[v] for v in affordable]) > 0.04, "quotas matter here"


def test_values_of_the_report_are_those_of_the_requests():
    validation, test, found = report()
    assert found.goal == Goal(kind="budget", value=found.present.cost)
    assert found.best.cost <= found.present.cost
    assert found.best.recall >= found.present.recall
    for point in (found.present, found.best, *found.front):
        recall = test.recall(point.quotas)
        assert point.recall == pytest.approx(np.nanmean(validation.recall(point.quotas)))
        assert point.test.mean == pytest.approx(np.nanmean(recall))
        gain = recall - test.recall(found.present.quotas)
        assert point.gain.mean == pytest.approx(np.nanmean(gain))
        assert point.gain.low <= point.gain.mean <= point.gain.high
    assert found.best in found.front
    first, second = found.front[:2]
    rate = (second.recall - first.recall) / (second.cost - first.cost)
    assert found.marginal()[0] == pytest.approx(rate)
    assert math.isnan(found.marginal()[-1])
    frame = found.frame()
    assert frame["kind"].to_list().count("best") == frame["kind"].to_list().count("present") == 1
    assert frame["cost"].is_sorted()
    assert frame.filter(kind="best")["quota/second"].item() == found.best.quotas[1]
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["best"]["quotas"]
    uneven = found.uneven.rule.apply(test, costs())
    assert found.uneven.test.mean == pytest.approx(np.nanmean(uneven.recall))
    assert found.uneven.cost == pytest.approx(uneven.cost.mean())
    gain = found.uneven.test.mean - found.uneven.even.mean
    assert found.uneven.gain.mean == pytest.approx(gain)


def test_uneven_quotas_are_compared_with_even_ones_of_the_same_cost():
    """The even ones are a mixture of two neighbours on the front."""
    _, test, found = report(Goal(kind="budget", value=330.0))
    table = CostTable.of(costs(), test.lengths, longest=test.longest)
    assert found.uneven.budget == pytest.approx(table.of_quotas(found.best.quotas))
    points = [(table.of_quotas(p.quotas), p.test.mean) for p in found.front]
    below = max(recall for cost, recall in points if cost <= found.uneven.cost * 0.97)
    above = min(recall for cost, recall in points if cost >= found.uneven.cost * 1.03)
    assert below - 0.01 <= found.uneven.even.mean <= above + 0.01


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_without_a_stage_the_others_have_the_best_quotas(stage):
    validation, test, found = report(keep=["second"])
    assert set(found.without) == {"first", "last"}
    name = list(COSTS)[stage]
    if name not in found.without:
        return
    each = [cost for n, cost in COSTS.items() if n != name]
    shorter, lengths = validation.without(stage), validation.lengths.tolist()
    vectors = [
        v
        for v in oracle.vectors(2, 30, 4)
        if oracle.cost(each, lengths, v) <= found.goal.value * (1 + 1e-9)
    ]
    best = np.nanmean(shorter.recalls(vectors), axis=1).max() if vectors else None
    point = found.without[name]
    if best is None:
        assert point is None
        return
    assert point.recall == pytest.approx(best)
    recall = test.without(stage).recall(point.quotas)
    assert point.test.mean == pytest.approx(np.nanmean(recall))
    gain = np.nanmean(recall - test.recall(found.best.quotas))
    assert point.gain.mean == pytest.approx(gain)


def test_two_stages_of_which_one_can_be_left_out():
    requests = funnel(60, 30, NOISE[:2])
    two = dict(list(costs().items())[:2])
    found = report_quotas(requests, requests, two, present=(10, 5), unit="ms", bootstrap=0)
    assert found.without["second"].quotas == (5,)
    assert math.isnan(found.best.test.low)


def about(words, found):
    return [note for note in found.notes if words in note]


def test_a_stage_that_should_be_left_out_is_noted():
    _, _, found = report(notes=["a sample"])
    assert found.notes == ("a sample",), "each stage is worth its cost"
    dear = dict(zip(costs(), linear((2, 1), (3, 40), (5, 20)).values(), strict=True))
    requests = funnel(150, 30, NOISE, k=4, seed=1)
    for goal in (None, Goal(kind="recall", value=0.7)):
        found = report_quotas(
            requests, requests, dear, present=(20, 10, 4), unit="ms", goal=goal, bootstrap=0
        )
        (note,) = found.notes
        other, best = found.without["second"], found.best
        cost = (
            f"{other.cost:,.6g} instead of {best.cost:,.6g} ms per request; see 'Without a stage'"
        )
        recall = f"{other.recall:.4f} instead of {best.recall:.4f}"
        assert note == "without second, " + (
            f"the recall on validation is {recall}, for {cost}"
            if goal is None
            else f"the same goal costs {cost}"
        )
        assert other.cost < best.cost


def test_few_validation_requests_are_noted():
    few, test = (funnel(n, 30, NOISE, k=4, seed=n) for n in (99, 100))
    options = {"present": (20, 10, 4), "unit": "ms", "bootstrap": 0}
    (note,) = about("chosen on only", report_quotas(few, test, costs(), **options))
    assert note.startswith("chosen on only 99 validation requests with ground truth")
    assert not about("chosen on only", report_quotas(test, few, costs(), **options))


def test_a_choice_that_does_not_hold_on_the_test_requests_is_noted():
    """In validation the first stage is bad and the second one good; in test, the reverse."""
    validation = funnel(250, 30, (1.2, 0.2, 0.1), k=4, seed=1)
    test = funnel(250, 30, (0.2, 1.2, 0.1), k=4, seed=2)
    for present, goal in ((10, 10, 4), None), ((10, 10, 4), Goal(kind="recall", value=0.5)):
        found = report_quotas(
            validation, test, costs(), present=present, unit="ms", goal=goal, bootstrap=100
        )
        assert found.best.gain.high < 0
        notes = about("the choice did not hold on the test requests", found)
        assert len(notes) == (goal is None), "a lower goal has a lower recall"


def test_goals_that_cannot_be_reached_are_reported_with_the_nearest():
    with pytest.raises(ConfigError, match=r"cost at most 9 multiply-adds per request; the cheapest, 4, 4, 4, cost 12\d\.\d+ multiply-adds, with a recall of 0\.\d{4}; set a larger"):  # fmt: skip
        report(Goal(kind="budget", value=9.0))
    with pytest.raises(ConfigError, match=r"no quotas have a recall of 1 on the validation requests; the highest, 0\.\d+, is that of \d+, \d+, 4, which cost \d+"):  # fmt: skip
        report(Goal(kind="recall", value=1.0))
    requests, million = funnel(20, 30, NOISE), dict.fromkeys("abc", linear((1e6, 1.0))["stage 0"])
    goal = Goal(kind="budget", value=9e5)
    with pytest.raises(ConfigError, match=r"at most 900,000 .*, cost 3,000,0\d\d multiply-adds"):
        report_quotas(requests, requests, million, present=(9, 7, 5), unit="products", goal=goal)
    requests = funnel(20, 30, NOISE[:1])
    one = dict(list(costs().items())[:1])
    with pytest.raises(ConfigError, match="at least two stages"):
        report_quotas(requests, requests, one, present=(5,), unit="ms")
    with pytest.raises(ShapeError, match="got 3 costs for 1 and 1 stages"):
        report_quotas(requests, requests, costs(), present=(9, 7, 5), unit="ms")


@pytest.mark.parametrize("unit", ["products", "ms"])
def test_tables_fit_and_plots_are_drawn(unit):
    pytest.importorskip("matplotlib")
    _, _, found = report(unit=unit, notes=["a sample is used"])
    console = Console(width=80)
    with console.capture() as captured:
        console.print(*quota_tables(found))
    text = captured.get()
    assert max(map(len, text.splitlines())) <= 80
    for words in (
        "present  20 10 4",
        "best",
        "Without a stage",
        "uneven",
        "Note: a sample is used",
    ):
        assert words in text
    assert quota_plot(found, "png").startswith(b"\x89PNG")
    svg = quota_plot(found, "svg")
    assert b"<svg" in svg
    assert svg == quota_plot(found, "svg"), "the same bytes"
