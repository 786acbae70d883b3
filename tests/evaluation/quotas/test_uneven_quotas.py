"""Uneven quotas: the mean cost is kept, and planted differences of requests are found."""

import numpy as np
import pytest
import torch

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.evaluation.quotas import ScoredRequests, fit_uneven_quotas
from tests.evaluation.quotas.cases import funnel, linear

COSTS = linear((0.0, 1.0), (0.0, 10.0))


def planted(seed, *, visible, requests=300):
    """Half of the requests are hard for the first stage; the spread of its scores can show it."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randn(requests, 120, generator=g)
    hard = (torch.rand(requests, 1, generator=g) < 0.5).float()
    first = labels + torch.randn(requests, 120, generator=g) * (0.3 + 2 * hard)
    if not visible:
        first = first / first.std(1, keepdim=True)
    second = labels + 0.1 * torch.randn(requests, 120, generator=g)
    return ScoredRequests.of(torch.stack([first, second]), labels, k=10), hard[:, 0].numpy() > 0


def test_hard_requests_keep_more_and_recall_rises_at_the_same_cost():
    validation, _ = planted(0, visible=True)
    test, hard = planted(1, visible=True)
    found = fit_uneven_quotas(validation, (40, 10)).apply(test, COSTS)
    assert found.kept[0, hard].mean() > 1.5 * found.kept[0, ~hard].mean()
    assert found.cost.mean() == pytest.approx(120 + 10 * 40, rel=0.03)
    assert np.nanmean(found.recall) > np.nanmean(test.recall((40, 10))) + 0.03


def test_without_a_visible_difference_nothing_is_gained_or_lost():
    validation, _ = planted(0, visible=False)
    test, _ = planted(1, visible=False)
    found = fit_uneven_quotas(validation, (40, 10)).apply(test, COSTS)
    gain = np.nanmean(found.recall) - np.nanmean(test.recall((40, 10)))
    assert abs(gain) < 0.01
    assert found.kept[0].std() < 5


def test_the_mean_number_of_each_stage_is_at_most_its_quota_on_the_fitted_requests():
    requests = funnel(80, 50, (1.0, 0.6, 0.3))
    quotas = (25, 12, 5)
    rule = fit_uneven_quotas(requests, quotas)
    found = rule.apply(requests, linear((0.0, 1.0), (0.0, 3.0), (0.0, 9.0)))
    for stage, quota in enumerate(quotas):
        even = np.minimum(requests.lengths, quota).mean()
        assert even - 0.5 < found.kept[stage].mean() <= even
    assert (found.kept >= np.minimum(requests.lengths, 5)).all()
    assert (np.diff(found.kept, axis=0) <= 0).all()
    received = np.stack([requests.lengths, *found.kept[:-1]])
    assert found.cost == pytest.approx(np.array([1.0, 3.0, 9.0]) @ received)


def test_the_kept_candidates_are_the_best_of_their_stage():
    """Walk through the stages request by request, with the numbers of the rule."""
    requests = funnel(30, 40, (1.0, 0.5), k=3)
    rule = fit_uneven_quotas(requests, (15, 4))
    found = rule.apply(requests, COSTS)
    offsets = requests.offsets
    for row, length in enumerate(requests.lengths):
        scores = requests.scores[:, offsets[row] : offsets[row] + length].astype(float)
        number = int(rule.rules[0].numbers(scores[:1])[0])
        kept = sorted(range(length), key=lambda i: (-scores[0, i], i))[:number]
        kept = sorted(kept, key=lambda i: (-scores[1, i], i))[:4]
        mine = (requests.targets >= offsets[row]) & (requests.targets < offsets[row + 1])
        where = requests.targets[mine] - offsets[row]
        want = requests.weights[mine][np.isin(where, kept)].sum()
        assert found.recall[row] == pytest.approx(want)
        assert found.kept[0, row] == number


def test_constant_scores_and_lists_without_candidates_are_accepted():
    scores = torch.zeros(2, 3, 6)
    mask = torch.tensor([[True] * 6, [False] * 6, [True, True, False, False, False, False]])
    requests = ScoredRequests.of(scores, torch.rand(3, 6), k=2, mask=mask)
    found = fit_uneven_quotas(requests, (3, 2)).apply(requests, COSTS)
    assert found.kept[:, 1].tolist() == [0, 0]
    assert np.isfinite(found.recall[[0, 2]]).all()


def test_mistakes_are_reported():
    requests = funnel(5, 20, (1.0, 1.0))
    with pytest.raises(ConfigError, match="at least two stages; got one"):
        fit_uneven_quotas(requests.without(0), (3,))
    with pytest.raises(ShapeError, match="got 3 quotas for 2 stages"):
        fit_uneven_quotas(requests, (3, 2, 1))
