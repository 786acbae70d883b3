"""RankNet against plain Python."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.losses import ranknet_loss
from tests.losses.strategies import labelled_lists
from tests.oracles.losses import ranknet

BALANCES = ["pairs", "labels"]


@pytest.mark.parametrize("balance", BALANCES)
@given(case=labelled_lists())
@settings(max_examples=60, deadline=None)
def test_agrees_with_plain_python(balance, case):
    scores, labels = case
    got = ranknet_loss(torch.tensor(scores).double(), torch.tensor(labels), balance=balance)
    assert got.item() == pytest.approx(ranknet(scores, labels, balance=balance), rel=1e-12)


@pytest.mark.parametrize("balance", BALANCES)
@given(case=labelled_lists(), shift=st.integers(-9, 9))
@settings(max_examples=20, deadline=None)
def test_order_of_labels_and_differences_of_scores_determine_the_loss(balance, case, shift):
    scores, labels = (torch.tensor(x).double() for x in case)
    got = ranknet_loss(scores + shift, labels.exp(), balance=balance)
    torch.testing.assert_close(got, ranknet_loss(scores, labels, balance=balance))


def test_with_balanced_labels_the_number_of_candidates_has_no_effect():
    scores = torch.tensor([0.0, -1.0, 3.0], dtype=torch.float64)
    labels, repeated = torch.tensor([2, 1, 0]), [*[0] * 50, 1, 2]
    for balance in BALANCES:
        once = ranknet_loss(scores, labels, balance=balance)
        often = ranknet_loss(scores[repeated], labels[repeated], balance=balance)
        assert torch.isclose(once, often) == (balance == "labels")


def test_with_balanced_labels_padding_is_not_a_label():
    scores, labels = torch.tensor([0.0, -1.0, 2.0, 3.0, 5.0]), torch.tensor([2, 1, 1, 0, 0])
    padded = ranknet_loss(scores, labels, balance="labels", mask=torch.arange(5) < 4)
    torch.testing.assert_close(padded, ranknet_loss(scores[:4], labels[:4], balance="labels"))


def test_equal_labels_have_loss_0():
    scores = torch.tensor([1.0, -3.0, 2.0], requires_grad=True)
    for balance in BALANCES:
        value = ranknet_loss(scores, torch.ones(3), balance=balance)
        value.backward()
        assert value == 0
        assert (scores.grad == 0).all()


def test_an_unknown_balance_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'labels'"):
        ranknet_loss(torch.zeros(2), torch.zeros(2), balance="label")
