"""The evaluator against loops in plain Python: ragged lists, ties, lists without ground truth."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.evaluation import Evaluator
from cascaderank.metrics import named_metric
from tests.evaluation.test_attribution import oracle as attribution_of
from tests.evaluation.test_attribution import relevance_of

NAMES = ("first", "second", "third")


def ndcg(scores, labels, k, gain, listed):
    """Of the listed candidates; those of equal score have the mean discount of their ranks."""
    if not any(labels):
        return math.nan
    gains = [2**y - 1 if gain == "exponential" else y for y in labels]
    discounts = [1 / math.log2(1 + r) if r <= (k or r) else 0.0 for r in range(1, len(labels) + 1)]
    ideal = sum(g * d for g, d in zip(sorted(gains, reverse=True), discounts, strict=True))
    actual, rank = 0.0, 0
    for score in sorted({scores[i] for i in listed}, reverse=True):
        tied = [i for i in listed if scores[i] == score]
        mean = sum(discounts[rank : rank + len(tied)]) / len(tied)
        actual += sum(gains[i] for i in tied) * mean
        rank += len(tied)
    return actual / ideal


def evaluated(scores, labels, quotas, k, threshold):
    """All values of one request, as one evaluation of one candidate after another."""
    everyone = range(len(labels))
    if threshold is None:
        worth = relevance_of(labels, k, None)
    else:
        reached = [i for i in everyone if labels[i] >= threshold]
        shares = relevance_of([labels[i] for i in reached], k, threshold if k is None else None)
        worth = [0.0] * len(labels)
        for i, share in zip(reached, shares, strict=True):
            worth[i] = float(share)
    size = sum(worth)

    def best(stage, candidates, quota):
        return sorted(candidates, key=lambda i: (-scores[stage][i], i))[:quota]

    final = everyone
    for stage, quota in enumerate(quotas):
        final = best(stage, final, quota)
    joint = sum(worth[i] for i in final) / size if size else math.nan
    values = {
        "ground_truth": size,
        "joint_recall": joint,
        "joint_recall_decided": joint if len(labels) > quotas[-1] else math.nan,
    }
    for stage, quota in enumerate(quotas):
        kept = best(stage, everyone, quota)
        share = sum(worth[i] for i in kept) / size if size else math.nan
        values[f"recall/{NAMES[stage]}"] = share
    for gain in ("linear", "exponential"):
        of_list = ndcg(scores[-1], labels, k, gain, final) if size else math.nan
        values[f"ndcg_{gain}"] = of_list
        for stage in range(len(quotas)):
            whole = ndcg(scores[stage], labels, k, gain, everyone) if size else math.nan
            values[f"ndcg_{gain}/{NAMES[stage]}"] = whole
    if threshold is None:
        found = attribution_of(scores, labels, quotas, k)
        values["reachable"] = found["reachable"]
        for stage, name in enumerate(NAMES[: len(quotas)]):
            values[f"survival/{name}"] = found["alive"][stage]
            values[f"lost/{name}"] = found["lost"][stage]
            values[f"depth/{name}"] = found["depth"][stage]
            values[f"ceiling_if_perfect/{name}"] = found["ceiling"][stage]
    return values


@st.composite
def batches(draw):
    """Requests of different lengths; scores with ties, some that float32 does not represent."""
    stages = draw(st.integers(1, 3))
    quotas = sorted(draw(st.lists(st.integers(1, 12), min_size=stages, max_size=stages)))[::-1]
    unit = draw(st.sampled_from([1.0, 0.1]))  # 0.1 is not a float32
    kind = draw(st.sampled_from([st.integers(-2, 2), st.integers(-99, 99)]))  # many ties, or few
    requests = []
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.integers(1, 25))
        row = st.lists(kind, min_size=n, max_size=n)
        scores = [[x * unit for x in draw(row)] for _ in range(stages)]
        requests.append((scores, draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))))
    k = draw(st.none() | st.integers(1, 20))
    threshold = 3.0 if k is None else draw(st.sampled_from([None, 3.0]))
    return quotas, requests, k, threshold


@settings(deadline=None)
@given(batches(), st.sampled_from([torch.float32, torch.float64]))
def test_every_value_is_that_of_a_plain_loop(batch, dtype):
    quotas, requests, k, threshold = batch
    longest, stages = max(len(labels) for _, labels in requests), len(quotas)
    padded = torch.full((stages, len(requests), longest), torch.nan, dtype=dtype)
    labels = torch.full((len(requests), longest), torch.nan)
    mask = torch.zeros(labels.shape, dtype=torch.bool)
    for row, (scores, own) in enumerate(requests):
        padded[:, row, : len(own)] = torch.tensor(scores, dtype=dtype)
        labels[row, : len(own)] = torch.tensor(own)
        mask[row, : len(own)] = True
    evaluator = Evaluator(quotas=quotas, stage_names=NAMES[:stages], k=k, threshold=threshold)
    evaluator.update(padded, labels, mask=mask)
    got = evaluator.per_request()
    for row, (scores, own) in enumerate(requests):
        as_stored = torch.tensor(scores, dtype=dtype).tolist()
        for name, want in evaluated(as_stored, own, quotas, k, threshold).items():
            assert got[name][row] == pytest.approx(want, rel=1e-12, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize(
    "name", ["ndcg@3", "recall@3", "precision@3", "hit_rate@3", "map", "mrr", "auc", "opa"]
)
def test_a_list_with_a_nan_label_is_undefined_and_does_not_change_others(name):
    g = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(5, 30, generator=g), torch.randint(0, 3, (5, 30), generator=g)
    metric, labels = named_metric(name), labels.double()
    want = metric(scores, labels, k=4)
    labels[2, 7] = torch.nan
    got = metric(scores, labels, k=4)
    assert got[2].isnan()
    assert torch.equal(got[[0, 1, 3, 4]], want[[0, 1, 3, 4]])


def test_memory_is_one_number_per_request_and_value():
    evaluator = Evaluator(quotas=(30, 20), k=10)
    for _ in range(3):
        evaluator.update(torch.randn(2, 64, 200), torch.rand(64, 200))
    held = [array for batch in evaluator._batches for array in batch.values()]
    assert all(array.base is None for array in held), "a view keeps a tensor of all candidates"
    assert sum(array.nbytes for array in held) == 3 * 64 * 8 * (len(evaluator.per_request()) - 1)
    assert all(isinstance(array, np.ndarray) for array in held)
