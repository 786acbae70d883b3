"""Reference thresholds of one list in plain Python: bisection with 110 digits."""

from decimal import Decimal, localcontext

DIGITS = 110


def logistic(x):
    return 1 / (1 + (-x).exp())


def laplace(x):
    return x.exp() / 2 if x < 0 else 1 - (-x).exp() / 2


def gate(distribution, scores, masses, quota, temperature):
    """Logarithms of F((s - theta) / tau) and 1 - F, with theta such that the quota passes."""
    with localcontext() as context:
        context.prec = DIGITS
        x = [Decimal(s) / Decimal(temperature) for s in scores]
        masses = [Decimal(m) for m in masses]
        low, high = min(x) - 20, max(x) + 20
        while high - low > Decimal("1e-20"):
            middle = (low + high) / 2
            passed = sum(m * distribution(y - middle) for m, y in zip(masses, x, strict=True))
            low, high = (middle, high) if passed > quota else (low, middle)
        return [(float(distribution(y - low).ln()), float(distribution(low - y).ln())) for y in x]


def threshold(scores, k, temperature):
    """The same for the logistic and theta halfway between the k-th and the next score."""
    with localcontext() as context:
        context.prec = DIGITS
        best = sorted(map(Decimal, scores), reverse=True)
        theta = (best[k - 1] + best[k]) / 2
        z = [(Decimal(s) - theta) / Decimal(temperature) for s in scores]
        return [(float(logistic(y).ln()), float(logistic(-y).ln())) for y in z]
