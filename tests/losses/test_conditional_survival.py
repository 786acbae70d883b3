"""Conditional survival: mass equals the quotas, low temperatures give the hard cascade."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.losses import conditional_survival_loss
from cascaderank.losses.conditional_survival import log_mass
from cascaderank.selection import select
from cascaderank.sorting import log_top_k_probability
from tests.oracles.cascades import conditional_survival

DOUBLE = {"dtype": torch.float64}


def some(stages, *, lists=3, length=9, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(stages, lists, length, generator=g, **DOUBLE).to(dtype).requires_grad_()
    return scores, torch.rand(lists, length, generator=g, **DOUBLE).to(dtype)


@st.composite
def cascades(draw):
    n, stages = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    spaced = st.integers(-8, 8).map(lambda x: x / 4)
    row = st.lists(spaced, min_size=n, max_size=n)
    labels = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    quotas = draw(st.lists(st.integers(1, 10), min_size=stages, max_size=stages))
    scores = [draw(row) for _ in range(stages)]
    return scores, labels, draw(st.integers(1, 10)), sorted(quotas, reverse=True)


@given(case=cascades(), temperature=st.sampled_from([0.3, 2.0, 50.0]))
@settings(max_examples=30, deadline=None)
def test_agrees_with_plain_python(case, temperature):
    scores, labels, k, quotas = case
    got = conditional_survival_loss(
        torch.tensor(scores, **DOUBLE)[:, None],
        torch.tensor([labels]),
        k=k,
        quotas=quotas,
        temperature=temperature,
    )
    want = conditional_survival(scores, labels, k, quotas=quotas, temperature=temperature)
    assert got.item() == pytest.approx(want, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("quotas", [(4,), (8, 1), (6, 6, 3), (7, 5, 3, 2, 1), (20, 10, 8, 2)])
@pytest.mark.parametrize("temperature", [1e-30, 0.01, 1.0, 100.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_mass_after_each_stage_is_its_quota(quotas, temperature, dtype, tolerance):
    scores, _ = some(len(quotas), dtype=dtype)
    mask = torch.arange(9) < torch.tensor([[9], [6], [2]])
    mass = log_mass(scores, quotas, temperature, mask).exp() * mask
    want = torch.minimum(mask.sum(-1), torch.tensor(quotas)[:, None]).double()
    torch.testing.assert_close(mass.double().sum(-1), want, rtol=tolerance, atol=0)


@pytest.mark.parametrize("quotas", [(4,), (15, 5), (12, 12, 3), (17, 11, 7, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_a_low_temperature_the_cascade_is_the_hard_one(quotas, dtype):
    scores, _ = some(len(quotas), lists=10, length=20, dtype=dtype)
    mask = torch.arange(20) < torch.arange(20, 0, -2)[:, None]
    mass = log_mass(scores, quotas, 1e-6, mask).exp() * mask
    torch.testing.assert_close(mass, select(scores, quotas, mask).to(dtype))


def test_candidates_dropped_early_do_not_compete_later():
    early = torch.tensor([9.0, 8.0, -9.0, -8.0])
    later = torch.tensor([1.0, 0.0, 50.0, 60.0])
    labels = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    scores = torch.stack([early, later])[:, None]
    both = conditional_survival_loss(scores, labels, quotas=(2, 1), k=1)
    alone = conditional_survival_loss(scores[1:, :, :2], labels[:, :2], quotas=(1,), k=1)
    torch.testing.assert_close(both, alone, rtol=1e-3, atol=0)


@pytest.mark.parametrize("quotas", [(3,), (6, 2), (8, 5, 2)])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 20.0])
def test_the_gradient_is_the_derivative(quotas, temperature):
    scores, labels = some(len(quotas))
    temperatures = torch.tensor([1.0, 0.5, 2.0], **DOUBLE) * temperature
    mask = torch.arange(9) < torch.tensor([[9], [7], [4]])

    def loss(scores, temperatures):
        given = {"quotas": quotas, "k": 3, "mask": mask, "reduction": "none"}
        return conditional_survival_loss(scores, labels, temperature=temperatures, **given)

    torch.autograd.gradcheck(loss, (scores, temperatures.requires_grad_()))


def test_one_stage_is_the_sigmoid_top_k():
    scores, labels = some(1)
    log_kept, _ = log_top_k_probability(scores[0], 4, operator="sigmoid", temperature=0.5)
    best = labels.topk(2).indices
    got = conditional_survival_loss(scores, labels, quotas=(4,), k=2, temperature=0.5)
    torch.testing.assert_close(got, -log_kept.gather(-1, best).mean())


def test_a_stage_that_drops_nothing_has_no_effect():
    scores, labels = some(3)
    got = conditional_survival_loss(scores, labels, quotas=(9, 4, 4), k=2)
    torch.testing.assert_close(
        got, conditional_survival_loss(scores[1:2], labels, quotas=(4,), k=2)
    )
    (gradient,) = torch.autograd.grad(got, scores)
    assert not gradient[[0, 2]].any()
    assert gradient[1].any()


def test_a_list_without_ground_truth_has_loss_0():
    scores, labels = some(2)
    labels[0] = -1.0
    given = {"threshold": 0.0, "quotas": (4, 3), "reduction": "none"}
    got = conditional_survival_loss(scores, labels, **given)
    assert got[0] == 0
    assert (got[1:] > 0).all()
    assert not torch.autograd.grad(got[0], scores)[0].any()


def test_a_positive_far_below_the_cut_has_gradient_in_every_stage():
    stage = [-400.0, 0.0, 1.0, 2.0]
    scores = torch.tensor([[stage], [stage]], requires_grad=True)
    labels = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    conditional_survival_loss(scores, labels, quotas=(3, 2), k=1).backward()
    assert (scores.grad[:, 0, 0] < -0.2).all()
    assert scores.grad.isfinite().all()


def test_wrong_options_are_refused():
    scores, labels = some(2)
    with pytest.raises(ShapeError, match="one quota per stage"):
        conditional_survival_loss(scores, labels, k=2, quotas=(4,))
    with pytest.raises(ConfigError, match="never grow"):
        conditional_survival_loss(scores, labels, k=2, quotas=(2, 4))
    with pytest.raises(ConfigError, match="temperature must be a positive number"):
        conditional_survival_loss(scores, labels, k=2, quotas=(4, 2), temperature=0.0)
