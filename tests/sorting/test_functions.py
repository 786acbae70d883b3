"""Arguments and errors of the public functions of the package."""

import pytest
import torch

from cascaderank import sorting
from cascaderank.errors import ConfigError, ShapeError
from cascaderank.sorting import Operator

SCORES = torch.tensor([0.2, 3.0, 1.0])


class OnlyTopK(Operator):
    """An operator without a permutation, which keeps all candidates with equal probability."""

    def log_top_k(self, scores, k, *, temperature, mask):
        share = (k / mask.sum(-1))[..., None].expand_as(scores)
        return share.log(), torch.log1p(-share)

    def temperature_scale(self, scores, *, mask):
        return torch.ones_like(scores[..., 0])


def test_an_unknown_operator_is_refused_with_the_nearest_name():
    for function in (sorting.permutation, sorting.relative_temperature):
        with pytest.raises(ConfigError, match="did you mean 'neural_sort'"):
            function(SCORES, operator="neurl_sort")
    with pytest.raises(ConfigError, match="did you mean 'soft_sort'"):
        sorting.top_k_probability(SCORES, 1, operator="softsort")


def test_an_operator_of_ones_own_can_be_given():
    kept = sorting.top_k_probability(SCORES, 1, operator=OnlyTopK())
    torch.testing.assert_close(kept, torch.full((3,), 1 / 3))


def test_an_operator_without_a_permutation_is_refused_where_one_is_needed():
    with pytest.raises(ConfigError, match=r"use top_k_probability, or one of .*neural_sort"):
        sorting.permutation(SCORES, operator=OnlyTopK())


def test_scores_must_be_floating_point_and_the_mask_bool():
    with pytest.raises(ShapeError, match="scores must be floating point"):
        sorting.permutation(SCORES.long())
    with pytest.raises(ShapeError, match="mask must be bool"):
        sorting.top_k_probability(SCORES, 1, mask=torch.ones(3))


def test_a_relative_temperature_is_proportional_to_the_scale_of_the_operator():
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0])  # 4 candidates, mean absolute deviation 1
    assert sorting.relative_temperature(scores, 0.5, operator="neural_sort") == 0.5 * 4 * 1
    assert sorting.relative_temperature(3 * scores, 0.5, operator="soft_sort") == 0.5 * 3


def test_a_permutation_is_the_exponential_of_its_logarithm():
    scores = torch.tensor([[0.5, 2.0, -1.0, 9.0], [1.0, 3.0, 9.0, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    logs = sorting.log_permutation(scores, mask=mask)
    torch.testing.assert_close(logs.exp(), sorting.permutation(scores, mask=mask))
    real = mask[:, :, None] & mask[:, None, :]
    assert (logs[~real] == -torch.inf).all()
    far = sorting.log_permutation(torch.tensor([0.0, 500.0]))
    assert far[0, 0] == far[1, 1] == -500
