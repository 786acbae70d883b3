"""Ranking consistency against overlaps of Python sets."""

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.evaluation import ranking_consistency


def best(scores, among, k):
    return set(sorted(among, key=lambda j: -scores[j])[:k])


@pytest.mark.parametrize("k", [None, 1, 3, 50])
def test_it_is_the_overlap_of_two_sets(k):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 4, 12, generator=g).double()
    mask = torch.arange(12) < torch.tensor([12, 9, 5, 1])[:, None]
    quotas = (8, 4, 2)
    got = ranking_consistency(scores, quotas=quotas, k=k, mask=mask)
    assert got.shape == (2, 4)
    for b in range(4):
        alive = set(mask[b].nonzero().flatten().tolist())
        for t in range(2):
            alive = best(scores[t, b], alive, quotas[t])
            size = k or quotas[t + 1]
            here, there = (best(scores[s, b], alive, size) for s in (t, t + 1))
            assert got[t, b] == len(here & there) / min(size, len(alive))


def test_equal_stages_have_consistency_one_and_empty_lists_are_undefined():
    scores = torch.randn(1, 2, 6).expand(2, -1, -1)
    mask = torch.tensor([[True] * 6, [False] * 6])
    got = ranking_consistency(scores, quotas=(4, 2), mask=mask)
    assert got[0, 0] == 1
    assert got[0, 1].isnan()


def test_a_single_stage_has_no_consistency():
    assert ranking_consistency(torch.randn(1, 2, 6), quotas=(4,)).shape == (0, 2)


def test_k_must_be_positive():
    with pytest.raises(ConfigError, match="k must be a positive integer"):
        ranking_consistency(torch.randn(2, 2, 6), quotas=(4, 2), k=0)
