"""Attribution against a plain loop over requests and stages."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.evaluation.attribution import attribute
from cascaderank.metrics.cascade_recall import cascade_recall_metric


def relevance_of(labels, k, threshold):
    if k is None:
        return [float(y >= threshold) for y in labels]
    best = sorted(labels, reverse=True)[:k]
    return [best.count(y) / labels.count(y) for y in labels]


def oracle(scores, labels, quotas, k=None, threshold=None):
    """Attribution of one request in plain Python."""
    worth, everyone = relevance_of(labels, k, threshold), list(range(len(labels)))
    whole = sum(worth)

    def rank(stage, got):
        return sorted(got, key=lambda i: (-scores[stage][i], i))

    def rank_perfectly(stage, got):
        return sorted(rank(stage, got), key=lambda i: -worth[i])

    def walk(perfect=None):
        got = everyone
        for stage, quota in enumerate(quotas):
            ranking = (rank_perfectly if stage == perfect else rank)(stage, got)
            yield ranking[:quota], ranking[quota:]
            got = ranking[:quota]

    def share(items):
        return sum(worth[i] for i in items) / whole if whole else math.nan

    alive, lost, depth, ceiling = [], [], [], []
    for stage, (kept, cut) in enumerate(walk()):
        alive.append(share(kept))
        lost.append(share(cut))
        weight = sum(worth[i] for i in cut)
        below = sum(worth[i] * rank for rank, i in enumerate(cut, start=1))
        depth.append(below / weight if weight else math.nan)
        ceiling.append(share([kept for kept, _ in walk(perfect=stage)][-1]))
    best = sorted(worth, reverse=True)[: quotas[-1]]
    reachable = sum(best) / whole if whole else math.nan
    return {
        "alive": alive, "lost": lost, "depth": depth, "ceiling": ceiling, "reachable": reachable,
    }  # fmt: skip


@st.composite
def cascades(draw):
    n = draw(st.integers(1, 40))  # lists of up to 16 are sorted stably by chance
    stages = draw(st.integers(1, 4))
    row = st.lists(st.integers(-3, 3), min_size=n, max_size=n)  # a small range creates ties
    quotas = sorted(draw(st.lists(st.integers(1, 45), min_size=stages, max_size=stages)))[::-1]
    by = draw(st.sampled_from([{"k": draw(st.integers(1, 45))}, {"threshold": 2.0}]))
    return [draw(row) for _ in range(stages)], draw(row), quotas, by


def attributed(case, **options):
    scores, labels, quotas, by = case
    scores = torch.tensor(scores, dtype=torch.float64)[:, None]
    return attribute(scores, torch.tensor([labels]), quotas=quotas, **by, **options)


@settings(deadline=None)
@given(cascades())
def test_agrees_with_a_plain_loop_over_requests(case):
    found, want = attributed(case), oracle(*case[:3], **case[3])
    for name, values in want.items():
        got = getattr(found, name)[..., 0]
        expected = torch.tensor(values, dtype=torch.float64)
        torch.testing.assert_close(got, expected, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}")


@settings(deadline=None)
@given(cascades())
def test_losses_and_joint_recall_sum_to_one(case):
    found = attributed(case)
    if found.reachable.isnan():
        assert found.lost.isnan().all()
        return
    whole = found.joint_recall + found.lost.sum(0)
    torch.testing.assert_close(whole, torch.ones(1, dtype=torch.float64))
    assert (found.joint_recall <= found.reachable + 1e-12).all()
    assert (found.ceiling <= found.reachable + 1e-12).all()
    assert (found.depth.isnan() == (found.lost == 0)).all()
    assert not (found.depth < 1).any()


@settings(deadline=None)
@given(cascades())
def test_joint_recall_is_the_metric(case):
    scores, labels, quotas, by = case
    want = cascade_recall_metric(
        torch.tensor(scores, dtype=torch.float64)[:, None], torch.tensor([labels]), quotas=quotas, **by
    )  # fmt: skip
    torch.testing.assert_close(attributed(case).joint_recall, want, rtol=0, atol=0, equal_nan=True)


@pytest.fixture
def many():
    g = torch.Generator().manual_seed(0)
    labels = torch.stack([torch.randperm(40, generator=g) for _ in range(300)]).double()
    return labels + 20 * torch.randn(2, 300, 40, generator=g), labels


def test_with_two_stages_a_perfect_stage_never_lowers_joint_recall(many):
    scores, labels = many
    found = attribute(scores, labels, quotas=(25, 12), k=10)
    assert (found.ceiling >= found.joint_recall).all()
    assert (found.ceiling > found.joint_recall).any(dim=1).all(), "vacuous"


def test_a_perfect_last_stage_keeps_all_ground_truth_that_reaches_it(many):
    scores, labels = many
    found = attribute(scores, labels, quotas=(25, 12), k=10)
    torch.testing.assert_close(found.ceiling[-1], found.alive[-2])


def test_a_perfect_cascade_attains_the_maximum_of_the_quotas(many):
    _, labels = many
    found = attribute(labels.expand(2, -1, -1), labels, quotas=(25, 6), k=10)
    assert (found.joint_recall == 0.6).all()
    assert (found.reachable == 0.6).all()
    assert (found.lost[0] == 0).all()
    assert (found.depth[1] == 2.5).all()  # ranks 7 to 10 miss the quota by 1, 2, 3 and 4


def test_with_three_stages_a_perfect_stage_may_lower_joint_recall():
    # g and y are ground truth, n and m are not. The first stage cuts y. If it kept y, y would
    # displace g in the second stage, and the third stage would cut y in favour of n.
    scores = torch.tensor(
        [
            # g    n    m    y
            [2.0, 4.0, 3.0, 1.0],
            [2.0, 3.0, 1.0, 4.0],
            [4.0, 3.0, 1.0, 2.0],
        ]
    )[:, None]
    labels = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    found = attribute(scores, labels, quotas=(3, 2, 1), threshold=1)
    assert found.joint_recall.item() == 0.5
    assert found.ceiling[:, 0].tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize("junk", [0.0, 1e30, float("inf"), -float("inf"), float("nan")])
def test_padding_never_matters(many, junk):
    scores, labels = many
    mask = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[0] = False
    options = {"quotas": (25, 12), "k": 10, "mask": mask}
    clean = attribute(scores, labels, **options)
    dirty = attribute(scores.masked_fill(~mask, junk), labels.masked_fill(~mask, junk), **options)
    for name in ("alive", "lost", "ceiling", "depth", "reachable"):
        a, b = getattr(clean, name), getattr(dirty, name)
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
        assert a[..., 0].isnan().all()
        assert a[..., 1:].isfinite().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_half_precision_scores_return_float32(many, dtype):
    labels = many[1]
    scores = labels.flip(-1).expand(2, -1, -1)
    want = attribute(scores, labels, quotas=(25, 12), k=10)
    got = attribute(scores.to(dtype), labels.to(dtype), quotas=(25, 12), k=10)
    assert got.alive.dtype == got.reachable.dtype == torch.float32
    torch.testing.assert_close(got.ceiling, want.ceiling.float(), rtol=0, atol=0)


def test_empty_batches_and_empty_lists_are_accepted():
    assert attribute(torch.zeros(2, 0, 5), torch.zeros(0, 5), quotas=(2, 1), k=1).alive.numel() == 0
    found = attribute(torch.zeros(2, 3, 0), torch.zeros(3, 0), quotas=(2, 1), k=1)
    assert found.alive.isnan().all()
    assert found.reachable.isnan().all()


def test_invalid_arguments_are_rejected():
    with pytest.raises(ShapeError, match="got 1 quotas for 2 stages"):
        attribute(torch.zeros(2, 1, 3), torch.zeros(1, 3), quotas=(1,), k=1)
    with pytest.raises(ConfigError, match="got neither"):
        attribute(torch.zeros(2, 1, 3), torch.zeros(1, 3), quotas=(2, 1))
