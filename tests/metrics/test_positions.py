"""Metrics of the ranks of the ground truth, against plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.metrics import (
    average_precision_metric,
    hit_rate_metric,
    precision_metric,
    reciprocal_rank_metric,
)


@st.composite
def lists(draw):
    n = draw(st.integers(1, 30))
    row = st.lists(st.integers(-3, 3), min_size=n, max_size=n)
    by = draw(st.sampled_from([{"k": draw(st.integers(1, 35))}, {"threshold": 2}]))
    return draw(row), draw(row), draw(st.integers(1, 35)), by


def worths(scores, labels, k=None, threshold=None):
    """Membership in the ground truth at each rank."""
    if k is None:
        worth = [float(y >= threshold) for y in labels]
    else:
        best = sorted(labels, reverse=True)[:k]
        worth = [best.count(y) / labels.count(y) for y in labels]
    return [worth[i] for i in sorted(range(len(labels)), key=lambda i: (-scores[i], i))]


@settings(deadline=None)
@given(lists())
def test_agree_with_the_oracle(case):
    scores, labels, m, by = case
    ranked = worths(scores, labels, **by)
    ask = (torch.tensor(scores).double(), torch.tensor(labels))

    def check(metric, value):
        want = value if any(ranked) else math.nan
        assert metric(*ask, m=m, **by).item() == pytest.approx(want, nan_ok=True)

    check(precision_metric, sum(ranked[:m]) / m)
    check(hit_rate_metric, float(any(ranked[:m])))
    check(reciprocal_rank_metric, next((1 / r for r, z in enumerate(ranked[:m], 1) if z), 0.0))
    parts = [z * sum(ranked[:r]) / r for r, z in enumerate(ranked[:m], 1)]
    check(average_precision_metric, sum(parts) / (sum(ranked) or 1))
