"""Reference level-contrastive loss of one list in plain Python."""

from math import exp, log, log1p


def softplus(x):
    return max(x, 0.0) + log1p(exp(-abs(x)))


def level_contrastive(
    scores, truth, levels, *, weights, temperature, negatives, exposed, pointwise
):
    """Arguments are lists; ``truth`` in {0, 1}, ``weights`` a number for each level."""
    x = [s / temperature for s in scores]
    everyone = range(len(x))
    positives = [j for j in everyone if truth[j]]
    if not positives:
        return 0.0
    loss = 0.0
    for level, weight in enumerate(weights):
        rivals = [j for j in everyone if negatives[j] and levels[j] == level and not truth[j]]
        for i in positives:
            total = exp(x[i]) + sum(exp(x[j]) for j in rivals)
            loss -= weight * (x[i] - log(total)) / len(positives)
    shown = [j for j in everyone if exposed[j]]
    for j in shown:
        loss += pointwise * softplus(-x[j] if truth[j] else x[j]) / len(shown)
    return loss
