"""Fates of candidates agree with a plain walk through the cascade."""

import math

import hypothesis.strategies as st
import torch
from hypothesis import given

from cascaderank.evaluation import attribute, fates


def walk(stages, quotas):
    """Rank, margin in ranks, margin in scores of each candidate in each stage; the cutting stage."""
    alive, found = list(range(len(stages[0]))), []
    cut_by = [len(stages)] * len(alive)
    for t, (scores, quota) in enumerate(zip(stages, quotas, strict=True)):
        order = sorted(alive, key=lambda i: (-scores[i], i))
        own = {}
        for place, i in enumerate(order):
            across = None
            if len(order) > quota:
                across = order[quota] if place < quota else order[quota - 1]
            distance = math.nan if across is None else scores[i] - scores[across]
            own[i] = (place + 1, quota - place - 1, distance)
        for i in order[quota:]:
            cut_by[i] = t
        found.append(own)
        alive = order[:quota]
    return found, cut_by


@st.composite
def cascades(draw):
    n, stages = draw(st.integers(1, 25)), draw(st.integers(1, 3))
    row = st.lists(st.integers(-3, 3).map(float), min_size=n, max_size=n)
    quotas = sorted(draw(st.lists(st.integers(1, 28), min_size=stages, max_size=stages)))[::-1]
    return [draw(row) for _ in range(stages)], quotas, draw(st.integers(0, 4))


@given(cascades())
def test_fates_are_those_of_a_plain_walk(case):
    stages, quotas, padding = case
    scores = torch.tensor(stages)[:, None]
    size = scores.shape[-1]
    padded = torch.cat([scores, torch.full((*scores.shape[:2], padding), 9.0)], -1)
    mask = torch.arange(size + padding)[None] < size
    found, (expected, cut_by) = fates(padded, quotas, mask), walk(stages, quotas)
    assert found.cut_by[0].tolist() == cut_by + [0] * padding
    for t, own in enumerate(expected):
        for i in range(size + padding):
            assert bool(found.received[t, 0, i]) == (i in own)
            rank, below, distance = own.get(i, (0, 0, math.nan))
            assert int(found.ranks[t, 0, i]) == rank
            assert int(found.rank_margins[t, 0, i]) == below
            margin = float(found.score_margins[t, 0, i])
            assert margin == distance or (math.isnan(margin) and math.isnan(distance))


def test_infinite_scores_have_a_distance():
    scores = torch.tensor([[[torch.inf, 1.0, -torch.inf, -torch.inf]]])
    found = fates(scores, (3,))
    assert found.score_margins[0, 0].tolist() == [torch.inf, torch.inf, 0.0, 0.0]


def test_ranks_below_the_quota_are_those_of_the_attribution():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 40, 12, generator=g)
    labels = torch.rand(40, 12, generator=g)
    found = fates(scores, (6, 3))
    relevant = labels >= labels.topk(4).values[:, -1:]
    depth = attribute(scores, labels, quotas=(6, 3), k=4).depth
    for t in range(2):
        for b in range(40):
            lost = relevant[b] & (found.cut_by[b] == t)
            below = -found.rank_margins[t, b][lost].double()
            expected = float(depth[t, b])
            if lost.any():
                assert abs(float(below.mean()) - expected) < 1e-5
            else:
                assert math.isnan(expected)
