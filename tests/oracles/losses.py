"""Losses of one list in plain Python, too slow and too precise to be wrong."""

from decimal import Decimal, localcontext
from math import exp, log1p, prod

from tests.oracles.sorting import DIGITS, top_k


def marks(labels, k):
    """The top k by label; those that tie for the last places share them."""
    shares = []
    for y in labels:
        better, tied = sum(x > y for x in labels), sum(x == y for x in labels)
        shares.append(min(max(Decimal(k - better) / tied, Decimal(0)), Decimal(1)))
    return shares


def cross_entropy(p, z):
    return -z * p.ln() - (1 - z) * (1 - p).ln()


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def bce(scores, labels):
    return mean(log1p(exp(s)) - z * s for s, z in zip(scores, labels, strict=True))


def survival(stages, labels, k, *, cuts, operator, temperature):
    """BCE between ground truth and the product of all stages' chances to keep a candidate."""
    n = len(labels)
    deciding = [(s, q) for s, q in zip(stages, cuts, strict=True) if q < n]
    if not deciding:
        return 0.0
    with localcontext() as context:
        context.prec = DIGITS
        kept = [top_k(operator, s, q, temperature) for s, q in deciding]
        chance = [prod(p) for p in zip(*kept, strict=True)]
        return float(
            mean(cross_entropy(p, z) for p, z in zip(chance, marks(labels, k), strict=True))
        )


def stage_top_k(scores, labels, k, *, operator, temperature):
    """The same for one stage that cuts at the ground truth."""
    options = {"cuts": [k], "operator": operator, "temperature": temperature}
    return survival([scores], labels, k, **options)
