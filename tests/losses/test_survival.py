"""The survival loss against plain Python."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.losses import survival_loss, top_k_loss
from cascaderank.sorting import permutation
from tests.oracles.losses import survival

DOUBLE = {"dtype": torch.float64}


@st.composite
def cascades(draw):
    n, stages = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    spaced = st.integers(-8, 8).map(lambda x: x / 4)
    row = st.lists(spaced, min_size=n, max_size=n)
    labels = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    quotas = draw(st.lists(st.integers(1, 14), min_size=stages, max_size=stages))
    scores = [draw(row) for _ in range(stages)]
    return scores, labels, draw(st.integers(1, 14)), sorted(quotas, reverse=True)


@pytest.mark.parametrize("operator", ["neural_sort", "soft_sort"])
@given(case=cascades(), temperature=st.sampled_from([2.0, 50.0]), at_quotas=st.booleans())
@settings(max_examples=40, deadline=None)
def test_agrees_with_plain_python(operator, case, temperature, at_quotas):
    scores, labels, k, quotas = case
    options = {"operator": operator, "temperature": temperature}
    got = survival_loss(
        torch.tensor(scores, **DOUBLE)[:, None],
        torch.tensor([labels]),
        k=k,
        quotas=quotas if at_quotas else None,
        **options,
    )
    cuts = quotas if at_quotas else [min(k, len(labels))] * len(scores)
    want = survival(scores, labels, k, cuts=cuts, **options)
    assert got.item() == pytest.approx(want, rel=1e-6)


def with_gradient(loss, scores):
    return loss, torch.autograd.grad(loss, scores, retain_graph=True)[0]


def some(stages, *, lists=3, length=7):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(stages, lists, length, generator=g, **DOUBLE).requires_grad_()
    return scores, torch.rand(lists, length, generator=g, **DOUBLE)


def test_one_stage_is_the_top_k_loss():
    scores, labels = some(1)
    torch.testing.assert_close(
        with_gradient(survival_loss(scores, labels, k=2), scores),
        with_gradient(top_k_loss(scores[0], labels, k=2), scores),
    )


@pytest.mark.parametrize("quotas", [None, (5, 3, 2)])
def test_the_gradient_is_that_of_the_published_form_without_epsilon(quotas):
    scores, labels = some(3)
    kept, dropped = [], []
    for stage, quota in zip(scores, quotas or (2, 2, 2), strict=True):
        rows = permutation(stage)
        total = rows.sum(-2).detach()
        kept.append(rows[:, :quota].sum(-2) / total)
        dropped.append(rows[:, quota:].sum(-2) / total)
    survived, lost = torch.stack(kept).prod(0), 1 - (1 - torch.stack(dropped)).prod(0)
    targets = torch.zeros_like(labels).scatter(-1, labels.topk(2).indices, 1.0)
    want = -(targets * survived.log() + (1 - targets) * lost.log()).mean()
    got = survival_loss(scores, labels, k=2, quotas=quotas)
    torch.testing.assert_close(with_gradient(got, scores), with_gradient(want, scores))


def test_the_order_of_stages_has_no_effect_at_equal_cut_offs():
    scores, labels = some(3)
    loss, gradient = with_gradient(survival_loss(scores, labels, k=2), scores)
    flipped, flipped_gradient = with_gradient(survival_loss(scores.flip(0), labels, k=2), scores)
    torch.testing.assert_close((flipped, flipped_gradient), (loss, gradient))


def test_a_stage_that_keeps_all_has_no_effect():
    scores, labels = some(2)
    loss, gradient = with_gradient(survival_loss(scores, labels, k=2, quotas=(7, 2)), scores)
    want = survival_loss(scores[1:], labels, k=2, quotas=(2,))
    torch.testing.assert_close(loss, want)
    assert (gradient[0] == 0).all()
    assert gradient[1].any()


def test_a_cascade_that_keeps_all_has_loss_0():
    scores, labels = some(2)
    loss, gradient = with_gradient(survival_loss(scores, labels, k=2, quotas=(9, 7)), scores)
    assert loss == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("quotas", [None, (4, 3)])
def test_a_list_without_ground_truth_has_loss_0_at_any_cut_off(quotas):
    scores, labels = some(2)
    labels[0] = -1.0
    got = survival_loss(scores, labels, threshold=0.0, quotas=quotas, reduction="none")
    assert got[0] == 0
    assert torch.autograd.grad(got[0], scores)[0].eq(0).all()


def test_a_positive_far_below_the_cut_has_gradient_in_every_stage():
    stage = [-400.0, 0.0, 1.0, 2.0]
    scores = torch.tensor([[stage], [stage]], requires_grad=True)
    survival_loss(scores, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), k=1).backward()
    assert (scores.grad[:, 0, 0] < -0.2).all()
    assert scores.grad.abs().max() < 4


def test_a_negative_has_positive_gradient_in_every_stage():
    """Early stages too, although a later stage can drop only what they keep."""
    scores = torch.tensor([[[2.0, 1.0, 0.0]], [[2.0, 0.0, 1.0]]], **DOUBLE).requires_grad_()
    labels = torch.tensor([[1.0, 0.0, 0.0]])
    survival_loss(scores, labels, k=1).backward()
    assert (scores.grad[:, 0, 0] < 0).all()
    assert scores.grad[0, 0, 1] > 0
    assert scores.grad[1, 0, 2] > 0


def test_wrong_quotas_are_refused():
    scores, labels = some(2)
    with pytest.raises(ShapeError, match="one quota per stage"):
        survival_loss(scores, labels, k=2, quotas=(4,))
    with pytest.raises(ConfigError, match="never grow"):
        survival_loss(scores, labels, k=2, quotas=(2, 4))
