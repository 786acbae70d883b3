"""Exposure probabilities: exact for Plackett-Luce stages, and the soft cascade beside them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError, DataError, ShapeError
from cascaderank.evaluation import exposure_probability, soft_exposure_probability
from cascaderank.selection import select
from tests.oracles.off_policy import exposure

DOUBLE = {"dtype": torch.float64}


@st.composite
def cascades(draw):
    n, stages = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    spaced = st.integers(-8, 8).map(lambda x: x / 4)
    row = st.lists(spaced, min_size=n, max_size=n)
    quotas = draw(st.lists(st.integers(1, 5), min_size=stages, max_size=stages))
    noises = draw(st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=stages, max_size=stages))
    return [draw(row) for _ in range(stages)], sorted(quotas, reverse=True), noises


@given(case=cascades(), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_agrees_with_sampling_without_replacement_in_plain_python(case, seed):
    scores, quotas, noises = case
    tensor, draws = torch.tensor(scores, **DOUBLE)[:, None], 4000
    got = exposure_probability(tensor, quotas, noise=noises, draws=draws, seed=seed)[0]
    want = torch.tensor(exposure(scores, quotas, noises), **DOUBLE)
    error = (want * (1 - want) / draws).clamp(min=0).sqrt()
    assert ((got - want).abs() <= 5 * error + 1e-9).all(), (got, want)


def test_one_draw_of_one_place_is_nearly_the_softmax():
    """The noise of a candidate itself is integrated out: the error is below that of counting."""
    scores = torch.linspace(-3, 3, 40, **DOUBLE)[None, None]
    want = scores[0, 0].softmax(-1)
    got = exposure_probability(scores, (1,), draws=2000)[0]
    counting = (want * (1 - want) / 2000).sqrt()
    assert ((got - want).abs() / counting).mean() < 0.5
    assert (got > 0).all()


def test_without_noise_it_is_the_hard_cascade():
    scores = torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(12) < torch.tensor([[12], [9], [5], [2], [0]])
    got = exposure_probability(scores, (8, 5, 2), noise=0.0, mask=mask, draws=1)
    assert torch.equal(got, select(scores, (8, 5, 2), mask)[-1].double())


@pytest.mark.parametrize("function", [exposure_probability, soft_exposure_probability])
def test_sums_are_the_last_quota_and_padding_has_no_effect(function):
    scores = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(9) < torch.tensor([[9], [6], [2], [0]])
    got = function(scores, (5, 3), mask=mask).double()
    torch.testing.assert_close(
        got.sum(-1), torch.tensor([3.0, 3, 2, 0], **DOUBLE), atol=0.1, rtol=0
    )
    assert not got[~mask].any()
    other = scores.masked_fill(~mask, torch.nan)
    assert torch.equal(function(other, (5, 3), mask=mask).double(), got)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_the_soft_cascade_is_near(stages):
    scores = 2 * torch.randn(stages, 10, 60, generator=torch.Generator().manual_seed(stages))
    quotas = (40, 20, 5)[-stages:]
    soft = soft_exposure_probability(scores, quotas).double()
    moved = (soft - exposure_probability(scores, quotas)).abs().sum(-1) / 2 / quotas[-1]
    assert moved.mean() < 0.08


def test_the_soft_cascade_has_a_gradient_in_all_stages():
    scores = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(2), **DOUBLE)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: soft_exposure_probability(s, (4, 2)), (scores,))


def test_the_result_depends_on_the_seed_alone():
    scores = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(3))
    one, same, other = (exposure_probability(scores, (4, 2), seed=s, draws=50) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.dtype is torch.float64


@pytest.mark.parametrize("function", [exposure_probability, soft_exposure_probability])
def test_noise_has_the_precision_of_the_scores(function):
    scores = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(5), **DOUBLE)
    got, want = function(scores / 10, (4, 2), noise=0.1), function(scores, (4, 2))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


def test_draws_are_made_in_parts_of_limited_size(monkeypatch):
    scores = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(4))
    whole = exposure_probability(scores, (4, 2), draws=2000)
    monkeypatch.setattr("cascaderank.evaluation.exposure._AT_ONCE", 100 * scores.numel())
    parts = exposure_probability(scores, (4, 2), draws=2000)
    torch.testing.assert_close(parts, whole, atol=0.06, rtol=0)


@pytest.mark.parametrize("function", [exposure_probability, soft_exposure_probability])
@pytest.mark.parametrize("shape", [(2, 0, 3), (2, 3, 0), (1, 3, 0)])
def test_empty_batches_and_lists_have_no_probabilities(function, shape):
    assert function(torch.zeros(shape), (2, 1)[-shape[0] :]).shape == shape[1:]


def test_infinite_scores_are_ranked_as_in_selection():
    scores = torch.tensor([[[torch.inf, 1.0, -torch.inf, -torch.inf]]])
    got = exposure_probability(scores, (2,), draws=100)
    torch.testing.assert_close(got[0, :2], torch.ones(2, **DOUBLE))
    assert not got[0, 2:].any()


@pytest.mark.parametrize("function", [exposure_probability, soft_exposure_probability])
def test_missing_scores_of_real_candidates_are_refused(function):
    scores = torch.zeros(2, 2, 3)
    scores[1, 0, 2] = scores[1, 1, 0] = torch.nan
    with pytest.raises(DataError, match=r"NaN in stage 1, request 0, candidate 2 \(and 1 more\)"):
        function(scores, (2, 1))


@pytest.mark.parametrize("function", [exposure_probability, soft_exposure_probability])
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"noise": -1.0}, ConfigError, r"noise must be at least 0 and finite; got \[-1.0, -1.0\]"),
        ({"noise": float("nan")}, ConfigError, "noise must be at least 0"),
        ({"noise": np.ones(2)}, ConfigError, r"got ndarray; convert .* by `noise.tolist\(\)`"),
        ({"noise": torch.ones(2)}, ConfigError, "one number per stage; got Tensor; convert"),
        ({"noise": [torch.ones(2)] * 2}, ConfigError, "one number per stage; got list"),
        ({"noise": "10"}, ConfigError, "one number per stage; got str"),
        ({"noise": (1.0,)}, ShapeError, "one number per stage: got 1 for 2"),
        ({"quotas": (2, 3)}, ConfigError, "never grow"),
        ({"scores": torch.zeros(1, 4)}, ShapeError, r"\[stages, batch, list\]; got \[1, 4\]"),
        ({"mask": torch.ones(1, 3).bool()}, ShapeError, "mask must be bool"),
    ],
)
def test_invalid_arguments_are_refused(function, changes, error, message):
    arguments = {"scores": torch.zeros(2, 1, 4), "quotas": (3, 2), "noise": 1.0, "mask": None}
    with pytest.raises(error, match=message):
        function(**(arguments | changes))


def test_draws_and_soft_noise_must_be_positive():
    with pytest.raises(ConfigError, match="draws must be a positive integer; got 0"):
        exposure_probability(torch.zeros(1, 1, 4), (2,), draws=0)
    with pytest.raises(ConfigError, match=r"positive in every stage; got \[0.0, 1.0\]; use expos"):
        soft_exposure_probability(torch.zeros(2, 1, 4), (2, 1), noise=(0.0, 1.0))
