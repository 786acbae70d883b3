"""The lambda loss for NDCG against plain Python."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.losses import lambda_ndcg_loss
from tests.losses.strategies import labelled_lists
from tests.oracles.losses import lambda_ndcg


@given(case=labelled_lists(), m=st.sampled_from([None, 1, 2, 3, 14]))
@settings(max_examples=80, deadline=None)
def test_agrees_with_plain_python(case, m):
    scores, labels = case
    got = lambda_ndcg_loss(torch.tensor(scores).double(), torch.tensor(labels), m=m)
    assert got.item() == pytest.approx(lambda_ndcg(scores, labels, m=m), rel=1e-12)


@given(case=labelled_lists(), unit=st.sampled_from([0.5, 8.0]), origin=st.integers(-9, 9))
@settings(max_examples=20, deadline=None)
def test_unit_and_origin_of_labels_have_no_effect(case, unit, origin):
    scores, labels = (torch.tensor(x).double() for x in case)
    got = lambda_ndcg_loss(scores, unit * labels + origin)
    torch.testing.assert_close(got, lambda_ndcg_loss(scores, labels))


def test_equal_scores_receive_gradient():
    scores = torch.zeros(4, requires_grad=True)
    lambda_ndcg_loss(scores, torch.tensor([3.0, 2.0, 1.0, 0.0])).backward()
    assert scores.grad[0] < 0 < scores.grad[3]


def test_pairs_beyond_the_cut_off_have_no_weight():
    scores = torch.tensor([9.0, 8.0, 2.0, 1.0], requires_grad=True)
    lambda_ndcg_loss(scores, torch.tensor([3.0, 3.0, 0.0, 1.0]), m=1).backward()
    inside = torch.tensor([9.0, 2.0, 1.0], requires_grad=True)
    assert scores.grad[1] == 0, "rank 2, with the label of rank 1"
    lambda_ndcg_loss(inside, torch.tensor([3.0, 0.0, 1.0]), m=1).backward()
    assert inside.grad[0] < 0


@pytest.mark.parametrize("m", [0, -1, 1.5, True])
def test_a_cut_off_out_of_range_is_refused(m):
    with pytest.raises(ConfigError, match="m must be a positive integer"):
        lambda_ndcg_loss(torch.zeros(2), torch.zeros(2), m=m)
