"""The top-k loss against plain Python."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.losses import top_k_loss
from cascaderank.sorting import permutation
from tests.oracles.losses import stage_top_k


@st.composite
def lists(draw):
    n = draw(st.integers(1, 12))
    spaced = st.integers(-8, 8).map(lambda x: x / 4)
    scores = draw(st.lists(spaced, min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return scores, labels, draw(st.integers(1, 14))


@pytest.mark.parametrize("operator", ["neural_sort", "soft_sort"])
@given(case=lists(), temperature=st.sampled_from([2.0, 50.0]))
@settings(max_examples=40, deadline=None)
def test_agrees_with_plain_python(operator, case, temperature):
    scores, labels, k = case
    options = {"operator": operator, "temperature": temperature}
    got = top_k_loss(
        torch.tensor(scores, dtype=torch.float64), torch.tensor(labels), k=k, **options
    )
    assert got.item() == pytest.approx(stage_top_k(scores, labels, k, **options), rel=1e-6)


def test_a_threshold_cuts_each_list_at_its_own_number_of_positives():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 8, generator=g, dtype=torch.float64)
    labels = torch.tensor([[1.0] * 2 + [0.0] * 6, [1.0] * 5 + [0.0] * 3, [0.0] * 8])
    got = top_k_loss(scores, labels, threshold=0.5, reduction="none")
    want = [top_k_loss(scores[i], labels[i], k=k) for i, k in enumerate((2, 5))]
    torch.testing.assert_close(got, torch.stack([*want, torch.zeros(()).double()]))


@pytest.mark.parametrize("k", [5, 6, 100])
def test_a_list_that_is_kept_whole_has_loss_0(k):
    scores = torch.randn(5, requires_grad=True)
    value = top_k_loss(scores, torch.arange(5.0), k=k)
    value.backward()
    assert value == 0
    assert (scores.grad == 0).all()


def test_the_gradient_is_that_of_the_published_form_without_epsilon():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(6, generator=g, dtype=torch.float64, requires_grad=True)
    labels = torch.rand(6, generator=g, dtype=torch.float64)
    rows = permutation(scores)
    total = rows.sum(0).detach()
    kept, dropped = rows[:2].sum(0) / total, rows[2:].sum(0) / total
    targets = torch.zeros(6).double().scatter(0, labels.topk(2).indices, 1.0)
    want = -(targets * kept.log() + (1 - targets) * dropped.log()).mean()
    got = top_k_loss(scores, labels, k=2)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, scores), torch.autograd.grad(want, scores))


def test_a_positive_far_below_the_cut_has_gradient():
    """A clamped probability would have none there: the reason for log space."""
    scores = torch.tensor([-400.0, 0.0, 1.0, 2.0], requires_grad=True)
    top_k_loss(scores, torch.tensor([1.0, 0.0, 0.0, 0.0]), k=1).backward()
    assert scores.grad[0] < -0.2
    assert scores.grad.abs().max() < 4


def test_a_missing_or_invalid_ground_truth_is_refused():
    scores = labels = torch.zeros(3)
    for options in ({}, {"k": 0}, {"k": -1}):
        with pytest.raises(ConfigError, match=r"k must be a positive integer|ground truth"):
            top_k_loss(scores, labels, **options)
