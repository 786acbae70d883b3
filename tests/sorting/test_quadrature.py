"""Quadrature over rows is accurate, and detects when the points are too few."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.sorting._neural_sort import quadrature, streamed, top_k_of_lines
from cascaderank.sorting._neural_sort.quadrature import (
    fewer_points,
    is_resolved,
    points_needed,
    points_of,
)
from tests.sorting.test_streamed import STREAMED, Dense, assert_same, logs_and_gradients

SHAPES = ["normal", "uniform", "outlier", "clusters", "close", "lognormal", "cauchy", "ties"]


def scores_of(shape, lists, length, seed):
    """Scores that are spread evenly, or not at all."""
    g = torch.Generator().manual_seed(seed)
    normal = torch.randn(lists, length, generator=g, dtype=torch.float64)
    uniform = torch.rand(lists, length, generator=g, dtype=torch.float64)
    first = torch.arange(length) == 0
    return {
        "normal": normal,
        "uniform": uniform,
        "outlier": normal * 1e-2 + first,
        "clusters": normal * 1e-2 + (uniform < 0.3),
        "close": normal * 1e-4 + (3 * uniform).floor().square(),
        "lognormal": normal.exp(),
        "cauchy": normal / (uniform - 0.5),
        "ties": (normal * 1.5).round(),
    }[shape]


@given(size=st.integers(1, 60), number=st.integers(2, 60), degree=st.integers(0, 20))
@settings(max_examples=80, deadline=None)
def test_polynomials_are_summed_exactly_up_to_twice_the_points(size, number, degree):
    number = fewer_points(number, size)
    degree = min(degree, 2 * number - 1)
    points = points_of(torch.tensor([size]), number, rows=size, like=torch.zeros(1).double())
    rows = (size - 1 - 2 * torch.arange(size)).double() / size
    want = rows.pow(degree).sum()
    got = (points.weight * (points.place / size).pow(degree)).sum()
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    assert (points.weight > 0).all()
    assert points.place.abs().max() <= max(size - 1, 0)


def test_the_rule_of_one_degree_more_is_wrong():
    points = points_of(torch.tensor([50]), 3, rows=50, like=torch.zeros(1).double())
    rows = (49 - 2 * torch.arange(50)).double() / 50
    got = (points.weight * (points.place / 50).pow(6)).sum()
    assert (got - rows.pow(6).sum()).abs() > 1e-3


def test_groups_of_fewer_rows_than_points_get_their_rows():
    points = points_of(torch.tensor([0, 2, 9]), 4, rows=9, like=torch.zeros(1))
    assert points.weight[0].eq(0).all()
    assert points.weight[1].tolist() == [1, 1, 0, 0]
    assert points.place[1, :2].tolist() == [1, -1]
    torch.testing.assert_close(points.weight.sum(-1), torch.tensor([0.0, 2.0, 9.0]))


@pytest.mark.parametrize("width", [0.5, 5.0, 50.0, 500.0])
def test_functions_that_are_not_smooth_enough_are_detected(width):
    number, rows = 12, 1000
    points = points_of(torch.tensor([rows]), number, rows=rows, like=torch.zeros(1).double())

    def sums(place, weight):
        return weight * (place / rows * width).sigmoid()

    every = rows - 1 - 2 * torch.arange(rows).double()
    want = sums(every, torch.ones(rows)).sum()
    found = (sums(points.place, points.weight)[:, None] * points.polynomial).sum(-1)[..., None]
    error = ((found[0, 0, 0] - want) / want).abs()
    assert is_resolved(found, None) == (width < 1)
    assert error < 1e-13 or width > 1


@pytest.mark.parametrize("small", [top_k_of_lines._SMALL, -1.0])
@given(
    shape=st.sampled_from(SHAPES),
    length=st.sampled_from([40, 150, 300]),
    temperature=st.floats(-1, 4).map(lambda x: 10**x),
    part=st.sampled_from([0.05, 0.25, 0.5, 0.9]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=120, deadline=None)
def test_agrees_with_the_dense_form_for_scores_of_any_shape(
    small, shape, length, temperature, part, seed
):
    scores = scores_of(shape, 2, length, seed)
    case = (
        torch.tensor([max(1, int(part * length)), length // 2]),
        torch.full((2,), temperature, dtype=torch.float64),
        torch.arange(length) < torch.tensor([[length], [length - 7]]),
    )
    want = logs_and_gradients(Dense(), scores, *case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_k_of_lines, "_SMALL", small)
        assert_same(logs_and_gradients(STREAMED, scores, *case), want, 1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [20.0, 300.0, 3000.0])
def test_float32_is_off_by_no_more_than_rounding(shape, temperature):
    scores = scores_of(shape, 2, 1000, 0)
    k, mask = torch.tensor([50, 200]), torch.ones(2, 1000, dtype=torch.bool)
    temperatures = torch.full((2,), temperature, dtype=torch.float64)
    want = logs_and_gradients(Dense(), scores, k, temperatures, mask)
    got = logs_and_gradients(STREAMED, scores.float(), k, temperatures.float(), mask)
    dense = logs_and_gradients(Dense(), scores.float(), k, temperatures.float(), mask)
    # Not the gradient of the temperature: with scores as far apart as these, its sum cancels.
    for one, other, exact in zip(got[:2], dense[:2], want[:2], strict=True):
        error, usual = (one - exact).abs().max(), (other - exact).abs().max()
        assert error <= 3 * usual + 2e-6 * exact.abs().max()


@pytest.mark.parametrize("gap", [0.2, 0.25])
@pytest.mark.parametrize("k", [100, 500])
def test_clusters_are_not_taken_for_smooth_at_the_tolerance_of_float32(monkeypatch, gap, k):
    monkeypatch.setitem(quadrature._TOLERANCE, torch.float64, 1e-7)
    monkeypatch.setattr(
        streamed,
        "points_needed",
        lambda rows, spread, _: points_needed(rows, spread, torch.float32),
    )
    scores = scores_of("normal", 2, 1000, 0) * 1e-6
    scores[:, :333] += 1
    spread = scores.amax(-1) - scores.amin(-1)
    mask = torch.ones_like(scores, dtype=torch.bool)
    case = (scores, torch.full((2,), k), spread / gap, mask)
    for got, want in zip(
        logs_and_gradients(STREAMED, *case), logs_and_gradients(Dense(), *case), strict=True
    ):
        assert (got - want).abs().max() <= 5e-6 * want.abs().max()


def test_an_estimate_that_is_too_low_is_raised(monkeypatch):
    scores = scores_of("normal", 3, 200, 0)
    case = (torch.tensor([10, 50, 199]), torch.tensor([50.0, 100.0, 500.0]).double())
    mask = torch.ones_like(scores, dtype=torch.bool)
    want = logs_and_gradients(STREAMED, scores, *case, mask)
    tried = []

    def low(rows, spread, dtype):
        tried.append(rows)
        return min(3, rows)

    monkeypatch.setattr(top_k_of_lines, "_SMALL", -1.0)  # which needs no points
    monkeypatch.setattr(streamed, "points_needed", low)
    assert_same(logs_and_gradients(STREAMED, scores, *case, mask), want, 1e-12)
    assert tried


def test_long_smooth_lists_take_few_points(monkeypatch):
    monkeypatch.setattr(top_k_of_lines, "_SMALL", -1.0)  # which needs no points
    taken = []

    def note(sizes, number, **options):
        taken.append(number)
        return points_of(sizes, number, **options)

    monkeypatch.setattr(streamed, "points_of", note)
    scores = torch.randn(4, 2000, generator=torch.Generator().manual_seed(0))
    k, mask = torch.full((4,), 100), torch.ones(4, 2000, dtype=torch.bool)
    logs_and_gradients(STREAMED, scores, k, torch.full((4,), 2000.0), mask)
    assert sum(taken) < 30
    taken.clear()
    logs_and_gradients(STREAMED, scores, k, torch.full((4,), 1.0), mask)  # sharp: one point per row
    assert sum(taken) == 2000


def test_the_tolerance_decides(monkeypatch):
    """With no tolerance, all rows are taken, and the numbers are the same."""
    scores = scores_of("normal", 3, 100, 0)
    case = (
        torch.tensor([10, 50, 99]),
        torch.tensor([100.0, 100.0, 500.0]).double(),
        torch.ones_like(scores, dtype=torch.bool),
    )
    monkeypatch.setattr(top_k_of_lines, "_SMALL", -1.0)  # which needs no points
    want = logs_and_gradients(STREAMED, scores, *case)
    monkeypatch.setitem(quadrature._TOLERANCE, torch.float64, 0.0)
    assert_same(logs_and_gradients(STREAMED, scores, *case), want, 1e-12)


def test_scores_that_are_no_numbers_take_all_rows():
    """The trainer reports a loss that is NaN; the operator must not fail before."""
    assert points_needed(10, float("nan"), torch.float32) == 10
