"""Metrics of pairs against plain loops."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.metrics import _pair_counts, auc_metric, kendall_tau_metric, opa_metric


def sign(a, b):
    return (a > b) - (a < b)


def oracle(scores, labels):
    """Every pair of one list: how it is ordered by score and by label."""
    n = range(len(labels))
    return [(sign(scores[i], scores[j]), sign(labels[i], labels[j])) for i, j in combinations(n, 2)]


def divided(a, b):
    return a / b if b else math.nan


@st.composite
def lists(draw):
    n = draw(st.integers(1, 30))
    row = st.lists(st.integers(-2, 2), min_size=n, max_size=n)
    return draw(row), draw(row)


@settings(deadline=None)
@given(lists())
def test_agree_with_the_oracle(case):
    scores, labels = case
    pairs = oracle(scores, labels)
    right, wrong = (sum(s * y == way for s, y in pairs) for way in (1, -1))
    tied_scores = sum(s == 0 and y != 0 for s, y in pairs)
    tied_labels = sum(s != 0 and y == 0 for s, y in pairs)
    ask = (torch.tensor(scores).double(), torch.tensor(labels))

    want = divided(right + tied_scores / 2, right + wrong + tied_scores)
    assert opa_metric(*ask).item() == pytest.approx(want, nan_ok=True)
    want = divided(len(pairs) - wrong, len(pairs))
    assert opa_metric(*ask, pairs="all").item() == pytest.approx(want, nan_ok=True)
    both = math.sqrt((right + wrong + tied_scores) * (right + wrong + tied_labels))
    want = divided(right - wrong, both)
    assert kendall_tau_metric(*ask).item() == pytest.approx(want, nan_ok=True)

    good = [s for s, y in zip(scores, labels, strict=True) if y >= 1]
    rest = [s for s, y in zip(scores, labels, strict=True) if y < 1]
    won = sum((g > r) + (g == r) / 2 for g in good for r in rest)
    want = divided(won, len(good) * len(rest))
    assert auc_metric(*ask, threshold=1).item() == pytest.approx(want, nan_ok=True)


def test_long_lists_are_counted_a_few_rows_at_a_time(monkeypatch):
    g = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 9, (3, 50), generator=g).float()
    labels = torch.randint(0, 5, (3, 50), generator=g)
    mask = torch.rand(3, 50, generator=g) < 0.8
    whole = kendall_tau_metric(scores, labels, mask=mask)
    monkeypatch.setattr(_pair_counts, "_CELLS", 170)  # 3 rows of one list
    torch.testing.assert_close(kendall_tau_metric(scores, labels, mask=mask), whole, rtol=0, atol=0)


def test_unknown_pairs_are_refused():
    with pytest.raises(ConfigError, match="pairs must be one of preferred, all; got 'prefered'"):
        opa_metric(torch.zeros(2), torch.zeros(2), pairs="prefered")
