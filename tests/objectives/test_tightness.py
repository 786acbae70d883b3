"""Tightness is at least 0, and 0 where a stage keeps all that the next one keeps."""

from itertools import pairwise
from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.objectives import AnnealedWeight, build_objective
from cascaderank.objectives._objective import CascadeInputs
from cascaderank.objectives._tightness import make_tightness
from tests.oracles.thresholds import gate, logistic

DOUBLE = {"dtype": torch.float64}


def lcron(stages=2, quotas=(5, 3), **options):
    return build_objective("lcron", stages=stages, quotas=quotas, ground_truth=2, **options)


def term(quotas, temperature=1.0, *, trained="both", relative=False):
    return make_tightness(
        quotas=quotas, temperature=temperature, relative_temperature=relative, trained=trained
    )


def costs(scores, quotas, *, mask=None, **options):
    whole = torch.ones(scores.shape[1:], dtype=torch.bool) if mask is None else mask
    inputs = CascadeInputs(scores, torch.zeros(scores.shape[1:]), whole, None)
    return term(quotas, **options).costs(inputs)


def some(stages=2, lists=3, length=9):
    g = torch.Generator().manual_seed(0)
    return torch.randn(stages, lists, length, generator=g, **DOUBLE)


@st.composite
def cascades(draw):
    n, stages = draw(st.integers(1, 8)), draw(st.integers(2, 3))
    row = st.lists(st.integers(-8, 8).map(lambda x: x / 4), min_size=n, max_size=n)
    quotas = draw(st.lists(st.integers(1, 9), min_size=stages, max_size=stages))
    return [draw(row) for _ in range(stages)], tuple(sorted(quotas, reverse=True))


def oracle(stages, quotas, temperature):
    def kept(scores, quota):
        if quota >= len(scores):
            return [1.0] * len(scores)
        ones = [1] * len(scores)
        return [exp(low) for low, _ in gate(logistic, scores, ones, quota, temperature)]

    probabilities = [kept(s, q) for s, q in zip(stages, quotas, strict=True)]
    total = 0.0
    for earlier, later in pairwise(probabilities):
        total -= log(sum(a * b for a, b in zip(earlier, later, strict=True)) / sum(later))
    return total


@given(case=cascades(), temperature=st.sampled_from([0.1, 1.0, 20.0]))
@settings(max_examples=30, deadline=None)
def test_agrees_with_plain_python(case, temperature):
    stages, quotas = case
    got = costs(torch.tensor(stages, **DOUBLE)[:, None], quotas, temperature=temperature)
    want = torch.tensor([oracle(stages, quotas, temperature)], **DOUBLE)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@given(
    case=cascades(),
    temperature=st.sampled_from([1e-6, 0.1, 1.0, 1e4]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=100, deadline=None)
def test_it_is_at_least_0_and_0_if_the_earlier_stage_keeps_all(case, temperature, dtype):
    stages, quotas = case
    scores = torch.tensor(stages, dtype=dtype)[:, None]
    got = costs(scores, quotas, temperature=temperature)
    assert got.isfinite().all()
    assert (got >= 0).all()
    if min(quotas[:-1]) >= scores.shape[-1]:
        assert (got == 0).all()
    elif temperature >= 1:  # below, what the earlier stage drops is less than rounding
        assert (got > 0).all()


def test_as_the_temperature_decreases_it_is_0_for_nested_sets_only():
    nested = torch.tensor([[[4.0, 3.0, 2.0, 1.0]], [[2.0, 4.0, 1.0, 3.0]]])
    kept = nested * torch.tensor([[[1, 1, 1, -1]]])  # the best of the later stage are kept
    assert costs(kept, (3, 2), temperature=0.02) < 1e-6
    half = costs(nested, (2, 2), temperature=0.02)  # one of the later stage's two is dropped
    torch.testing.assert_close(half.item(), log(2), rtol=1e-6, atol=0)
    none = costs(nested * torch.tensor([1.0, -1.0])[:, None, None], (1, 1), temperature=0.02)
    assert none > 10


@pytest.mark.parametrize("trained", ["both", "earlier"])
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_the_gradient_is_the_derivative_in_the_stages_that_are_trained(trained, temperature):
    scores, options = some(3), {"quotas": (6, 4, 2), "temperature": temperature}
    mask = torch.arange(9) < torch.tensor([[9], [7], [5]])
    options["mask"] = mask
    whole = scores.clone().requires_grad_()
    if trained == "both":
        torch.autograd.gradcheck(lambda x: costs(x, **options), whole)
        return
    value = costs(whole, trained=trained, **options)
    torch.testing.assert_close(value, costs(scores, **options))
    (gradient,) = torch.autograd.grad(value.sum(), whole)
    assert not gradient[2].any()
    # Of an intermediate stage, only the term in which it is the earlier one.
    want = torch.zeros_like(gradient)
    for t in (0, 1):
        pair = scores[t : t + 2].clone().requires_grad_()
        given = {**options, "quotas": options["quotas"][t : t + 2]}
        (both,) = torch.autograd.grad(costs(pair, **given).sum(), pair)
        want[t] = both[0]
    torch.testing.assert_close(gradient, want)


def test_padding_has_no_effect():
    scores = some()
    mask = torch.arange(9) < torch.tensor([[9], [6], [0]])
    got = costs(scores.masked_fill(~mask, torch.nan), (5, 3), mask=mask)
    torch.testing.assert_close(got[1:2], costs(scores[:, 1:2, :6], (5, 3)))
    assert got[2] == 0


@pytest.mark.parametrize("weight", [0.5, AnnealedWeight(start=0.5, end=3.0)])
@pytest.mark.parametrize("relative", [False, True])
def test_lcron_adds_the_weighted_term(weight, relative):
    scores, labels = some(), torch.arange(27.0).view(3, 9)
    options = {"relative_temperature": relative, "temperature": 2.0}
    objective = lcron(tightness=weight, tightness_temperature=0.4, **options).double()
    plain = lcron(**options).double()(scores, labels, progress=0.5)
    out = objective(scores, labels, progress=0.5)
    inputs = CascadeInputs(scores, labels, torch.ones_like(labels).bool(), None)
    added = term((5, 3), 0.4, relative=relative).costs(inputs).mean()
    torch.testing.assert_close(out.terms["tightness"], added)
    factor = 0.5 if isinstance(weight, float) else 1.75
    torch.testing.assert_close(out.total, plain.total + factor * added)
    assert "tightness" not in plain.terms


def test_only_the_earlier_stage_can_be_trained():
    scores, labels = some().requires_grad_(), torch.arange(27.0).view(3, 9)
    out = lcron(tightness=1.0, tightness_trains="earlier")(scores, labels, terms={"tightness"})
    (gradient,) = torch.autograd.grad(out.total, scores)
    assert gradient[0].any()
    assert not gradient[1].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tightness": -1.0}, "tightness must be a finite number of at least 0; got -1"),
        ({"tightness": float("nan")}, "tightness must be a finite number of at least 0; got nan"),
        ({"tightness": 1.0, "stages": 1, "quotas": (3,)}, "tightness needs two stages"),
        ({"tightness": 1.0, "published": True}, "fixes tightness at 0.0; got 1.0"),
        ({"tightness_temperature": 0.0}, "tightness_temperature must be a positive number; got 0"),
        ({"tightness": 1.0, "tightness_trains": "later"}, "tightness_trains"),
        ({"tightness_temperature": 0.4}, "is omitted; got 0.4 and 'both': omit them, or set"),
        ({"tightness_trains": "earlier"}, "is omitted; got 1.0 and 'earlier': omit them, or set"),
        ({"tightness_trains": "earlier", "published": True}, "is omitted; got 1.0 and 'earlier'"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        lcron(**options)
    assert message in str(caught.value)
