"""Reference cut likelihood of one list in plain Python: bisection instead of Newton steps."""

from math import exp, inf, log1p


def logistic(x):
    return 1 / (1 + exp(-x)) if x > 0 else exp(x) / (1 + exp(x))


def softplus(x):
    return max(x, 0.0) + log1p(exp(-abs(x)))


def root(decreasing, low=-1e4, high=1e4):
    """Return where a decreasing function is 0."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if decreasing(middle) > 0 else (low, middle)
    return (low + high) / 2


def sizes_of(labels, cuts):
    """Return the sizes of the upper parts: all borders, or the borders nearest to given sizes."""
    best_first = sorted(labels, reverse=True)
    borders = [k for k in range(1, len(labels)) if best_first[k - 1] > best_first[k]]
    if cuts == "labels":
        return borders
    possible = [k for k in cuts if 0 < k < len(labels)] if borders else []
    return sorted({min(borders, key=lambda border: (abs(border - k), border)) for k in possible})


def cut_likelihood(stages, labels, *, quotas, cuts, temperature):
    """Return the loss of each stage."""
    best_first, sizes = sorted(labels, reverse=True), sizes_of(labels, cuts)
    lowest = [best_first[k - 1] for k in sizes]
    mass, entering, losses = [1.0] * len(labels), len(labels), []
    for scores, quota in zip(stages, quotas, strict=True):
        x = [s / temperature for s in scores]
        loss = 0.0
        for least, least_below in zip(lowest, [*lowest[1:], -inf], strict=False):
            region = [j for j, y in enumerate(labels) if y >= least_below]
            upper = sum(mass[j] for j in region if labels[j] >= least)
            theta = root(lambda t: sum(mass[j] * logistic(x[j] - t) for j in region) - upper)  # noqa: B023
            for j in region:
                loss += mass[j] * softplus(theta - x[j] if labels[j] >= least else x[j] - theta)
        losses.append(loss / (max(len(sizes), 1) * len(labels)))
        if quota < entering:
            theta = root(lambda t: sum(a * logistic(y - t) for a, y in zip(mass, x)) - quota)  # noqa: B023, B905
            mass = [a * logistic(y - theta) for a, y in zip(mass, x, strict=True)]
            entering = quota
    return losses
