"""Ground truth is the top of a list, or what reaches a threshold, whatever the order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.relevance import ground_truth

NAN = float("nan")


def oracle(labels, k):
    """The mean of the top k over all ways to break ties, by counting."""
    best = sorted(labels, reverse=True)[:k]
    marks = []
    for y in labels:
        places = best.count(y)
        marks.append(places / labels.count(y) if places else 0.0)
    return marks


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(1, 45))
@settings(deadline=None)
def test_agrees_with_the_oracle(labels, k):
    got = ground_truth(torch.tensor(labels), k=k)
    torch.testing.assert_close(got, torch.tensor(oracle(labels, k)))
    torch.testing.assert_close(got.sum(), torch.tensor(float(min(k, len(labels)))))


@pytest.mark.parametrize("junk", [0.0, 1e30, float("inf"), float("nan")])
@pytest.mark.parametrize("by", [{"k": 2}, {"threshold": 1.0}])
def test_padding_never_matters(junk, by):
    labels = torch.tensor([[3.0, 1.0, 1.0, junk, junk], [2.0, junk, junk, junk, junk]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]).bool()
    got = ground_truth(labels, mask=mask, **by)
    first = [1, 0.5, 0.5, 0, 0] if "k" in by else [1, 1, 1, 0, 0]
    assert got.tolist() == [first, [1, 0, 0, 0, 0]]


def test_with_both_the_top_k_are_among_those_that_reach_the_threshold():
    labels = torch.tensor([[3.0, 1.0, 1.0, 1.0, 0.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
    mask = torch.tensor([[True] * 5, [True, False, True, True, True]])
    got = ground_truth(labels, k=3, threshold=1.0, mask=mask)
    torch.testing.assert_close(got[0], torch.tensor([1, 2 / 3, 2 / 3, 2 / 3, 0]))
    assert got[1].tolist() == [1, 0, 1, 1, 0]
    few = ground_truth(labels, k=3, threshold=3.0, mask=mask)
    assert few.tolist() == [[1, 0, 0, 0, 0], [1, 0, 1, 0, 0]]


@pytest.mark.parametrize("by", [{}, {"k": 0}, {"k": 1.5}, {"k": True}, {"k": 1, "threshold": NAN}])
def test_ground_truth_must_be_defined(by):
    with pytest.raises(ConfigError):
        ground_truth(torch.zeros(3), **by)


def test_empty_lists_have_no_ground_truth():
    assert ground_truth(torch.zeros(2, 0), k=3).shape == (2, 0)
    assert ground_truth(torch.zeros(2, 3), k=3, mask=torch.zeros(2, 3).bool()).sum() == 0
