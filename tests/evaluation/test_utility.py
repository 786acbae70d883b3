"""Probability ranking principle and its generalisation on the examples of the paper."""

from itertools import combinations

import pytest
import torch

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.evaluation import funnel_utility


def best_subset(interest, later, quota, later_quotas):
    """Maximum utility over all sets that the stage can keep."""
    n = interest.shape[-1]
    found = {}
    for kept in combinations(range(n), quota):
        scores = torch.zeros(1, n, dtype=interest.dtype)
        scores[0, list(kept)] = 1
        ask = {"quota": quota, "later": later, "later_quotas": later_quotas}
        found[kept] = funnel_utility(scores, interest, **ask).item()
    best = max(found, key=found.get)
    return best, found[best]


@pytest.mark.parametrize("epsilon", [0.5, 0.1, 1e-3, 1e-9])
def test_proposition_2_the_gap_is_the_whole_utility(epsilon):
    """Four candidates; three are kept and the one with the highest p is exposed."""
    p = torch.tensor([[0.1, 0.2, 0.5, 0.0]], dtype=torch.float64)
    r = torch.tensor([[1.0, 1.0, epsilon, 0.0]], dtype=torch.float64)
    ask = {"quota": 3, "later": p[None], "later_quotas": (1,)}
    by_interest = funnel_utility(r, r, **ask).item()
    kept, best = best_subset(r, p[None], 3, (1,))
    assert by_interest == epsilon
    assert (kept, best) == ((0, 1, 3), 1.0)
    assert best - by_interest == 1 - epsilon  # the largest possible gap is c_4 = 1


@pytest.mark.parametrize("c4", [1, 2, 3])
def test_the_gap_grows_with_what_is_exposed(c4):
    """Equally many liked but dropped, and disliked but preferred candidates: utility 0."""
    epsilon, quota = 1e-6, 2 * c4
    r = torch.tensor([[1.0] * c4 + [epsilon] * c4 + [0.0] * c4], dtype=torch.float64)
    p = torch.tensor([[0.1] * c4 + [0.5] * c4 + [0.0] * c4], dtype=torch.float64)
    ask = {"quota": quota, "later": p[None], "later_quotas": (c4,)}
    gap = best_subset(r, p[None], quota, (c4,))[1] - funnel_utility(r, r, **ask).item()
    assert gap == pytest.approx(c4, abs=2 * c4 * epsilon)


@pytest.mark.parametrize("seed", range(5))
def test_the_principles_agree_if_later_stages_rank_by_interest(seed):
    """In the last stage, and where later stages rank by interest (observation 2)."""
    g = torch.Generator().manual_seed(seed)
    r = torch.rand(1, 7, generator=g, dtype=torch.float64)
    last = {"quota": 3}
    assert funnel_utility(r, r, **last).item() == best_subset(r, None, 3, ())[1]
    ask = {"quota": 4, "later": r[None] ** 3, "later_quotas": (2,)}
    assert funnel_utility(r, r, **ask).item() == best_subset(r, r[None] ** 3, 4, (2,))[1]
    biased = torch.rand(1, 1, 7, generator=g, dtype=torch.float64)
    ask["later"] = biased
    assert funnel_utility(r, r, **ask).item() <= best_subset(r, biased, 4, (2,))[1]


def test_expected_utility_under_independence_is_the_sum_of_p_times_r():
    """Assumption 1: candidates pass independently, so ranking by p r is optimal."""
    g = torch.Generator().manual_seed(0)
    p, r = torch.rand(2, 6, generator=g, dtype=torch.float64)
    worth = {kept: sum((p * r)[list(kept)]).item() for kept in combinations(range(6), 3)}
    best = max(worth, key=worth.get)
    assert best == tuple(sorted((p * r).topk(3).indices.tolist()))
    draws = (torch.rand(20_000, 6, generator=g, dtype=torch.float64) < p).double()
    for kept in (best, (0, 1, 2)):
        scores = torch.zeros(6, dtype=torch.float64)
        scores[list(kept)] = 1
        passed = draws * r  # candidates pass independently of each other
        got = funnel_utility(scores.expand_as(passed), passed, quota=3)
        assert got.mean().item() == pytest.approx(worth[kept], abs=0.02)


def test_padding_is_never_exposed():
    r = torch.tensor([[0.5, 0.25, torch.nan]])
    mask = torch.tensor([[True, True, False]])
    assert funnel_utility(torch.tensor([[1.0, 2.0, 9.0]]), r, quota=1, mask=mask).item() == 0.25
    assert funnel_utility(r, r, quota=3, mask=mask).item() == 0.75


def test_mismatched_shapes_are_rejected():
    r = torch.rand(1, 4)
    with pytest.raises(ShapeError, match="later"):
        funnel_utility(r, r, quota=2, later=r, later_quotas=(1,))
    with pytest.raises(ConfigError, match="never grow"):
        funnel_utility(r, r, quota=2, later=r[None], later_quotas=(3,))
    with pytest.raises(ShapeError, match="one shape"):
        funnel_utility(r, r[:, 1:], quota=2)
