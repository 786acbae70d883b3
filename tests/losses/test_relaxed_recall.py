"""The relaxed term of ARF against plain Python."""

from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.losses import relaxed_recall_loss
from cascaderank.relevance import ground_truth
from cascaderank.sorting import permutation
from tests.losses.strategies import labelled_lists
from tests.oracles.losses import relaxed_recall


@pytest.mark.parametrize("operator", ["neural_sort", "soft_sort"])
@given(case=labelled_lists(), m=st.integers(1, 6), k=st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_agrees_with_plain_python(operator, case, m, k):
    scores, labels = case
    options = {"m": m, "operator": operator, "temperature": 2.0}
    got = relaxed_recall_loss(torch.tensor(scores).double(), torch.tensor(labels), k=k, **options)
    assert got.item() == pytest.approx(relaxed_recall(scores, labels, k, **options), rel=1e-9)


def test_the_factor_is_inside_the_logarithm():
    scores = torch.tensor([90.0, 60.0, 30.0, 0.0])  # the permutation is practically hard
    got = relaxed_recall_loss(scores, torch.tensor([3.0, 2.0, 1.0, 0.0]), m=2, k=2)
    assert got.item() == pytest.approx(2 * log(2) / 4)


def test_tiny_probabilities_have_gradient():
    scores = torch.tensor([0.0, 300.0, 400.0], requires_grad=True)
    value = relaxed_recall_loss(scores, torch.tensor([2.0, 1.0, 0.0]), m=1, k=1)
    value.backward()
    assert value > 100
    assert scores.grad[0] < 0 < scores.grad[2]


def test_a_threshold_applies_to_each_list_separately():
    scores = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0], [0.0] * 5])
    got = relaxed_recall_loss(scores, labels, m=3, threshold=0.5, reduction="none")
    assert got[1] == 0
    torch.testing.assert_close(got[0], relaxed_recall_loss(scores[0], labels[0], m=3, k=2))


def test_a_cut_off_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="m must be a positive integer"):
        relaxed_recall_loss(torch.zeros(2), torch.zeros(2), m=0, k=1)


@pytest.mark.parametrize("operator", ["neural_sort", "soft_sort", "odd_even"])
def test_top_m_probability_times_column_sums_equals_the_first_rows(operator):
    """In value and in gradient, against the rows themselves, with padding and ties."""
    g = torch.Generator().manual_seed(3)
    scores = torch.randn(3, 9, generator=g, dtype=torch.float64).round(decimals=1).requires_grad_()
    labels = torch.randint(0, 3, (3, 9), generator=g).double()
    mask = torch.arange(9) < torch.tensor([[9], [6], [3]])
    options = {"operator": operator, "temperature": 0.7, "mask": mask}
    rows = permutation(scores, **options)[:, :4].sum(1) / 4
    targets = ground_truth(labels, k=2, mask=mask)
    want = -(targets * rows.where(mask, 1.0).log()).sum(-1) / mask.sum(-1)
    want = want * torch.tensor([1, 1, 0])  # the third list has fewer than m candidates
    got = relaxed_recall_loss(scores, labels, m=4, k=2, reduction="none", **options)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(x.sum(), scores)[0] for x in (got, want)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
