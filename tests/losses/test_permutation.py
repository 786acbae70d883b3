"""The cross-entropy of permutations against plain Python."""

import pytest
import torch
from hypothesis import given, settings

from cascaderank.losses import permutation_loss
from tests.losses.strategies import labelled_lists
from tests.oracles.losses import permutation


@pytest.mark.parametrize("operator", ["neural_sort", "soft_sort"])
@given(case=labelled_lists())
@settings(max_examples=60, deadline=None)
def test_agrees_with_plain_python(operator, case):
    scores, labels = case
    options = {"operator": operator, "temperature": 2.0}
    got = permutation_loss(torch.tensor(scores).double(), torch.tensor(labels), **options)
    assert got.item() == pytest.approx(permutation(scores, labels, **options), rel=1e-9)


def test_only_the_order_of_labels_has_an_effect():
    scores = torch.randn(9, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.tensor([3.0, 0.0, 0.0, 1.0, 2.0, 2.0, 5.0, 4.0, 0.0]).double()
    torch.testing.assert_close(
        permutation_loss(scores, labels), permutation_loss(scores, labels.exp())
    )


def test_labels_with_small_differences_are_distinguished():
    """A soft permutation of labels would need a temperature for each scale of labels."""
    scores = torch.tensor([3.0, 2.0, 1.0])
    labels = torch.tensor([0.5 + 2e-7, 0.5 + 1e-7, 0.5])
    assert (labels.diff() < 0).all()
    torch.testing.assert_close(
        permutation_loss(scores, labels), permutation_loss(scores, torch.tensor([2.0, 1.0, 0.0]))
    )


def test_equal_labels_have_loss_0():
    scores = torch.tensor([1.0, -3.0, 2.0], requires_grad=True)
    value = permutation_loss(scores, torch.ones(3))
    value.backward()
    assert value == 0
    assert (scores.grad == 0).all()
