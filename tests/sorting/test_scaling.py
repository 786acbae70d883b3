"""Scores and temperatures of any size come to numbers that can be computed with."""

import pytest
import torch

from cascaderank.sorting.scaling import SMALLEST_SPREAD, scale_lists, spread


def scaled(scores, temperature, mask=None):
    mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    return scale_lists(scores, scores.new_full(scores.shape[:-1], temperature), mask)


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20, 3e38])
def test_scores_come_to_lie_between_minus_one_and_one(size):
    unit, _ = scaled(torch.tensor([-1.0, 0.0, 0.5, 1.0]) * size, 1.0)
    torch.testing.assert_close(unit, torch.tensor([-1.0, 0.0, 0.5, 1.0]))


def test_unit_times_gain_is_the_centred_score_over_the_temperature():
    unit, gain = scaled(torch.tensor([2.0, 5.0, 8.0]), 0.5)
    torch.testing.assert_close(unit * gain, torch.tensor([-6.0, 0.0, 6.0]))


def test_padding_takes_no_part():
    scores, mask = torch.tensor([2.0, 4.0, 0.0]), torch.tensor([True, True, False])
    unit, gain = scaled(scores, 1.0, mask)
    assert unit.tolist() == [-1.0, 1.0, 0.0]
    assert gain.item() == 1.0


def test_the_gain_stops_where_the_sort_is_hard():
    assert (
        scaled(torch.tensor([0.0, 2.0]), 1e-30).gain == scaled(torch.tensor([0.0, 2.0]), 1e-38).gain
    )
    assert scaled(torch.tensor([0.0, 2.0]), 1e-6).gain == pytest.approx(1e6)


def test_the_gradient_takes_centre_and_range_for_constants():
    scores = torch.tensor([1.0, 2.0, 5.0], requires_grad=True)
    unit, gain = scaled(scores, 0.5)
    (unit * gain * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    torch.testing.assert_close(scores.grad, torch.tensor([2.0, 20.0, 200.0]))


def test_the_spread_is_the_mean_absolute_deviation_of_what_is_real():
    scores = torch.tensor([[1.0, 2.0, 6.0, 0.0], [3.0, 3.0, 3.0, 3.0]])
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    got = spread(scores, mask)
    torch.testing.assert_close(got, torch.tensor([(2 + 1 + 3) / 3, SMALLEST_SPREAD]))
