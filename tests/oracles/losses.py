"""Reference losses of one list in plain Python, as loops with many digits."""

from decimal import Decimal, localcontext
from math import exp, inf, log, log1p, log2, prod

from tests.oracles.sorting import DIGITS, rows, top_k


def targets(labels, k):
    """Targets of the top k by label; candidates that tie for the last places share them."""
    values = []
    for y in labels:
        better, tied = sum(x > y for x in labels), sum(x == y for x in labels)
        values.append(min(max(Decimal(k - better) / tied, Decimal(0)), Decimal(1)))
    return values


def cross_entropy(p, z):
    return -z * p.ln() - (1 - z) * (1 - p).ln()


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def bce(scores, labels):
    return mean(log1p(exp(s)) - z * s for s, z in zip(scores, labels, strict=True))


def survival(stages, labels, k, *, cuts, operator, temperature):
    """BCE between the ground truth and the product over stages of the top-k probabilities."""
    n = len(labels)
    deciding = [(s, q) for s, q in zip(stages, cuts, strict=True) if q < n]
    if not deciding:
        return 0.0
    with localcontext() as context:
        context.prec = DIGITS
        kept = [top_k(operator, s, q, temperature) for s, q in deciding]
        probabilities = [prod(p) for p in zip(*kept, strict=True)]
        return float(
            mean(
                cross_entropy(p, z) for p, z in zip(probabilities, targets(labels, k), strict=True)
            )
        )


def stage_top_k(scores, labels, k, *, operator, temperature):
    """The same for one stage that keeps as many candidates as the ground truth has."""
    options = {"cuts": [k], "operator": operator, "temperature": temperature}
    return survival([scores], labels, k, **options)


def softplus(x):
    return log1p(exp(x))


def ranknet(scores, labels, *, balance="pairs"):
    """Logistic loss of pairs: mean over pairs, or over labels, candidates and worse ones."""
    n = range(len(scores))
    against = {i: [softplus(scores[j] - scores[i]) for j in n if labels[j] < labels[i]] for i in n}
    against = {i: costs for i, costs in against.items() if costs}
    if not against:
        return 0.0
    if balance == "pairs":
        return mean(cost for costs in against.values() for cost in costs)
    upper = {labels[i] for i in against}
    return mean(mean(mean(c) for i, c in against.items() if labels[i] == y) for y in upper)


def ranks(scores, labels):
    """Ranks by score from 1; the worse label first among ties, the mean rank for ties of both."""
    keys = [(-s, y) for s, y in zip(scores, labels, strict=True)]
    order = sorted(keys)
    return [mean(place for place, other in enumerate(order, 1) if other == key) for key in keys]


def lambda_ndcg(scores, labels, *, m=None):
    """Logistic loss of pairs, weighted by how much NDCG depends on their order."""
    n, last, rank = len(scores), m or inf, ranks(scores, labels)
    best_first = sorted((y - min(labels) for y in labels), reverse=True)
    best = sum(y / log(1 + k) for k, y in enumerate(best_first, 1))
    total = 0.0
    for i in range(n):
        for j in range(n):
            if labels[i] > labels[j]:
                distance = abs(rank[i] - rank[j])
                counted = min(rank[i], rank[j]) <= last
                u = abs(1 / log(1 + distance) - 1 / log(2 + distance)) if counted else 0
                v = abs(
                    sum(sign / log(1 + r) for sign, r in ((1, rank[i]), (-1, rank[j])) if r <= last)
                )
                gain = abs(labels[i] - labels[j]) / best
                total += gain * (0.2 * u + 0.8 * v) * softplus(scores[j] - scores[i])
    return total


def relaxed_recall(scores, labels, k, *, m, operator, temperature):
    """Cross-entropy between the ground truth and the mean of the first m rows."""
    if len(scores) <= m:
        return 0.0
    with localcontext() as context:
        context.prec = DIGITS
        first_rows = rows(operator, scores, temperature)[:m]
        means = [mean(row[j] for row in first_rows) for j in range(len(scores))]
        return float(mean(-z * p.ln() for p, z in zip(means, targets(labels, k), strict=True)))


def permutation(scores, labels, *, operator, temperature):
    """Cross-entropy between two permutations; candidates of equal label share their ranks."""
    if len(set(labels)) < 2:
        return 0.0
    with localcontext() as context:
        context.prec = DIGITS
        total = Decimal(0)
        for y, row in zip(
            sorted(labels, reverse=True), rows(operator, scores, temperature), strict=True
        ):
            total -= mean(p.ln() for p, label in zip(row, labels, strict=True) if label == y)
        return float(total / len(scores) ** 2)


def sigmoid(x):
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def icc(stages, labels, *, quotas, temperature):
    """RankNet on the merged score: the expected score at the stage that drops a candidate."""
    merged = []
    stages = [[x - mean(s) for x in s] for s in stages]
    for j in range(len(labels)):
        reach, score = 1.0, 0.0
        for s, q in zip(stages[:-1], quotas, strict=False):
            cut = sorted(s, reverse=True)[q - 1] if q < len(s) else -inf
            passed = sigmoid((s[j] - cut) / temperature)
            score += reach * (1 - passed) * s[j]
            reach *= passed
        merged.append(score + reach * stages[-1][j])
    return ranknet(merged, labels)


def rankflow(stages, labels, k, *, quotas):
    """Terms of each stage: its own BCE, and regression and ranking with the next as teacher."""

    def top(s, alive, q):
        return sorted(alive, key=lambda j: -s[j])[:q]

    terms, alive, z = {}, list(range(len(labels))), [float(x) for x in targets(labels, k)]
    for t, s in enumerate(stages):
        terms[f"self/stage_{t + 1}"] = bce([s[j] for j in alive], [z[j] for j in alive])
        if t == len(stages) - 1:
            break
        alive, teacher = top(s, alive, quotas[t]), stages[t + 1]
        soft_labels = [sigmoid(teacher[j]) for j in alive]
        terms[f"regression/stage_{t + 1}"] = mean(
            p * log(p / sigmoid(s[j])) + (1 - p) * log((1 - p) / sigmoid(-s[j]))
            for p, j in zip(soft_labels, alive, strict=True)
        )
        kept = top(teacher, alive, quotas[t + 1])
        dropped = [j for j in alive if j not in kept]
        terms[f"ranking/stage_{t + 1}"] = 0.0
        if dropped:
            margin = mean(s[j] for j in kept) - mean(s[j] for j in dropped)
            terms[f"ranking/stage_{t + 1}"] = softplus(-margin)
    return terms


def ideal_gains(labels, *, gain="exponential", m=None):
    """Gains divided by the ideal DCG."""
    gains = [2**y - 1 if gain == "exponential" else y for y in labels]
    ideal_dcg = sum(g / log2(1 + r) for r, g in enumerate(sorted(gains, reverse=True)[:m], 1))
    return [g / ideal_dcg if ideal_dcg else 0.0 for g in gains]


def discounts(scores, labels, m):
    return [1 / log2(1 + r) if r <= (m or inf) else 0.0 for r in ranks(scores, labels)]


def lambdarank(scores, labels, *, m=None, gain="exponential"):
    """Pairs weighted by how much their exchange changes NDCG."""
    gains, rank_discounts = ideal_gains(labels, gain=gain, m=m), discounts(scores, labels, m)
    n = range(len(scores))
    return sum(
        abs(gains[i] - gains[j])
        * abs(rank_discounts[i] - rank_discounts[j])
        * softplus(scores[j] - scores[i])
        for i in n
        for j in n
        if labels[i] > labels[j]
    )


def lambdaloss(scores, labels, *, bound="loss2", m=None, mu=10.0, gain="exponential"):
    """Pairs weighted so that their loss bounds 1 - NDCG."""
    gains, rank_discounts = ideal_gains(labels, gain=gain, m=m), discounts(scores, labels, m)
    rank, n, total = ranks(scores, labels), range(len(scores)), 0.0
    for i in n:
        for j in n:
            cost = softplus(scores[j] - scores[i])
            if bound == "loss1" and i != j:
                total += gains[i] * rank_discounts[i] * cost
            elif bound != "loss1" and labels[i] > labels[j]:
                distance = max(abs(rank[i] - rank[j]), 0.5)
                delta = 1 / log2(1 + distance) - 1 / log2(2 + distance)
                if max(rank[i], rank[j]) > (m or inf):
                    delta /= 1 - 1 / log2(1 + max(rank[i], rank[j]))
                rho = abs(rank_discounts[i] - rank_discounts[j])
                weight = delta if bound == "loss2" else rho + mu * delta
                total += weight * abs(gains[i] - gains[j]) * cost
    return total


def lambda_recall(scores, labels, k, *, m):
    """Pairs whose exchange changes recall."""
    z, rank, n = [float(x) for x in targets(labels, k)], ranks(scores, labels), range(len(scores))
    return sum(
        abs(z[i] - z[j]) * softplus(scores[j] - scores[i])
        for i in n
        for j in n
        if labels[i] > labels[j] and (rank[i] <= m) != (rank[j] <= m)
    ) / min(k, len(scores))


def approx_ndcg(scores, labels, *, temperature=0.1, gain="exponential"):
    """1 - NDCG of soft ranks."""
    gains = ideal_gains(labels, gain=gain)
    if not any(gains):
        return 0.0
    soft = [
        1 + sum(1 / (1 + exp(-(t - s) / temperature)) for j, t in enumerate(scores) if j != i)
        for i, s in enumerate(scores)
    ]
    return 1 - sum(g / log2(1 + r) for g, r in zip(gains, soft, strict=True))


def listnet(scores, labels):
    label_sum, score_sum = (sum(map(exp, x)) for x in (labels, scores))
    return -sum(
        exp(y) / label_sum * log(exp(s) / score_sum) for s, y in zip(scores, labels, strict=True)
    )


def listmle(scores, labels):
    """Softmax loss of each candidate against all candidates that are not better."""
    pairs = list(zip(scores, labels, strict=True))
    return sum(log(sum(exp(t) for t, x in pairs if x <= y)) - s for s, y in pairs)


def pointwise_softmax(scores, labels, *, classes):
    """Cross-entropy of grades whose probability falls with the squared distance to the score."""
    total = 0.0
    for s, y in zip(scores, labels, strict=True):
        weights = [exp(-((s - c) ** 2) / 2) for c in range(classes)]
        total -= log(weights[y] / sum(weights))
    return total / len(scores)


def soft_ndcg(scores, labels, *, m=None, scalings=0, gain="exponential", **sort):
    """1 - NDCG of gains sorted by a soft permutation with columns and rows scaled in turn."""
    gains = ideal_gains(labels, gain=gain, m=m)
    if not any(gains):
        return 0.0
    with localcontext() as context:
        context.prec = DIGITS
        soft = [
            [float(p) for p in row] for row in rows(sort["operator"], scores, sort["temperature"])
        ]
    n = range(len(scores))
    for _ in range(scalings):
        column = [sum(row[j] for row in soft) for j in n]
        soft = [[row[j] / column[j] for j in n] for row in soft]
        soft = [[p / sum(row) for p in row] for row in soft]
    sorted_gains = [sum(p * g for p, g in zip(row, gains, strict=True)) for row in soft][:m]
    return max(0.0, 1 - sum(x / log2(1 + r) for r, x in enumerate(sorted_gains, 1)))


def bpr(scores, labels, k):
    """Logistic loss of pairs, weighted by the difference of their targets."""
    z, n = [float(x) for x in targets(labels, k)], range(len(scores))
    pairs = [(z[i] - z[j], softplus(scores[j] - scores[i])) for i in n for j in n if z[i] > z[j]]
    return sum(w * c for w, c in pairs) / sum(w for w, _ in pairs) if pairs else 0.0


def sampled_softmax(scores, labels, k, *, log_q):
    """Softmax loss of each candidate of the ground truth against all other candidates."""
    z = [float(x) for x in targets(labels, k)]
    weights = [exp(s - q) for s, q in zip(scores, log_q, strict=True)]
    negatives = sum((1 - x) * w for x, w in zip(z, weights, strict=True))
    costs = (-x * log(w / (w + negatives)) for x, w in zip(z, weights, strict=True))
    return sum(costs) / sum(z)
