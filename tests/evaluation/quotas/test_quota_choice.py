"""Costs, the front, and the best quotas, against trying all vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.evaluation.profile import Profile, StageProfile, Timing
from cascaderank.evaluation.quotas import (
    CostTable,
    Goal,
    StageCost,
    choose_quotas,
    latency_costs,
    quota_front,
    quota_recalls,
)
from cascaderank.stages import LookUps, MultiplyAdds
from tests.evaluation.quotas.cases import cascades, funnel, linear, scored
from tests.oracles import quotas as oracle

EACH = ((3.0, 1.0), (5.0, 4.0), (2.0, 9.0), (1.0, 20.0))


@given(cascades(longest=6), st.integers(1, 3), st.floats(0.1, 1.0))
def test_the_best_vector_is_that_of_trying_all(case, last, part):
    requests = scored(case)
    each, lengths = EACH[: requests.stages], requests.lengths.tolist()
    longest = max(requests.longest, last)
    table = CostTable.of(linear(*each), requests.lengths, longest=longest)
    tried = {
        quotas: (
            oracle.cost(each, lengths, quotas),
            oracle.mean_recall(case[0], case[1], quotas),
        )
        for quotas in oracle.vectors(requests.stages, longest, last)
    }
    for quotas, (cost, _) in tried.items():
        assert table.of_quotas(quotas) == pytest.approx(cost)
    low, high = (f(cost for cost, _ in tried.values()) for f in (min, max))
    budget = low + part * (high - low)
    goal = Goal(kind="budget", value=budget)
    found = choose_quotas(requests, table, goal, last=last)
    assert found.exhaustive
    assert found.evaluated == len(tried)
    within = [(recall, -cost) for cost, recall in tried.values() if cost <= budget * (1 + 1e-9)]
    recall = max(within)[0]
    cheapest = min(-c for r, c in within if r >= recall - 1e-9)
    assert (found.best.recall, found.best.cost) == pytest.approx((recall, cheapest))
    assert tried[found.best.quotas] == pytest.approx((found.best.cost, found.best.recall))
    if recall > 0:
        best = choose_quotas(requests, table, Goal(kind="recall", value=recall), last=last).best
        assert best.cost == pytest.approx(cheapest)
    for a, b in zip(found.front, found.front[1:], strict=False):
        assert a.cost < b.cost
        assert a.recall < b.recall
    for cost, recall in tried.values():
        assert any(p.cost <= cost + 1e-9 and p.recall >= recall - 1e-9 for p in found.front)


@pytest.mark.parametrize("budget", [400.0, 700.0, 1500.0])
def test_a_coarse_grid_is_refined_to_the_best_integers(budget):
    requests = funnel(60, 80, (1.5, 0.8, 0.5, 0.3))
    table = CostTable.of(linear(*EACH), requests.lengths, longest=80)
    goal = Goal(kind="budget", value=budget)
    coarse = choose_quotas(requests, table, goal, last=5, values=8)
    fine = choose_quotas(requests, table, goal, last=5, values=40)
    assert not coarse.exhaustive
    assert coarse.evaluated < fine.evaluated / 2
    assert coarse.best.recall == pytest.approx(fine.best.recall, abs=0.015)
    assert max(coarse.best.cost, fine.best.cost) <= budget


def test_a_goal_that_no_vector_reaches_has_no_best():
    requests = funnel(20, 30, (1.0, 0.5))
    table = CostTable.of(linear(*EACH[:2]), requests.lengths, longest=30)
    none = choose_quotas(requests, table, Goal(kind="budget", value=10.0), last=5)
    assert none.best is None
    assert none.front[0].quotas == (5, 5)
    assert choose_quotas(requests, table, Goal(kind="recall", value=1.0), last=1).best is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("budget", value) for value in (0.0, -1.0, np.nan, np.inf)),
        *(("recall", value) for value in (0.0, 1.5, np.nan)),
    ],
)  # fmt: skip
def test_a_goal_is_a_positive_number(kind, value):
    with pytest.raises(ConfigError, match=f"the {kind} must be .*; got {value:g}"):
        Goal(kind=kind, value=value)


def test_a_cost_is_linear_between_its_points_and_beyond():
    cost = StageCost(candidates=(10, 20, 40), costs=(1.0, 2.0, 6.0))
    assert cost.of(np.array([0, 10, 15, 30, 50])).tolist() == [1, 1, 1.5, 4, 8]
    for numbers, costs in (((1,), (1.0,)), ((2, 1), (1.0, 2.0)), ((1, 2), (2.0, 1.0))):
        with pytest.raises(ConfigError, match="at least two ascending numbers"):
            StageCost(candidates=numbers, costs=costs)
    with pytest.raises(ConfigError, match="finite and at least 0"):
        StageCost(candidates=(0, 1), costs=(-1.0, 2.0))
    table = CostTable.of(linear(*EACH[:2]), np.array([3, 9]), longest=9)
    with pytest.raises(ShapeError, match="got 1 quotas for 2 stages"):
        table.of_quotas((3,))


def test_latencies_are_medians_of_single_requests_that_do_not_fall():
    def timing(requests, candidates, p50):
        return Timing(requests=requests, candidates=candidates, calls=9, p50=p50, p99=1.0)

    stage = StageProfile(
        model="MLP",
        parameters=1,
        multiply_adds=MultiplyAdds(0, 1),
        look_ups=LookUps(0, 0),
        timings=(
            timing(1, 10, 0.002),
            timing(1, 20, 0.001),
            timing(1, 40, 0.003),
            timing(8, 10, 9),
        ),
    )
    profile = Profile(stages={"a": stage}, walks=(), history=5, threads=1, machine="here")
    cost = latency_costs(profile)["a"]
    assert cost.candidates == (10, 20, 40)
    assert cost.costs == pytest.approx((1.5, 1.5, 3.0))


def test_the_front_has_no_dominated_vector_and_no_repetition():
    requests = funnel(40, 40, (1.0, 0.5, 0.3))
    table = CostTable.of(linear(*EACH[:3]), requests.lengths, longest=50)
    front = quota_front(quota_recalls(requests, last=5, grids=[np.array([10, 20, 40])]), table)
    for point in front:
        assert table.of_quotas(point.quotas) == pytest.approx(point.cost)
        assert np.nanmean(requests.recall(point.quotas)) == pytest.approx(point.recall)
    assert len({p.quotas for p in front}) == len(front) > 5
    short = CostTable.of(linear(*EACH[:3]), requests.lengths, longest=39)
    recalls = quota_recalls(requests, last=5, grids=[np.array([10, 20, 40])])
    with pytest.raises(ShapeError, match="costs must have quotas up to 40; got 39"):
        quota_front(recalls, short)
