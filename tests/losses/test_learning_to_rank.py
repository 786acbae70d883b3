"""Losses of learning to rank against plain Python."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.losses import (
    _pairs,
    approx_ndcg_loss,
    arf_loss,
    lambda_recall_loss,
    lambdaloss_loss,
    lambdarank_loss,
    listmle_loss,
    listnet_loss,
    neural_ndcg,
    neural_ndcg_loss,
    permutation_loss,
    pirank_loss,
    pointwise_softmax_loss,
    relaxed_recall_loss,
)
from cascaderank.losses._gains import normalised_gains
from cascaderank.metrics import ndcg_metric
from tests.losses.strategies import labelled_lists
from tests.oracles import losses as oracles

CUTS = st.sampled_from([None, 1, 2, 3, 14])
GAINS = st.sampled_from(["exponential", "linear"])


def tensors(case):
    scores, labels = case
    return torch.tensor(scores).double(), torch.tensor(labels)


def close(got, want):
    assert got.item() == pytest.approx(want, rel=1e-9, abs=1e-12)


@given(case=labelled_lists(), m=CUTS, gain=GAINS)
@settings(max_examples=60, deadline=None)
def test_lambdarank(case, m, gain):
    got = lambdarank_loss(*tensors(case), m=m, gain=gain)
    close(got, oracles.lambdarank(*case, m=m, gain=gain))


@given(
    case=labelled_lists(),
    m=CUTS,
    gain=GAINS,
    bound=st.sampled_from(["loss1", "loss2", "loss2++"]),
    mu=st.sampled_from([0.0, 3.0]),
)
@settings(max_examples=100, deadline=None)
def test_lambdaloss(case, m, gain, bound, mu):
    options = {"bound": bound, "m": m, "mu": mu, "gain": gain}
    close(lambdaloss_loss(*tensors(case), **options), oracles.lambdaloss(*case, **options))


@given(case=labelled_lists(), m=st.integers(1, 10), k=st.integers(1, 10))
@settings(max_examples=60, deadline=None)
def test_lambda_recall(case, m, k):
    got = lambda_recall_loss(*tensors(case), m=m, k=k)
    close(got, oracles.lambda_recall(*case, k, m=m))


@given(case=labelled_lists(), temperature=st.sampled_from([0.1, 1.0]), gain=GAINS)
@settings(max_examples=60, deadline=None)
def test_approx_ndcg(case, temperature, gain):
    options = {"temperature": temperature, "gain": gain}
    close(approx_ndcg_loss(*tensors(case), **options), oracles.approx_ndcg(*case, **options))


@given(case=labelled_lists())
@settings(max_examples=60, deadline=None)
def test_listnet_and_listmle(case):
    close(listnet_loss(*tensors(case)), oracles.listnet(*case))
    close(listmle_loss(*tensors(case)), oracles.listmle(*case))


@given(case=labelled_lists(), classes=st.sampled_from([4, 7]))
@settings(max_examples=30, deadline=None)
def test_pointwise_softmax(case, classes):
    got = pointwise_softmax_loss(*tensors(case), classes=classes)
    close(got, oracles.pointwise_softmax(*case, classes=classes))


@given(
    case=labelled_lists(),
    m=CUTS,
    gain=GAINS,
    operator=st.sampled_from(["neural_sort", "soft_sort"]),
    scalings=st.sampled_from([0, 1, 4]),
)
@settings(max_examples=60, deadline=None)
def test_ndcg_of_soft_permutations(case, m, gain, operator, scalings):
    sort = {"operator": operator, "temperature": 1.0}
    want = oracles.soft_ndcg(*case, m=m, gain=gain, scalings=scalings, **sort)
    got = neural_ndcg_loss(*tensors(case), m=m, gain=gain, scalings=scalings, **sort)
    close(got, want)
    if scalings == 0:
        close(pirank_loss(*tensors(case), m=m, gain=gain, **sort), want)


@pytest.mark.parametrize("loss", [approx_ndcg_loss, neural_ndcg_loss, pirank_loss])
def test_losses_at_a_low_temperature_are_one_minus_ndcg(loss):
    g = torch.Generator().manual_seed(3)
    scores = torch.stack([torch.randperm(20, generator=g) for _ in range(5)]).double()
    labels = torch.randint(0, 5, (5, 20), generator=g)
    got = loss(scores, labels, temperature=1e-3, reduction="none")
    torch.testing.assert_close(got, 1 - ndcg_metric(scores, labels))


def test_straight_through_has_the_hard_value_and_the_soft_gradient():
    scores = torch.tensor([0.0, 1.0, 0.5], requires_grad=True)
    labels = torch.tensor([2.0, 1.0, 0.0])
    value = pirank_loss(scores, labels, straight_through=True)
    torch.testing.assert_close(value.detach(), 1 - ndcg_metric(scores.detach(), labels))
    value.backward()
    hard = scores.grad.clone()
    scores.grad = None
    pirank_loss(scores, labels).backward()
    torch.testing.assert_close(hard, scores.grad)
    assert hard.any()


def test_arf_is_the_sum_of_its_parts():
    scores, labels = torch.randn(3, 8).double(), torch.rand(3, 8)
    sort = {"operator": "soft_sort", "temperature": 0.7}
    got = arf_loss(scores, labels, m=4, k=2, weight=0.3, **sort)
    global_loss = permutation_loss(scores, labels, **sort)
    want = relaxed_recall_loss(scores, labels, m=4, k=2, **sort) + 0.3 * global_loss
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (
            lambdaloss_loss,
            {"bound": "loss3"},
            "bound must be one of loss1, loss2, loss2\\+\\+; got .loss3.",
        ),
        (lambdaloss_loss, {"mu": -1.0}, "mu must be"),
        (lambdaloss_loss, {"m": 0}, "m must be a positive integer"),
        (lambdarank_loss, {"m": 0}, "m must be a positive integer"),
        (lambdarank_loss, {"gain": "cubic"}, "no gain called 'cubic'"),
        (lambda_recall_loss, {"m": 0, "k": 1}, "m must be a positive integer"),
        (approx_ndcg_loss, {"temperature": 0.0}, "temperature"),
        (neural_ndcg_loss, {"scalings": -1}, "scalings must be"),
        (neural_ndcg_loss, {"operator": "lap_sum"}, "lap_sum"),
        (pointwise_softmax_loss, {"classes": 0}, "classes must be a positive integer"),
        (arf_loss, {"m": 1, "k": 1, "weight": -0.1}, "weight must be"),
    ],
)
def test_wrong_options_are_refused(loss, options, message):
    with pytest.raises(ConfigError, match=message):
        loss(torch.zeros(2), torch.ones(2), **options)


@pytest.mark.parametrize("entries", [1, 10**9])
@pytest.mark.parametrize("scalings", [1, 4])
def test_gradient_of_sinkhorn_iterations_equals_autograd(scalings, entries, monkeypatch):
    """Rows and columns with a sum near 0 are not scaled, nor is their gradient."""
    monkeypatch.setitem(neural_ndcg._ENTRIES_PER_CHUNK, "cpu", entries)
    g = torch.Generator().manual_seed(0)
    rows = torch.rand(3, 6, 6, generator=g, dtype=torch.float64)
    rows[1, :, 2:], rows[1, 4:] = 0.0, 0.0
    rows[2, :, 1] = 1e-8
    grad_output = torch.randn(3, 6, 6, generator=g, dtype=torch.float64)

    def step_by_step(leaf):
        for _ in range(scalings):
            for axis in (-2, -1):
                sums = leaf.sum(axis, keepdim=True)
                leaf = leaf / torch.where(sums > 1e-6, sums, 1.0)
        return leaf

    results = []
    for function in (lambda leaf: neural_ndcg._Sinkhorn.apply(leaf, scalings), step_by_step):
        leaf = rows.clone().requires_grad_()
        value = function(leaf)
        results.append((value.detach(), *torch.autograd.grad((value * grad_output).sum(), leaf)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pairs", [1, 30, 10**9])
def test_gradient_of_soft_ranks_equals_autograd(pairs, monkeypatch):
    """The lists differ in length and in the number of candidates with a positive gain."""
    monkeypatch.setitem(_pairs._PAIRS_PER_BLOCK, "cpu", pairs)
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 7, generator=g, dtype=torch.float64)
    labels = torch.tensor(
        [[0, 0, 0, 0, 0, 0, 2], [1, 2, 3, 1, 0, 9, 9], [0] * 7, [3, 2, 1, 0, 1, 2, 3]]
    )
    mask = torch.arange(7) < torch.tensor([[7], [5], [7], [6]])
    junk = scores.masked_fill(~mask, torch.nan).requires_grad_()
    leaf = scores.clone().requires_grad_()
    ahead = ((leaf[:, None] - leaf[..., None]) / 0.5).sigmoid() * mask[:, None]
    gains = normalised_gains(labels, gain="linear", m=None, like=scores, mask=mask)
    want = (1 - (gains / (1.5 + ahead.sum(-1)).log2()).sum(-1)) * (gains.sum(-1) > 0)
    got = approx_ndcg_loss(
        junk, labels, temperature=0.5, gain="linear", mask=mask, reduction="none"
    )
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    grad_output = torch.randn(4, generator=g, dtype=torch.float64)
    gradients = (
        torch.autograd.grad(value, scores, grad_output)[0]
        for value, scores in ((got, junk), (want, leaf))
    )
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
