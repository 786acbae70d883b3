"""Cut likelihood: thresholds are optimal, mass equals the quotas, cuts are those of the labels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.losses import cut_likelihood_loss
from cascaderank.losses._cuts import find_cuts
from cascaderank.losses.cut_likelihood import _entering_mass, cut_likelihood_costs
from tests.oracles.cuts import cut_likelihood, sizes_of

DOUBLE = {"dtype": torch.float64}


def some(stages, *, lists=3, length=9, grades=4):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(stages, lists, length, generator=g, **DOUBLE)
    mask = torch.arange(length) < torch.tensor([length, length - 2, 4])[:lists, None]
    return scores, torch.randint(0, grades, (lists, length), generator=g), mask


@st.composite
def cascades(draw):
    n, stages = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    row = st.lists(st.integers(-8, 8).map(lambda x: x / 4), min_size=n, max_size=n)
    labels = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    quotas = draw(st.lists(st.integers(1, 10), min_size=stages, max_size=stages))
    cuts = draw(st.just("labels") | st.lists(st.integers(1, 10), min_size=1, max_size=4))
    return [draw(row) for _ in range(stages)], labels, sorted(quotas, reverse=True), cuts


@given(case=cascades(), temperature=st.sampled_from([0.25, 2.0, 50.0]))
@settings(max_examples=60, deadline=None)
def test_agrees_with_plain_python(case, temperature):
    scores, labels, quotas, cuts = case
    options = {"quotas": quotas, "cuts": cuts, "temperature": temperature}
    got = cut_likelihood_costs(
        torch.tensor(scores, **DOUBLE)[:, None],
        torch.tensor([labels]),
        mask=torch.ones(1, len(labels), dtype=torch.bool),
        **options,
    )
    want = cut_likelihood(scores, labels, **options)
    torch.testing.assert_close(got[:, 0], torch.tensor(want, **DOUBLE), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("spread", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_gradient_of_a_stage_is_the_derivative_of_its_term(stage, spread):
    """Thresholds minimise the term, so the gradient at constant thresholds is exact."""
    scores, labels, mask = some(3)
    options = {"quotas": (7, 5, 3), "cuts": "labels", "temperature": 0.25 * spread, "mask": mask}

    def term(of_stage):
        whole = scores.index_copy(0, torch.tensor([stage]), of_stage[None])
        return cut_likelihood_costs(whole * spread, labels, **options)[stage]

    torch.autograd.gradcheck(term, scores[stage].clone().requires_grad_())


def test_terms_of_later_stages_have_no_gradient_for_earlier_ones():
    scores, labels, mask = some(2)
    scores.requires_grad_()
    options = {"quotas": (5, 3), "cuts": "labels", "temperature": 1.0, "mask": mask}
    (gradient,) = torch.autograd.grad(
        cut_likelihood_costs(scores, labels, **options)[1].sum(), scores
    )
    assert not gradient[0].any()
    assert gradient[1].any()


@pytest.mark.parametrize("spread", [0.1, 10.0, 1e4, 1e8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_gradients_of_a_list_add_up_to_zero(spread, dtype, tolerance):
    """This is the equation of the thresholds: errors on both sides of each cut balance."""
    g = torch.Generator().manual_seed(1)
    scores = (torch.randn(2, 50, 40, generator=g, **DOUBLE) * spread).to(dtype).requires_grad_()
    labels = torch.randint(0, 5, (50, 40), generator=g)
    loss = cut_likelihood_loss(scores, labels, quotas=(20, 10), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, scores)
    assert gradient.sum(-1).abs().max() <= tolerance * gradient.abs().sum(-1).max()


@pytest.mark.parametrize("quotas", [(4, 2), (8, 1), (6, 6, 3), (7, 5, 3, 2, 1), (20, 10, 8, 2)])
@pytest.mark.parametrize("temperature", [1e-6, 0.25, 100.0])
def test_the_mass_that_enters_a_stage_is_the_quota_before_it(quotas, temperature):
    scores, _, mask = some(len(quotas))
    taus = torch.full(scores.shape[:2], temperature, **DOUBLE)
    mass = _entering_mass(scores.permute(2, 0, 1), quotas, taus, mask.T).permute(1, 2, 0)
    want = torch.minimum(mask.sum(-1), torch.tensor([9, *quotas[:-1]])[:, None]).cummin(0).values
    torch.testing.assert_close(mass.sum(-1), want.double(), rtol=1e-9, atol=0)
    assert not mass[:, ~mask].any()


@pytest.mark.parametrize("place", [0, 5])
def test_outliers_of_the_size_of_float32_do_not_move_the_thresholds_of_others(place):
    g = torch.Generator().manual_seed(13)
    scores = torch.randn(3, 4, 40, generator=g) * 1e-3
    scores[..., place : place + 3] = -3.4e38
    labels = torch.randint(1, 5, (4, 40), generator=g)
    labels[:, place : place + 3] = 0
    options = {"quotas": (20, 10, 5), "temperature": 1e-3}
    got, want = (cut_likelihood_loss(s, labels, **options) for s in (scores, scores.double()))
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=0)


def test_candidates_dropped_early_do_not_compete_later():
    early = torch.tensor([9.0, 8.0, -9.0, -8.0], **DOUBLE)
    later = torch.tensor([1.0, 0.0, 50.0, 60.0], **DOUBLE)
    labels = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    options = {"cuts": (1,), "temperature": 0.25}
    mask = torch.ones(1, 4, dtype=torch.bool)
    both = cut_likelihood_costs(
        torch.stack([early, later])[:, None], labels, quotas=(2, 1), mask=mask, **options
    )
    alone = cut_likelihood_costs(
        later[None, None, :2], labels[:, :2], quotas=(1,), mask=mask[:, :2], **options
    )
    torch.testing.assert_close(both[1] * 4, alone[0] * 2, rtol=1e-6, atol=0)  # means of lists


@pytest.mark.parametrize(
    ("labels", "cuts", "sizes"),
    [
        ([3, 2, 1, 0], "labels", [1, 2, 3]),
        ([0, 1, 2, 3], (2,), [2]),
        ([1, 1, 1, 0, 0, 0], (1, 2, 4, 5), [3]),
        ([5, 4, 4, 4, 4, 0], (2, 3, 4), [1, 5]),  # 3 is as far from 1 as from 5
        ([5, 4, 4, 4, 0], (3,), [4]),
        ([1, 0], (2, 9), []),
        ([1, 1, 1], (1, 2), []),
        ([1, 1, 1], "labels", []),
        ([7], "labels", []),
    ],
    ids=str,
)
def test_cuts_are_between_different_labels(labels, cuts, sizes):
    assert sizes_of(labels, cuts) == sizes, "the oracle"
    padded = torch.tensor([[*labels, 99]])
    mask = torch.arange(len(labels) + 1) < len(labels)
    found = find_cuts(padded, cuts, mask=mask[None])
    upper, region = found.upper[..., 0].sum(0), (found.lower + found.upper)[..., 0].sum(0)
    assert sorted(int(k) for k in upper if k) == sizes
    assert sorted(int(n) for n in region if n) == [*sizes[1:], len(labels)][: len(sizes)]
    assert found.number.tolist() == [len(sizes)]


def test_sizes_may_differ_between_lists():
    scores, labels, mask = some(2, grades=100)
    options = {"quotas": (5, 3), "mask": mask, "reduction": "none"}
    sizes = torch.tensor([[4, 1], [0, 2], [3, 50]])
    got = cut_likelihood_loss(scores, labels, cuts=sizes, **options)
    for row, own in enumerate([(1, 4), (2,), (3,)]):
        want = cut_likelihood_loss(scores, labels, cuts=own, **options)
        torch.testing.assert_close(got[row], want[row])


def test_a_list_without_cuts_has_loss_0():
    scores, labels, _ = some(2)
    labels[0] = 1
    scores.requires_grad_()
    got = cut_likelihood_loss(scores, labels, quotas=(4, 3), reduction="none")
    assert got[0] == 0
    assert (got[1:] > 0).all()
    assert not torch.autograd.grad(got[0], scores)[0].any()


def test_too_many_distinct_labels_are_refused_with_the_remedy():
    scores = torch.zeros(1, 1, 70)
    labels = torch.arange(70)[None]
    with pytest.raises(
        ConfigError, match=r"at most 65 distinct labels; got a list of 70; give sizes"
    ):
        cut_likelihood_loss(scores, labels, quotas=(5,))
    assert cut_likelihood_loss(scores, labels, quotas=(5,), cuts=(10, 20)) > 0


def test_a_perfect_order_costs_nothing_at_a_low_temperature():
    labels = torch.tensor([[3, 2, 1, 0, 0]])
    scores = labels.double().expand(2, 1, -1)
    assert cut_likelihood_loss(scores, labels, quotas=(3, 1), temperature=0.01) < 1e-12
    assert cut_likelihood_loss(-scores, labels, quotas=(3, 1), temperature=0.01) > 10
