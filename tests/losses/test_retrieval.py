"""BPR and sampled softmax against plain Python, and the sign of the correction."""

from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.losses import bpr_loss, ranknet_loss, sampled_softmax_loss
from cascaderank.objectives import build_objective
from tests.losses.strategies import labelled_lists
from tests.oracles import losses as oracles


@given(case=labelled_lists(), k=st.integers(1, 10))
@settings(max_examples=100, deadline=None)
def test_bpr_agrees_with_plain_python(case, k):
    scores, labels = case
    got = bpr_loss(torch.tensor(scores).double(), torch.tensor(labels), k=k)
    assert got.item() == pytest.approx(oracles.bpr(scores, labels, k), rel=1e-9, abs=1e-12)


@given(case=labelled_lists(), k=st.integers(1, 10), data=st.data())
@settings(max_examples=100, deadline=None)
def test_sampled_softmax_agrees_with_plain_python(case, k, data):
    scores, labels = case
    log_q = [data.draw(st.sampled_from([-3.0, -1.0, -0.5])) for _ in scores]
    tensors = (torch.tensor(scores).double(), torch.tensor(labels))
    got = sampled_softmax_loss(*tensors, k=k, log_q=torch.tensor(log_q))
    want = oracles.sampled_softmax(scores, labels, k, log_q=log_q)
    assert got.item() == pytest.approx(want, rel=1e-9, abs=1e-12)
    even = sampled_softmax_loss(*tensors, k=k, log_q=torch.full((len(scores),), -2.0))
    torch.testing.assert_close(sampled_softmax_loss(*tensors, k=k), even)


def test_bpr_is_ranknet_for_binary_labels():
    g = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(3, 9, generator=g), torch.tensor([1.0, 0, 0, 1, 0, 0, 0, 0, 0])
    labels = labels.expand(3, 9)
    torch.testing.assert_close(bpr_loss(scores, labels, threshold=1), ranknet_loss(scores, labels))


def gradient_at_the_optimum(sign):
    """Return the largest gradient at scores log p, the optimum of the softmax over all items.

    Four items have probabilities p of being positive and sampling probabilities q.
    """
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    counts = torch.tensor([400, 300, 200, 100])  # of 1000 draws from q
    drawn = torch.arange(4).repeat_interleave(counts)
    scores = p.log().requires_grad_()
    lists = torch.stack([torch.cat([torch.tensor([i]), drawn]) for i in range(4)])
    labels = (torch.arange(lists.shape[1]) == 0).double().expand(lists.shape)
    log_q = sign * (counts / 1000).double().log()[lists]
    losses = sampled_softmax_loss(scores[lists], labels, threshold=1, log_q=log_q, reduction="none")
    (gradient,) = torch.autograd.grad((p * losses).sum(), scores)
    return gradient.abs().max()


def test_the_correction_makes_the_softmax_over_all_items_the_optimum():
    assert gradient_at_the_optimum(sign=1) < 2e-3
    assert gradient_at_the_optimum(sign=0) > 0.1, "without a correction"
    assert gradient_at_the_optimum(sign=-1) > 0.2, "with the opposite sign"


def test_frequently_sampled_items_have_a_smaller_gradient():
    scores, labels = torch.zeros(3, requires_grad=True), torch.tensor([1.0, 0.0, 0.0])
    log_q = torch.tensor([log(0.2), log(0.7), log(0.1)])
    sampled_softmax_loss(scores, labels, k=1, log_q=log_q).backward()
    assert 0 < scores.grad[1] < scores.grad[2]


def test_a_correction_without_sampling_probabilities_is_refused():
    scores, labels = torch.zeros(1, 1, 3), torch.tensor([[1.0, 0.0, 0.0]])
    task = {"stages": 1, "quotas": (1,), "ground_truth": 1}
    demanding = build_objective("sampled_softmax", **task, corrected=True)
    with pytest.raises(ConfigError, match="needs the sampling probabilities of the candidates"):
        demanding(scores, labels)
    log_q = torch.tensor([[-1.0, -2.0, -3.0]])
    got = demanding(scores, labels, log_q=log_q).total
    assert got == build_objective("sampled_softmax", **task)(scores, labels, log_q=log_q).total
    plain = build_objective("sampled_softmax", **task, corrected=False)
    assert plain(scores, labels, log_q=log_q).total == plain(scores, labels).total != got
    with pytest.raises(ShapeError, match=r"log_q must be \[batch, list\]"):
        demanding(scores, labels, log_q=log_q[0])
    with pytest.raises(ShapeError, match="log_q must have the shape of scores"):
        sampled_softmax_loss(scores, labels[None], k=1, log_q=log_q)
