"""The two scores at the cut are those of a sort, and ties share their gradient."""

import pytest
import torch

from cascaderank.sorting import top_k_probability
from cascaderank.sorting.cut_scores import cut_scores

LENGTHS = [2, 3, 40, 1000]
"""The last one is partitioned, the others are sorted."""


def lists(length, *, tied, count=6):
    g = torch.Generator().manual_seed(length)
    scores = torch.randn(count, length, generator=g, dtype=torch.float64)
    mask = torch.rand(count, length, generator=g) < 0.8
    mask[:, :2] = True
    return (scores * 2).round() if tied else scores, mask


def plain(scores, k, mask):
    """The two scores of one list and the part of each candidate in their gradients."""
    real = [s for s, m in zip(scores.tolist(), mask.tolist(), strict=True) if m]
    best_first = sorted(real, reverse=True)
    borders, shares = best_first[k - 1 : k + 1], []
    for border in borders:
        places = [m and s == border for s, m in zip(scores.tolist(), mask.tolist(), strict=True)]
        shares.append([place / sum(places) for place in places])
    return borders, shares


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("sizes", ["one", "two", "many"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_plain_python(length, tied, sizes, dtype):
    scores, mask = lists(length, tied=tied)
    scores = scores.to(dtype).masked_fill(~mask, 0.0).requires_grad_()
    most = mask.sum(-1) - 1
    k = torch.ones_like(most)
    if sizes == "two":
        k[::2] = most.min()
    elif sizes == "many":
        k = (most * torch.arange(1, 7) / 6).long().clamp(min=1)
    borders = cut_scores(scores, k, mask=mask)
    upstream = torch.tensor([1.0, 10.0], dtype=dtype)
    (gradient,) = torch.autograd.grad((borders * upstream).sum(), scores)
    for i, size in enumerate(k.tolist()):
        want, shares = plain(scores[i].detach(), size, mask[i])
        assert borders[i].tolist() == want
        expected = upstream @ torch.tensor(shares, dtype=dtype)
        torch.testing.assert_close(gradient[i], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 300, 777, 1999])
def test_the_scores_of_many_long_lists_are_those_of_a_sort(dtype, k):
    """Many, because numpy leaves few of them unsorted at the cut."""
    scores = torch.randn(1000, 2000, generator=torch.Generator().manual_seed(k)).to(dtype)
    want = scores.sort(-1, descending=True).values[:, k - 1 : k + 1]
    got = cut_scores(scores, torch.full((1000,), k), mask=torch.ones_like(scores).bool())
    assert torch.equal(got, want)


@pytest.mark.parametrize("length", LENGTHS)
def test_lists_that_keep_all_or_none_have_finite_scores(length):
    scores, _ = lists(length, tied=False)
    mask = torch.arange(length) < 2
    for k in (-1, 0, 2, length, length + 5):
        found = cut_scores(scores, torch.full((6,), k), mask=mask.expand_as(scores))
        assert found.shape == (6, 2)
        assert found.isfinite().all()


@pytest.mark.parametrize("length", [1, 2, 40, 1000])
def test_any_batch_dimensions(length):
    scores, mask = lists(max(length, 2), tied=False)
    scores, mask = scores[:, :length], mask[:, :length]
    k = torch.tensor([1, 5, 1, 5, 1, 5])
    square = cut_scores(scores.view(2, 3, -1), k.view(2, 3), mask=mask.view(2, 3, -1))
    assert torch.equal(square.view(6, 2), cut_scores(scores, k, mask=mask))
    single = cut_scores(scores[0], k[0], mask=mask[0])
    assert torch.equal(single, square[0, 0])


@pytest.mark.parametrize("length", [9, 1000])
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_the_gradient_of_threshold_is_the_formula_of_dftopk(length, temperature):
    """``dp_j / ds_i = p_j (1 - p_j) / tau (delta_ij - [i is the k-th or the (k+1)-th] / 2)``."""
    scores = lists(length, tied=False)[0][0].requires_grad_()
    k = length // 3
    kept = top_k_probability(scores, k, operator="threshold", temperature=temperature)
    rows = range(0, length, max(1, length // 9))
    at_cut = torch.zeros(length, dtype=torch.float64)
    at_cut[scores.topk(k + 1).indices[-2:]] = 0.5
    for j in rows:
        (slope,) = torch.autograd.grad(kept[j], scores, retain_graph=True)
        of_logit = kept[j].detach() * (1 - kept[j].detach()) / temperature
        want = -of_logit * at_cut
        want[j] += of_logit
        torch.testing.assert_close(slope, want)


def test_the_gradient_is_the_derivative_in_a_partitioned_list():
    scores = lists(1000, tied=False)[0][:2]
    at = scores.topk(302).indices[:, -4:]  # two scores at the cut, and their neighbours

    def borders(some):
        whole = scores.scatter(-1, at, some)
        return cut_scores(whole, torch.tensor([300, 300]), mask=torch.ones(2, 1000).bool())

    torch.autograd.gradcheck(borders, scores.gather(-1, at).requires_grad_())
