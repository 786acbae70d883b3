"""Importance weights of rewards: agreement with plain Python, the policy gradient, bad values."""

from math import exp, inf

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import DataError
from cascaderank.evaluation import ExposureLog
from cascaderank.losses import conditional_survival_loss, inclusion_policy_gradient_loss
from cascaderank.losses.conditional_survival import log_mass
from cascaderank.losses.inclusion_policy_gradient import importance_weights
from tests.oracles.cascades import log_alive

DOUBLE = {"dtype": torch.float64}


@st.composite
def cases(draw):
    n, stages = draw(st.integers(1, 6)), draw(st.integers(1, 3))

    def row(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    scores = [row(st.integers(-8, 8).map(lambda x: x / 4)) for _ in range(stages)]
    quotas = draw(st.lists(st.integers(1, 7), min_size=stages, max_size=stages))
    propensities = row(st.integers(1, 20).map(lambda x: x / 20))
    return scores, sorted(quotas, reverse=True), row(st.integers(-1, 3)), propensities


@given(case=cases(), clip=st.sampled_from([0.5, 2.0, inf]), weighted=st.booleans())
@settings(max_examples=15, deadline=None)
def test_agrees_with_plain_python(case, clip, weighted):
    scores, quotas, rewards, propensities = case
    logs, want = log_alive(scores, quotas, 0.5), 0.0
    for log_kept, reward, propensity in zip(logs, rewards, propensities, strict=True):
        weight = min(clip, exp(log_kept) / propensity) if weighted else 1.0
        want -= weight * reward * log_kept
    got = inclusion_policy_gradient_loss(
        torch.tensor(scores, **DOUBLE)[:, None],
        torch.tensor([rewards]),
        quotas=quotas,
        propensities=torch.tensor([propensities], **DOUBLE) if weighted else None,
        clip=clip,
        temperature=0.5,
    )
    torch.testing.assert_close(got, torch.tensor(want, **DOUBLE), rtol=1e-9, atol=1e-12)


def some(length=7):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, length, generator=g, **DOUBLE)
    rewards = torch.randint(0, 3, (3, length), generator=g).double()
    propensities = torch.rand(3, length, generator=g, **DOUBLE).clamp(min=0.05)
    return scores, rewards, propensities, torch.arange(length) < torch.tensor([[7], [5], [4]])


def test_the_gradient_is_that_of_the_estimate_by_inverse_propensities():
    scores, rewards, propensities, mask = some()
    scores.requires_grad_()
    loss = inclusion_policy_gradient_loss(
        scores, rewards, quotas=(4, 2), propensities=propensities, clip=inf, mask=mask
    )
    kept = log_mass(scores, (4, 2), 1.0, mask)[-1].exp()
    value = (rewards / propensities * kept).masked_fill(~mask, 0.0).sum(-1).mean()
    (got,), (want,) = (torch.autograd.grad(x, scores) for x in (loss, -value))
    torch.testing.assert_close(got, want)


def test_without_clipping_weights_the_gradient_is_the_derivative_at_constant_weights():
    scores, rewards, propensities, mask = some()
    kept = log_mass(scores, (4, 2), 1.0, mask)[-1]
    weights = importance_weights(kept, propensities, clip=1.5, used=mask & (rewards != 0))
    assert (weights == 1.5).any()
    assert weights.max() <= 1.5
    options = {"quotas": (4, 2), "mask": mask, "reduction": "none"}

    def weighted(scores):
        return inclusion_policy_gradient_loss(scores, weights * rewards, **options)

    whole = scores.clone().requires_grad_()
    torch.autograd.gradcheck(weighted, whole)
    given = {"propensities": propensities, "clip": 1.5}
    value = inclusion_policy_gradient_loss(whole, rewards, **given, **options)
    torch.testing.assert_close(value, weighted(scores))
    (got,), (want,) = (
        torch.autograd.grad(x.sum(), whole, retain_graph=True) for x in (value, weighted(whole))
    )
    torch.testing.assert_close(got, want)


def test_without_propensities_it_is_conditional_survival_of_the_rewards():
    scores, _, _, mask = some()
    rewards = torch.arange(7).flip(0).double().expand(3, 7)
    truth = (rewards >= 5).double()  # the first two
    options = {"quotas": (4, 2), "mask": mask, "reduction": "none"}
    got = inclusion_policy_gradient_loss(scores, truth, **options)
    want = conditional_survival_loss(scores, rewards, threshold=5.0, **options)
    torch.testing.assert_close(got, 2 * want)


def test_a_list_without_rewards_costs_0_and_has_no_gradient():
    scores, rewards, propensities, mask = some()
    rewards[1] = 0
    scores.requires_grad_()
    values = inclusion_policy_gradient_loss(
        scores, rewards, quotas=(4, 2), propensities=propensities, mask=mask, reduction="none"
    )
    (gradient,) = torch.autograd.grad(values.sum(), scores)
    assert values[1] == 0
    assert not gradient[:, 1].any()
    assert gradient[:, 0].any()


@pytest.mark.parametrize(("weighted", "best"), [(False, 0), (True, 1)])
def test_propensities_correct_for_what_the_log_shows_more_often(weighted, best):
    """The log shows candidate 0, of reward .5, nine times as often as candidate 1, of reward 1."""
    rewards = torch.zeros(10, 3)
    rewards[:9, 0], rewards[9, 1] = 0.5, 1.0
    propensities = torch.tensor([0.9, 0.1, 0.0]).expand(10, 3)  # 0 is not read without reward
    scores = torch.zeros(2, 3, requires_grad=True)
    optimizer = torch.optim.SGD([scores], lr=0.5)
    for _ in range(200):
        loss = inclusion_policy_gradient_loss(
            scores[:, None].expand(2, 10, 3),
            rewards,
            quotas=(2, 1),
            propensities=propensities if weighted else None,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert scores[1].argmax() == best
    kept = log_mass(scores.detach()[:, None], (2, 1), 1.0, torch.ones(1, 3).bool())[-1].exp()
    assert kept[0, best] > 0.6


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1e-50, 1.5, float("nan"), inf])
def test_propensities_out_of_range_are_refused_where_there_is_a_reward(wrong):
    scores, rewards, propensities, mask = some()
    mask = mask.clone()
    mask[1, 5] = False
    rewards[1] = torch.tensor([0.0, 0.0, 2.0, 0.0, 0.0, 1.0, 1.0])
    options = {"quotas": (4, 2), "mask": mask}
    unread = propensities.clone()
    unread[1, [0, 1, 5]] = wrong  # no reward, and padding
    want = inclusion_policy_gradient_loss(scores, rewards, propensities=propensities, **options)
    got = inclusion_policy_gradient_loss(scores, rewards, propensities=unread, **options)
    assert got == want
    unread[1, 2] = wrong
    with pytest.raises(DataError) as caught:
        inclusion_policy_gradient_loss(scores, rewards, propensities=unread, **options)
    message = str(caught.value)
    assert message.startswith("propensities must be from 1e-12 to 1 for exposed candidates")
    assert f"got {wrong:g} in row 1, candidate 2; log the probability" in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_limits_of_propensities_are_those_of_the_log(dtype):
    """Both accept what float32 rounds up to above 1, and neither divides by what it rounds to 0."""
    scores, rewards = torch.zeros(1, 1, 2), torch.tensor([[1.0, 0.0]])

    def accepted(value):
        propensities = torch.tensor([[value, 0.5]], dtype=dtype)
        options = {"propensities": propensities, "quotas": (1,), "clip": inf}
        try:
            loss = inclusion_policy_gradient_loss(scores, rewards, **options)
        except DataError:
            loss = None
        try:
            ExposureLog(rewards=rewards, exposed=rewards > 0, propensities=propensities)
        except DataError:
            assert loss is None
            return False
        assert loss is not None
        assert loss.isfinite()
        return True

    assert [accepted(x) for x in (1 + 5e-7, 1.0, 1e-6)] == [True] * 3
    assert [accepted(x) for x in (1.01, 1e-13, 1e-50)] == [False] * 3
