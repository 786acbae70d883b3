"""Off-policy estimates and exposure probabilities in plain Python, one request after another."""

from itertools import permutations
from math import exp


def value(requests, *, clip, epsilon):
    """Estimates of one policy.

    Args:
        requests: one list per request with ``(reward, exposed, propensity, target, predicted)`` of
            each candidate.
    """
    n, exposures, clipped, lost, mass = len(requests), [], 0, 0.0, 0.0
    rows, direct = [], []
    for request in requests:
        gain = weight = expected = modelled = 0.0
        for reward, exposed, propensity, target, predicted in request:
            ratio = target / propensity if propensity > 0 else 0.0
            w = min(clip, ratio)
            expected += propensity * w
            modelled += target * predicted
            mass += target
            lost += target if propensity < epsilon else 0.0
            if exposed:
                exposures.append(w)
                clipped += ratio > clip
                gain += w * reward
                weight += w
                modelled += w * (reward - predicted)
        rows.append((gain, weight, expected))
        direct.append(modelled)
    gains, weights = sum(g for g, _, _ in rows), sum(w for _, w, _ in rows)
    return {
        "ips": gains / n,
        "snips": gains / weights * mass / n,
        "beta_ips": intercept([(w - e, g) for g, w, e in rows]),
        "dr": sum(direct) / n,
        "effective_sample_size": weights**2 / sum(w**2 for w in exposures),
        "clipped": clipped / len(exposures),
        "unsupported": lost / mass,
        "weight_ratio": weights / sum(e for _, _, e in rows),
    }


def intercept(points):
    """Intercept of the least-squares line through points ``(x, y)``; the mean if x is constant."""
    n = len(points)
    x, y = sum(p[0] for p in points) / n, sum(p[1] for p in points) / n
    square = sum((p[0] - x) ** 2 for p in points)
    if square < 1e-20:
        return y
    return y - x * sum((p[0] - x) * (p[1] - y) for p in points) / square


def exposure(stages, quotas, noises):
    """Exact exposure probabilities of one list: each stage is Plackett-Luce among the survivors."""
    chances = {tuple(range(len(stages[0]))): 1.0}
    for scores, quota, noise in zip(stages, quotas, noises, strict=True):
        after = {}
        for alive, chance in chances.items():
            for kept, p in kept_sets(alive, scores, quota, noise).items():
                after[kept] = after.get(kept, 0.0) + chance * p
        chances = after
    return [sum(p for kept, p in chances.items() if j in kept) for j in range(len(stages[0]))]


def kept_sets(alive, scores, quota, noise):
    """Probability of each set that a stage can keep."""
    if quota >= len(alive):
        return {alive: 1.0}
    if noise == 0:
        return {tuple(sorted(sorted(alive, key=lambda j: (-scores[j], j))[:quota])): 1.0}
    found = {}
    for order in permutations(alive, quota):
        left, chance = list(alive), 1.0
        for j in order:
            chance *= exp(scores[j] / noise) / sum(exp(scores[i] / noise) for i in left)
            left.remove(j)
        kept = tuple(sorted(order))
        found[kept] = found.get(kept, 0.0) + chance
    return found
