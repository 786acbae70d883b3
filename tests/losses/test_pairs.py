"""Loss and gradient of pairs computed in blocks equal those of all pairs at once."""

import pytest
import torch
from torch.nn.functional import softplus

from cascaderank.losses import Preferences, _pairs, pessimistic_rank


@pytest.fixture(params=[0, 1, 2])
def lists(request):
    """Ragged lists with ties, one of them empty and one of a single candidate."""
    g = torch.Generator().manual_seed(request.param)
    scores = torch.randn(5, 23, generator=g, dtype=torch.float64).mul(2).round(decimals=1)
    labels = torch.randint(0, 4, (5, 23), generator=g)
    mask = torch.rand(5, 23, generator=g) < torch.tensor([1.0, 0.7, 0.4, 0.0, 0.0])[:, None]
    mask[4, 7] = True
    weight = torch.rand(5, 23, generator=g, dtype=torch.float64)
    return scores, labels, mask, weight


def by_all_pairs(scores, labels, mask, weight):
    margin = scores[..., :, None] - scores[..., None, :]
    preferred = (labels[..., :, None] > labels[..., None, :]) & mask[..., :, None]
    preferred &= mask[..., None, :]
    weights = (weight[..., :, None] - weight[..., None, :]).abs()
    return (softplus(-margin) * weights * preferred).sum((-1, -2))


def with_gradient(function, scores, *others):
    leaf = scores.clone().requires_grad_()
    losses = function(leaf, *others)
    (gradient,) = torch.autograd.grad((losses * torch.arange(1.0, 6.0)).sum(), leaf)
    return losses.detach(), gradient


@pytest.mark.parametrize(("pairs", "rows"), [(2**16, 64), (2**16, 5), (30, 64), (1, 1)])
@pytest.mark.parametrize("full", [False, True])
def test_blocks_of_any_size_give_the_same(lists, full, pairs, rows, monkeypatch):
    monkeypatch.setitem(_pairs._PAIRS_PER_BLOCK, "cpu", pairs)
    monkeypatch.setattr(_pairs, "_ROWS_PER_BLOCK", rows)
    scores, labels, mask, weight = lists
    mask = mask | full

    def pair_loss(leaf, labels, mask, weight):
        distance = lambda one, other: (one - other).abs()  # noqa: E731
        return Preferences(labels, mask).costs(leaf, weight, weigh=distance)

    case = (scores, labels, mask, weight)
    for got, want in zip(
        with_gradient(pair_loss, *case), with_gradient(by_all_pairs, *case), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_counts_of_better_and_worse_labels(lists):
    _, labels, mask, _ = lists
    pairs = Preferences(labels, mask)
    above = (labels[..., :, None] > labels[..., None, :]) & mask[..., None, :] & mask[..., None]
    assert torch.equal(pairs.worse() * mask, above.sum(-1))
    assert torch.equal(pairs.better() * mask, above.sum(-2))
    assert not pairs.worse()[~mask].any()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64])
def test_labels_may_have_any_dtype(dtype):
    labels, mask = torch.tensor([[1, 0, 1, 0, 1]]), torch.tensor([[True, True, True, True, False]])
    pairs = Preferences(labels.to(dtype), mask)
    assert pairs.worse().tolist() == [[2, 0, 2, 0, 0]]
    scores = torch.tensor([[0.5, 1.0, -1.0, 0.0, 9.0]])
    want = Preferences(labels.float(), mask).costs(scores)
    torch.testing.assert_close(pairs.costs(scores), want)
    rank = pessimistic_rank(torch.zeros(1, 5), labels.to(dtype), mask)
    assert rank[0, :4].tolist() == [3.5, 1.5, 3.5, 1.5]


def test_labels_at_the_ends_of_their_range_are_not_padding():
    ends = torch.iinfo(torch.int64)
    labels = torch.tensor([[ends.min + 1, ends.max, ends.min + 2, 0]])
    mask = torch.tensor([[True, True, True, False]])
    assert Preferences(labels, mask).worse().tolist() == [[0, 2, 1, 0]]
    floats = torch.tensor([[-torch.inf, torch.inf, -1e38, torch.nan]])
    assert Preferences(floats, mask).worse().tolist() == [[0, 2, 1, 0]]


def test_ranks_of_ties_are_pessimistic_and_shared(lists):
    scores, labels, mask, _ = lists
    got = pessimistic_rank(scores, labels, mask)
    ahead = (scores[..., None, :] > scores[..., :, None]) & mask[..., None, :]
    tied = (scores[..., None, :] == scores[..., :, None]) & mask[..., None, :]
    worse = tied & (labels[..., None, :] < labels[..., :, None])
    alike = tied & (labels[..., None, :] == labels[..., :, None])
    want = 1 + ahead.sum(-1) + worse.sum(-1) + (alike.sum(-1) - 1) / 2
    assert torch.equal(got[mask], want[mask].to(got))
    apart = scores + torch.arange(23) * 1e-6  # no ties: the path with a single sort
    ahead = (apart[..., None, :] > apart[..., :, None]) & mask[..., None, :]
    assert torch.equal(pessimistic_rank(apart, labels, mask)[mask], 1.0 + ahead.sum(-1)[mask])


def test_memory_is_linear_in_the_list(monkeypatch):
    """The list has 400 million pairs, which must not be in memory at once."""
    monkeypatch.setitem(_pairs._PAIRS_PER_BLOCK, "cpu", 2**16)
    scores = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = (torch.arange(20_000) % 500 == 0).float()[None]
    mask = torch.ones(1, 20_000, dtype=torch.bool)
    sizes = []

    class RecordSizes(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                sizes.append(result.numel())
            return result

    with RecordSizes():
        Preferences(labels, mask).costs(scores).sum().backward()
    assert max(sizes) <= 10 * 20_000
    assert scores.grad.abs().sum() > 0
