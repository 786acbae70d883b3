"""The soft cascade of one list in plain Python."""

from math import exp

from tests.oracles.losses import marks
from tests.oracles.thresholds import gate, logistic


def log_alive(stages, quotas, temperature):
    """The log-mass that each candidate is left with; a stage without a choice lets all pass."""
    left, entering = [0.0] * len(stages[0]), len(stages[0])
    for scores, quota in zip(stages, quotas, strict=True):
        if entering > quota:
            masses = [exp(x) for x in left]
            logs = gate(logistic, scores, masses, quota, temperature)
            left = [x + log_pass for x, (log_pass, _) in zip(left, logs, strict=True)]
            entering = quota
    return left


def conditional_survival(stages, labels, k, *, quotas, temperature):
    k = min(k, len(labels))
    left = log_alive(stages, quotas, temperature)
    return -sum(float(z) * x for z, x in zip(marks(labels, k), left, strict=True)) / k
