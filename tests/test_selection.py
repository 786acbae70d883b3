"""The hard cascade agrees with a plain implementation, ties included."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.selection import relevance_of, select, share, top, total

INF, NAN = math.inf, math.nan


def walk(scores, quotas, real):
    """One list, plain Python: the candidates alive after each stage."""
    alive, kept = [i for i, r in enumerate(real) if r], []
    for stage, quota in zip(scores, quotas, strict=True):
        worth = [-INF if math.isnan(s) else s for s in stage]
        alive = sorted(alive, key=lambda i: (-worth[i], i))[:quota]
        kept.append([i in alive for i in range(len(real))])
    return kept


@st.composite
def cascades(draw):
    n = draw(st.integers(1, 40))  # torch sorts short lists stably by luck: go past 16
    stages = draw(st.integers(1, 4))
    # A small range, for ties on purpose; infinities and NaN are scores too.
    score = st.integers(-3, 3).map(float) | st.sampled_from([INF, -INF, NAN])
    row = st.lists(score, min_size=n, max_size=n)
    quotas = sorted(draw(st.lists(st.integers(1, 45), min_size=stages, max_size=stages)))[::-1]
    real = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return [draw(row) for _ in range(stages)], quotas, real


@settings(deadline=None)
@given(cascades())
def test_agrees_with_a_walk_by_hand(case):
    scores, quotas, real = case
    got = select(torch.tensor(scores)[:, None], quotas, torch.tensor([real]))
    assert got[:, 0].tolist() == walk(scores, quotas, real)


@settings(deadline=None)
@given(cascades())
def test_top_is_a_cascade_of_one_stage(case):
    scores, quotas, real = case
    got = top(torch.tensor(scores[0]), quotas[0], torch.tensor(real))
    assert got.tolist() == walk(scores[:1], quotas[:1], real)[0]


def test_of_equals_the_earlier_is_kept_in_long_lists():
    kept = top(torch.zeros(3, 1000), 10)
    assert kept[:, :10].all()
    assert not kept[:, 10:].any()


def test_padding_is_never_kept_even_against_minus_infinity():
    mask = torch.tensor([[False, True, False, True]])
    scores = torch.tensor([[[INF, -INF, NAN, NAN]]])
    assert select(scores, (2,), mask)[0, 0].tolist() == [False, True, False, True]
    assert select(scores, (1,), mask)[0, 0].tolist() == [False, True, False, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_selects_the_same(dtype):
    scores = torch.randperm(60, generator=torch.Generator().manual_seed(1)).view(2, 1, 30).float()
    assert torch.equal(select(scores.to(dtype), (20, 10)), select(scores, (20, 10)))


def test_lists_without_candidates_keep_nothing():
    assert select(torch.zeros(2, 3, 0), (2, 1)).shape == (2, 3, 0)
    assert not select(torch.zeros(2, 3, 4), (2, 1), torch.zeros(3, 4).bool()).any()
    assert select(torch.zeros(2, 0, 4), (2, 1)).shape == (2, 0, 4)


@pytest.mark.parametrize(
    ("scores", "quotas", "mask", "error", "says"),
    [
        (torch.zeros(2, 3), (1,), None, ShapeError, r"\[stages, batch, list\]; got \[2, 3\]"),
        (torch.zeros(2, 1, 3), (1,), None, ShapeError, "got 1 quotas for 2 stages"),
        (torch.zeros(2, 1, 3), (1, 2), None, ConfigError, r"never grow; got \[1, 2\]"),
        (torch.zeros(2, 1, 3), (2, 1), torch.ones(1, 2).bool(), ShapeError, "mask must be bool"),
        (torch.zeros(2, 1, 3).long(), (2, 1), None, ShapeError, "floating point"),
    ],
)
def test_wrong_arguments_are_refused(scores, quotas, mask, error, says):
    with pytest.raises(error, match=says):
        select(scores, quotas, mask)


@pytest.mark.parametrize("m", [0, -1, 1.5, True])
def test_a_size_is_a_positive_integer(m):
    with pytest.raises(ConfigError, match="m must be a positive integer"):
        top(torch.zeros(3), m)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_threshold_is_compared_in_the_precision_of_the_labels(dtype):
    labels = torch.tensor([0.1, 0.7, 0.3], dtype=dtype)
    for threshold, want in [(0.1, [1, 1, 1]), (0.3, [0, 1, 1]), (0.7, [0, 1, 0])]:
        assert relevance_of(labels, k=None, threshold=threshold, mask=None).tolist() == want


def test_shares_of_tied_labels_are_exact_in_half_precision():
    labels = torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=torch.float16)
    assert relevance_of(labels, k=2, threshold=None, mask=None).tolist() == [
        1.0,
        1 / 3,
        1 / 3,
        1 / 3,
    ]


def test_large_integer_labels_stay_apart():
    labels = torch.tensor([2**24 + 1, 2**24, 2**24 + 2])
    assert relevance_of(labels, k=2, threshold=None, mask=None).tolist() == [1, 0, 1]


def test_share_is_undefined_without_ground_truth():
    assert share(torch.tensor([True]), torch.zeros(1).double()).isnan()


def test_total_has_the_same_bits_however_far_a_list_is_padded():
    values = torch.rand(50, 37, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    want = total(values)
    for length in (38, 40, 64, 101, 4097):
        padded = torch.zeros(50, length, dtype=torch.float64)
        padded[:, :37] = values
        assert torch.equal(total(padded), want)
