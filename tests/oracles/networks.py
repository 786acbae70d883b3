"""Reference sorting networks of one list in plain Python, one comparison at a time."""

from math import atan, exp, pi

SWAPS = {
    "cauchy": lambda x: atan(x) / pi + 0.5,
    "logistic": lambda x: 1 / (1 + exp(-x)),
    "logistic_phi": lambda x: 1 / (1 + exp(-x / (abs(x) or 1) ** 0.25)),
}


def odd_even(n):
    """Comparisons in order of execution, as pairs of positions."""
    return [(i, i + 1) for t in range(n) for i in range(t % 2, n - 1, 2)]


def bitonic(n):
    """Sort both halves, then merge with mirrored comparisons; positions beyond n are omitted."""

    def clean(first, size):
        if size < 2:
            return []
        half = size // 2
        pairs = [(i, i + half) for i in range(first, first + half)]
        return pairs + clean(first, half) + clean(first + half, half)

    def sort(first, size):
        if size < 2:
            return []
        half = size // 2
        merge = [(first + i, first + size - 1 - i) for i in range(half)]
        cleaned = clean(first, half) + clean(first + half, half)
        return sort(first, half) + sort(first + half, half) + merge + cleaned

    size = 1
    while size < n:
        size *= 2
    return [(i, j) for i, j in sort(0, size) if j < n]


def permutation(comparisons, scores, swap, temperature):
    """Product of the matrices of all comparisons: rows are ranks, columns candidates."""
    n, values = len(scores), list(scores)
    rows = [[float(i == j) for j in range(n)] for i in range(n)]
    for i, j in comparisons(n):
        stay = SWAPS[swap]((values[i] - values[j]) / temperature)
        for table in (rows, [[v] for v in values]):
            upper = [stay * a + (1 - stay) * b for a, b in zip(table[i], table[j], strict=True)]
            lower = [(1 - stay) * a + stay * b for a, b in zip(table[i], table[j], strict=True)]
            table[i], table[j] = upper, lower
        values[i], values[j] = table[i][0], table[j][0]
    return rows
