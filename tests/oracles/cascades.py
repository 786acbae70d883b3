"""Reference soft cascade of one list in plain Python."""

from math import exp

from tests.oracles.losses import targets
from tests.oracles.thresholds import gate, logistic


def log_alive(stages, quotas, temperature):
    """Log-mass of each candidate after all stages; a stage that drops none has no effect."""
    log_mass, entering = [0.0] * len(stages[0]), len(stages[0])
    for scores, quota in zip(stages, quotas, strict=True):
        if entering > quota:
            masses = [exp(x) for x in log_mass]
            logs = gate(logistic, scores, masses, quota, temperature)
            log_mass = [x + log_pass for x, (log_pass, _) in zip(log_mass, logs, strict=True)]
            entering = quota
    return log_mass


def conditional_survival(stages, labels, k, *, quotas, temperature):
    k = min(k, len(labels))
    log_mass = log_alive(stages, quotas, temperature)
    return -sum(float(z) * x for z, x in zip(targets(labels, k), log_mass, strict=True)) / k
