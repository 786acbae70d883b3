"""Reference soft sorting of one list in plain Python.

With 160 digits, 1 - p is accurate even at low temperatures, where p is close to 1.
"""

from decimal import Decimal, getcontext, localcontext

DIGITS = 160


def softmax(logits):
    weights = [x.exp() for x in logits]
    return [w / sum(weights) for w in weights]


def neural_sort(s, temperature):
    n = len(s)
    distance = [sum(abs(a - b) for b in s) for a in s]
    return [
        softmax([((n + 1 - 2 * k) * s[j] - distance[j]) / temperature for j in range(n)])
        for k in range(1, n + 1)
    ]


def soft_sort(s, temperature):
    return [softmax([-abs(best - x) / temperature for x in s]) for best in sorted(s, reverse=True)]


def rows(operator, s, temperature):
    """Soft permutation as a list of rows of Decimals."""
    with localcontext() as context:
        context.prec = DIGITS
        function = {"neural_sort": neural_sort, "soft_sort": soft_sort}[operator]
        return function([Decimal(x) for x in s], Decimal(temperature))


def top_k(operator, s, k, temperature):
    """Fraction of the sum of each column in the first k rows."""
    assert getcontext().prec >= DIGITS, (
        "call it in a context of DIGITS digits, or the result is rounded"
    )
    every = rows(operator, s, temperature)
    return [sum(r[j] for r in every[:k]) / sum(r[j] for r in every) for j in range(len(s))]
