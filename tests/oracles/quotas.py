"""Joint recall of a list under any quotas, and the best quotas by trying all, in plain Python."""

import math
from itertools import pairwise, product


def shares(labels, k):
    """Share of each candidate in the ground truth, the top k; ties share the last places."""
    best = sorted(labels, reverse=True)[:k]
    return [best.count(y) / labels.count(y) / len(best) for y in labels]


def recall(stages, labels, k, quotas):
    """Walk through the stages: sort what is left, keep the first; earlier candidates win ties."""
    alive = list(range(len(labels)))
    for scores, quota in zip(stages, quotas, strict=True):
        alive = sorted(alive, key=lambda i: (-scores[i], i))[:quota]
    return sum(shares(labels, k)[i] for i in alive) if labels else math.nan


def mean_recall(lists, k, quotas):
    found = [recall(stages, labels, k, quotas) for stages, labels in lists if labels]
    return sum(found) / len(found)


def vectors(stages, longest, last):
    """All non-increasing vectors of quotas with a given last one."""
    whole = range(last, longest + 1)
    for leading in product(whole, repeat=stages - 1):
        if all(a >= b for a, b in pairwise(leading)):
            yield (*leading, last)


def cost(costs, lengths, quotas):
    """Mean cost of requests: (per request, per candidate) of each stage."""
    total = 0.0
    for length in lengths:
        received = length
        for (fixed, each), quota in zip(costs, quotas, strict=True):
            total += fixed + each * received
            received = min(received, quota)
    return total / len(lengths)
