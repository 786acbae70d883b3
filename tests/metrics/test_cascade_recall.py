"""Cascade recall against an oracle too slow to be wrong."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.metrics.cascade_recall import cascade_recall_metric
from cascaderank.metrics.recall import recall_metric


def oracle(scores, labels, quotas, k=None, threshold=None):
    """One list in plain Python, stage by stage."""
    alive = list(range(len(labels)))
    for stage, quota in zip(scores, quotas, strict=True):
        alive = sorted(alive, key=lambda i: (-stage[i], i))[:quota]
    if k is None:
        worth = [float(y >= threshold) for y in labels]
    else:
        best = sorted(labels, reverse=True)[:k]
        worth = [best.count(y) / labels.count(y) for y in labels]
    return sum(worth[i] for i in alive) / sum(worth) if sum(worth) else math.nan


@st.composite
def cascades(draw):
    n = draw(st.integers(1, 40))  # torch happens to sort up to 16 items stably
    stages = draw(st.integers(1, 3))
    row = st.lists(st.integers(-3, 3), min_size=n, max_size=n)  # small range: ties on purpose
    quotas = sorted(draw(st.lists(st.integers(1, 45), min_size=stages, max_size=stages)))[::-1]
    by = draw(st.sampled_from([{"k": draw(st.integers(1, 45))}, {"threshold": 2.0}]))
    return [draw(row) for _ in range(stages)], draw(row), quotas, by


@settings(deadline=None)
@given(cascades())
def test_agrees_with_the_oracle(case):
    scores, labels, quotas, by = case
    got = cascade_recall_metric(
        torch.tensor(scores, dtype=torch.float)[:, None],
        torch.tensor([labels]),
        quotas=quotas,
        **by,
    )
    want = torch.tensor([oracle(scores, labels, quotas, **by)])
    torch.testing.assert_close(got, want, equal_nan=True)


def test_a_cascade_of_one_stage_is_recall():
    g = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(1, 9, 33, generator=g), torch.randn(9, 33, generator=g)
    joint = cascade_recall_metric(scores, labels, quotas=(12,), k=7)
    assert torch.equal(joint, recall_metric(scores[0], labels, m=12, k=7))
    assert 0 < joint.mean() < 1


def test_no_ground_truth_is_undefined_and_not_zero():
    scores, labels = torch.zeros(2, 2, 4), torch.tensor([[0.0, 0, 0, 1], [0, 0, 0, 0]])
    got = cascade_recall_metric(scores, labels, quotas=(2, 1), threshold=1.0)
    assert got[0] == 0
    assert got[1].isnan()


def test_labels_tied_for_the_last_places_share_them():
    # Three candidates tie for one place: each is a third of it, whichever is kept.
    labels = torch.tensor([[5.0, 1.0, 1.0, 1.0]])
    for kept in (1, 2, 3):
        scores = torch.zeros(1, 1, 4)
        scores[..., [0, kept]] = 1
        got = cascade_recall_metric(scores, labels, quotas=(2,), k=2)
        torch.testing.assert_close(got, torch.tensor([(1 + 1 / 3) / 2]))


def test_wrong_arguments_are_told():
    scores, labels = torch.zeros(2, 1, 4), torch.zeros(1, 4)
    with pytest.raises(ShapeError, match="got 1 quotas for 2 stages"):
        cascade_recall_metric(scores, labels, quotas=(2,), k=1)
    with pytest.raises(ConfigError, match="never grow"):
        cascade_recall_metric(scores, labels, quotas=(1, 2), k=1)
    with pytest.raises(ConfigError, match="got neither"):
        cascade_recall_metric(scores, labels, quotas=(2, 1))
