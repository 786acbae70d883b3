"""The recall of every vector of quotas against a plain walk through the stages."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cascaderank.errors import ConfigError, DataError, ShapeError
from cascaderank.evaluation import Evaluator
from cascaderank.evaluation.quotas import (
    ScoredRequests,
    quota_grids,
    quota_recalls,
    scored_requests,
)
from tests.evaluation.quotas.cases import cascades, funnel, scored
from tests.oracles import quotas as oracle


@given(cascades(least=2, longest=7), st.integers(1, 4))
def test_every_vector_has_the_recall_of_a_plain_walk(case, last):
    requests = scored(case)
    found = quota_recalls(requests, last=last, grids=quota_grids(requests, last=last))
    longest, seen = max(requests.longest, last), 0
    for quotas in oracle.vectors(requests.stages, longest, last):
        (row,) = np.flatnonzero((found.leading == quotas[:-2]).all(1))
        assert found.quotas(row, quotas[-2]) == quotas
        want = oracle.mean_recall(case[0], case[1], quotas)
        assert found.recalls[row, quotas[-2]] == pytest.approx(want, abs=1e-9)
        seen += 1
    assert (~np.isnan(found.recalls)).sum() == seen, "and no other vector has a value"


@given(cascades(), st.lists(st.integers(1, 10), min_size=4, max_size=4))
def test_the_recall_of_each_request_is_that_of_a_plain_walk(case, quotas):
    requests = scored(case)
    quotas = sorted(quotas, reverse=True)[: requests.stages]
    want = [oracle.recall(stages, labels, case[1], quotas) for stages, labels in case[0]]
    np.testing.assert_allclose(requests.recall(quotas), want, atol=1e-9)


def test_recall_is_that_of_the_evaluator_and_of_any_block_size(monkeypatch):
    g = torch.Generator().manual_seed(1)
    scores = torch.randint(0, 9, (3, 60, 30), generator=g).float()
    labels = torch.randint(0, 3, (60, 30), generator=g).float()
    mask = torch.rand(60, 30, generator=g) < 0.7
    requests = ScoredRequests.of(scores, labels, threshold=2, mask=mask)
    whole = quota_recalls(requests, last=4, grids=quota_grids(requests, last=4))
    monkeypatch.setattr(scored_requests, "_CELLS_AT_ONCE", 500)
    parts = [
        ScoredRequests.of(scores[:, at], labels[at], threshold=2, mask=mask[at])
        for at in (slice(0, 13), slice(13, 60))
    ]
    joined = ScoredRequests.joined(parts)
    assert joined.number_of_blocks > 3
    small = quota_recalls(joined, last=4, grids=quota_grids(joined, last=4))
    np.testing.assert_allclose(small.recalls, whole.recalls, rtol=0, atol=1e-12)
    for quotas in ((20, 9, 4), (30, 30, 4), (5, 5, 5)):
        evaluator = Evaluator(quotas=quotas, threshold=2)
        evaluator.update(scores, labels, mask=mask)
        want = evaluator.per_request()["joint_recall"]
        np.testing.assert_allclose(joined.recall(quotas), want, rtol=0, atol=1e-12)


def test_more_candidates_can_lower_the_recall():
    """The first stage cuts a candidate that would displace the ground truth in the second."""
    scores = torch.tensor([[[3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0]]])
    requests = ScoredRequests.of(scores, torch.tensor([[0.0, 1.0, 0.0]]), k=1)
    assert [requests.recall((q, 1)).item() for q in (1, 2, 3)] == [0, 1, 0]


def test_requests_without_ground_truth_and_empty_lists_are_excluded():
    scores = torch.tensor([[[2.0, 1.0], [1.0, 2.0], [0.0, 0.0]]]).expand(2, -1, -1)
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    mask = torch.tensor([[True, True], [True, True], [False, False]])
    requests = ScoredRequests.of(scores, labels, threshold=1, mask=mask)
    assert requests.recall((1, 1)).tolist() == pytest.approx([1, math.nan, math.nan], nan_ok=True)
    assert quota_recalls(requests, last=1, grids=[]).recalls[0, 1:].tolist() == [1, 1]


def test_a_grid_has_all_integers_if_there_are_few_and_the_present_quotas():
    requests = funnel(40, 60, (1.0, 1.0, 1.0, 1.0, 1.0))
    assert requests.longest == 60
    assert quota_grids(requests, last=50, values=40)[0].tolist() == list(range(50, 61))
    three = requests.without(0).without(0)
    (few,) = quota_grids(three, last=5, values=6, present=(33, 20, 5))
    assert few.tolist() == [5, 8, 14, 22, 33, 37, 60]
    assert [len(g) for g in quota_grids(requests, last=2)] == [16, 16, 16], "816 vectors"
    assert quota_grids(three.without(0), last=5) == []


def test_mistakes_are_reported():
    requests = funnel(5, 20, (1.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match="at least two stages"):
        quota_recalls(requests.without(0).without(0), last=2, grids=[])
    with pytest.raises(ConfigError, match="got 3 stages and 2 grids"):
        quota_recalls(requests, last=2, grids=[np.arange(3)] * 2)
    with pytest.raises(ConfigError, match="at least one vector of quotas; got none"):
        quota_recalls(requests, last=9, grids=[np.arange(3)])
    with pytest.raises(ConfigError, match="last must be a positive integer"):
        quota_grids(requests, last=0)
    with pytest.raises(ConfigError, match="values must be at least 2; got 1"):
        quota_grids(requests, last=3, values=1)
    with pytest.raises(ShapeError, match="got 2 quotas for 3 stages"):
        requests.recall((3, 2))
    with pytest.raises(ConfigError, match="never grow"):
        requests.recall((3, 2, 4))
    scores, labels = torch.zeros(2, 1, 3), torch.zeros(1, 3)
    with pytest.raises(DataError, match="scores must be numbers; got NaN for 6 of 6"):
        ScoredRequests.of(scores * torch.nan, labels, k=1)
    with pytest.raises(DataError, match="labels must be numbers; got NaN for 3 of 3"):
        ScoredRequests.of(scores, labels * torch.nan, k=1)
    with pytest.raises(ShapeError, match=r"got \[2, 1, 3\] and \[1, 4\]"):
        ScoredRequests.of(scores, torch.zeros(1, 4), k=1)
    with pytest.raises(ConfigError, match="request with ground truth; got none"):
        quota_recalls(ScoredRequests.of(scores, labels, threshold=1), last=1, grids=[])
