"""Scores and temperatures of any size come to numbers that can be computed with."""

import pytest
import torch

from cascaderank.sorting.scaling import (
    SMALLEST_SPREAD,
    distance_from,
    distance_from_middle,
    largest_distance,
    positive_temperature,
    slopes_of,
    spread,
)

MOST = largest_distance(torch.float32)


def from_middle(scores, temperature, mask=None):
    mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    return distance_from_middle(scores, scores.new_full(scores.shape[:-1], temperature), mask)


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20, 3e38])
def test_distances_are_in_units_of_the_temperature(size):
    got = from_middle(torch.tensor([-1.0, 0.0, 0.5, 1.0]) * size, 0.5 * size)
    torch.testing.assert_close(got, torch.tensor([-2.0, 0.0, 1.0, 2.0]))


def test_padding_takes_no_part():
    scores, mask = torch.tensor([2.0, 4.0, 0.0]), torch.tensor([True, True, False])
    assert from_middle(scores, 1.0, mask).tolist() == [-2.0, 0.0, 0.0]


@pytest.mark.parametrize("temperature", [1e-10, 1e-30, 1e-38, 1e-45])
def test_candidates_are_fully_separated_at_the_lowest_temperatures(temperature):
    """The bound neither makes them equal nor changes their order."""
    scores = torch.tensor([3.0, -1.0, 1.0, 1.0 + 1e-7, 2.0, 3e38, -3e38])
    got = from_middle(scores, temperature)
    assert got.isfinite().all()
    gaps = got.sort().values.diff()
    assert (gaps >= min(MOST / 2, 1e-7 / temperature / 2)).all()
    assert got.argsort().tolist() == scores.argsort().tolist()


@pytest.mark.parametrize("outlier", [1e6, -1e9, 1e30, -3.4e38])
def test_an_outlier_does_not_affect_the_distances_of_others(outlier):
    scores = torch.randn(40, generator=torch.Generator().manual_seed(0))
    scores[7] = outlier
    got = from_middle(scores, 0.3)
    want = from_middle(scores.double(), 0.3)
    others = torch.arange(40) != 7
    torch.testing.assert_close(got[others].double(), want[others], rtol=1e-6, atol=1e-6)


def test_the_middle_is_above_a_score_that_most_candidates_have():
    best_first = torch.tensor([[4.0, 2.0, 1.0, -1e9, -1e9, -1e9, -1e9], [5.0] * 7])
    slopes, place, _ = slopes_of(best_first, torch.tensor([[7], [7]]), torch.ones(2, 1))
    assert place.tolist() == [[1], [3]]
    assert slopes[0].tolist() == [2.0, 0.0, -1.0] + [-1e9] * 4
    assert slopes[1].tolist() == [0.0] * 7


def test_a_distance_is_bounded_and_the_gradient_finite():
    scores = torch.tensor([3e38, 1.0, -3e38], requires_grad=True)
    temperature = positive_temperature(torch.tensor(0.0))
    got = distance_from(scores, torch.tensor(-3e38), temperature)
    torch.testing.assert_close(got, torch.tensor([MOST, MOST, 0.0]))
    got.sum().backward()
    assert scores.grad.isfinite().all()


def test_the_gradient_takes_the_middle_for_a_constant():
    scores = torch.tensor([1.0, 2.0, 5.0], requires_grad=True)
    (from_middle(scores, 0.5) * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    torch.testing.assert_close(scores.grad, torch.tensor([2.0, 20.0, 200.0]))


@pytest.mark.parametrize("offset", [1e4, -1e6])
def test_an_offset_does_not_change_the_spread(offset):
    scores = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)) * 8 + offset
    every = torch.ones_like(scores, dtype=torch.bool)
    torch.testing.assert_close(
        spread(scores, every).double(), spread(scores.double(), every), rtol=1e-6, atol=0
    )


def test_the_spread_is_the_mean_absolute_deviation_of_what_is_real():
    scores = torch.tensor([[1.0, 2.0, 6.0, 0.0], [3.0, 3.0, 3.0, 3.0]])
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    got = spread(scores, mask)
    torch.testing.assert_close(got, torch.tensor([(2 + 1 + 3) / 3, SMALLEST_SPREAD]))
