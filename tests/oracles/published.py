"""The published code's objectives on one list in plain Python: METHODS, section 4.2, as loops."""

from math import exp, log, log1p, prod

EPSILON = 1e-6


def soft_rows(s, temperature):
    """Rows of NeuralSort."""
    n, rows = len(s), []
    for i in range(1, n + 1):
        logits = [
            ((n + 1 - 2 * i) * s[j] - sum(abs(s[j] - x) for x in s)) / temperature for j in range(n)
        ]
        weights = [exp(x - max(logits)) for x in logits]
        rows.append([w / sum(weights) for w in weights])
    return rows


def column_sums(rows):
    return [sum(row[j] for row in rows) for j in range(len(rows[0]))]


def label_rows(labels, *, shared):
    """One row per rank by label, which is positive for the candidates with the label of the rank.

    ``shared``: the rows of a group of tied labels add up to 1 for each candidate of the group.
    """
    rows = []
    for label in sorted(labels, reverse=True):
        tied = labels.count(label)
        rows.append([(1 / tied if shared else 1) * (y == label) for y in labels])
    return rows


def lcron(stages, labels, k, *, temperature, totals=None):
    """Terms of the total at weights 1, and the column sums, which are constants to the gradient.

    ``totals``: column sums of each stage, of other scores.
    """
    n, three = len(labels), len(stages) == 3
    soft = [soft_rows(s, temperature) for s in stages]
    totals = totals or [column_sums(rows) for rows in soft]
    kept, dropped = (
        [
            [sum(r[j] for r in part(rows)) / (total[j] + EPSILON) for j in range(n)]
            for rows, total in zip(soft, totals, strict=True)
        ]
        for part in (lambda rows: rows[:k], lambda rows: rows[k:])
    )
    shared = label_rows(labels, shared=True)
    u = column_sums(shared[:k])
    v = [sum(row[j] for row in label_rows(labels, shared=not three)[k:]) for j in range(n)]
    terms = {}
    survived = [prod(a[j] for a in kept) for j in range(n)]
    lost = [1 - prod(1 - d[j] for d in dropped) for j in range(n)]
    terms["end_to_end"] = (
        sum(
            -u[j] * log(survived[j] + EPSILON) - (1 - u[j]) * log(lost[j] + EPSILON)
            for j in range(n)
        )
        / n
    )
    for t in range(len(stages)):
        terms[f"top_k/stage_{t + 1}"] = (
            sum(
                -u[j] * log(kept[t][j] + EPSILON) - v[j] * log(dropped[t][j] + EPSILON)
                for j in range(n)
            )
            / n
        )
    return terms, totals


def lcron_total(stages, labels, k, *, temperature, totals=None):
    terms, _ = lcron(stages, labels, k, temperature=temperature, totals=totals)
    return terms["end_to_end"] + sum(
        value / 2 for name, value in terms.items() if name != "end_to_end"
    )


def difference_quotients(function, stages, *, step=1e-5):
    """Gradient of a function of the scores of all stages, by central differences."""
    gradient = []
    for t, s in enumerate(stages):
        gradient.append([])
        for j in range(len(s)):
            values = []
            for sign in (1, -1):
                moved = [list(x) for x in stages]
                moved[t][j] += sign * step
                values.append(function(moved))
            gradient[-1].append((values[0] - values[1]) / (2 * step))
    return gradient


def fs_lambdaloss(s, labels, *, cut=30):
    """The term of a stage: all ordered pairs, weighted by how much DCG depends on their order."""
    n = len(s)
    rank = [1 + sum(x > y for x in s) for y in s]  # of distinct scores
    ideal = sum(y / log(1 + i) for i, y in enumerate(sorted(labels, reverse=True), 1))
    gain = [y / ideal for y in labels]
    discount = [1 / log(1 + r) if r <= cut else 0 for r in rank]
    total = 0.0
    for i in range(n):
        for j in range(n):
            distance, u = abs(rank[i] - rank[j]), 0.0
            if distance > 0 and min(rank[i], rank[j]) <= cut:
                u = abs(1 / log(1 + distance) - 1 / log(2 + distance))
            v = abs(discount[i] - discount[j])
            cost = log1p(exp(s[i] - s[j])) - (labels[i] > labels[j]) * (s[i] - s[j])
            total += abs(gain[i] - gain[j]) * (0.2 * u + 0.8 * v) * cost
    return total
