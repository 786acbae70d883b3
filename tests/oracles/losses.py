"""Losses of one list in plain Python, too slow and too precise to be wrong."""

from decimal import Decimal, localcontext
from math import exp, inf, log, log1p, log2, prod

from tests.oracles.sorting import DIGITS, rows, top_k


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


def softplus(x):
    return log1p(exp(x))


def ranknet(scores, labels, *, balance="pairs"):
    """Logistic loss of pairs, over all of them or over labels, candidates and the worse ones."""
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
    """1 for the best score; ties worst label first, ties of both share the mean rank."""
    keys = [(-s, y) for s, y in zip(scores, labels, strict=True)]
    order = sorted(keys)
    return [mean(place for place, other in enumerate(order, 1) if other == key) for key in keys]


def lambda_ndcg(scores, labels, *, m=None):
    """Logistic loss of pairs, weighted by what their order means to NDCG."""
    n, last, rank = len(scores), m or inf, ranks(scores, labels)
    best_first = sorted((y - min(labels) for y in labels), reverse=True)
    best = sum(y / log(1 + k) for k, y in enumerate(best_first, 1))
    total = 0.0
    for i in range(n):
        for j in range(n):
            if labels[i] > labels[j]:
                apart = abs(rank[i] - rank[j])
                seen = min(rank[i], rank[j]) <= last
                u = abs(1 / log(1 + apart) - 1 / log(2 + apart)) if seen else 0
                v = abs(
                    sum(sign / log(1 + r) for sign, r in ((1, rank[i]), (-1, rank[j])) if r <= last)
                )
                gain = abs(labels[i] - labels[j]) / best
                total += gain * (0.2 * u + 0.8 * v) * softplus(scores[j] - scores[i])
    return total


def relaxed_recall(scores, labels, k, *, m, operator, temperature):
    """Cross-entropy between ground truth and the mean of the first m rows of a permutation."""
    if len(scores) <= m:
        return 0.0
    with localcontext() as context:
        context.prec = DIGITS
        upper = rows(operator, scores, temperature)[:m]
        shares = [mean(row[j] for row in upper) for j in range(len(scores))]
        return float(mean(-z * p.ln() for p, z in zip(shares, marks(labels, k), strict=True)))


def permutation(scores, labels, *, operator, temperature):
    """Cross-entropy between two permutations; candidates that tie share their ranks."""
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
    """RankNet on the score of the stage that drops a candidate, softly."""
    merged = []
    stages = [[x - mean(s) for x in s] for s in stages]
    for j in range(len(labels)):
        reached, score = 1.0, 0.0
        for s, q in zip(stages[:-1], quotas, strict=False):
            cut = sorted(s, reverse=True)[q - 1] if q < len(s) else -inf
            passed = sigmoid((s[j] - cut) / temperature)
            score += reached * (1 - passed) * s[j]
            reached *= passed
        merged.append(score + reached * stages[-1][j])
    return ranknet(merged, labels)


def rankflow(stages, labels, k, *, quotas):
    """The terms of a stage: by itself, and two that follow the next stage."""

    def top(s, alive, q):
        return sorted(alive, key=lambda j: -s[j])[:q]

    terms, alive, z = {}, list(range(len(labels))), [float(x) for x in marks(labels, k)]
    for t, s in enumerate(stages):
        terms[f"self/stage_{t + 1}"] = bce([s[j] for j in alive], [z[j] for j in alive])
        if t == len(stages) - 1:
            break
        alive, tutor = top(s, alive, quotas[t]), stages[t + 1]
        wanted = [sigmoid(tutor[j]) for j in alive]
        terms[f"regression/stage_{t + 1}"] = mean(
            p * log(p / sigmoid(s[j])) + (1 - p) * log((1 - p) / sigmoid(-s[j]))
            for p, j in zip(wanted, alive, strict=True)
        )
        kept = top(tutor, alive, quotas[t + 1])
        dropped = [j for j in alive if j not in kept]
        terms[f"ranking/stage_{t + 1}"] = 0.0
        if dropped:
            more = mean(s[j] for j in kept) - mean(s[j] for j in dropped)
            terms[f"ranking/stage_{t + 1}"] = softplus(-more)
    return terms


def ideal_gains(labels, *, gain="exponential", m=None):
    """Gains over the best DCG there can be."""
    gains = [2**y - 1 if gain == "exponential" else y for y in labels]
    best = sum(g / log2(1 + r) for r, g in enumerate(sorted(gains, reverse=True)[:m], 1))
    return [g / best if best else 0.0 for g in gains]


def discounts(scores, labels, m):
    return [1 / log2(1 + r) if r <= (m or inf) else 0.0 for r in ranks(scores, labels)]


def lambdarank(scores, labels, *, m=None, gain="exponential"):
    """Pairs weighted by what their exchange does to NDCG."""
    gains, of_rank = ideal_gains(labels, gain=gain, m=m), discounts(scores, labels, m)
    n = range(len(scores))
    return sum(
        abs(gains[i] - gains[j]) * abs(of_rank[i] - of_rank[j]) * softplus(scores[j] - scores[i])
        for i in n
        for j in n
        if labels[i] > labels[j]
    )


def lambdaloss(scores, labels, *, bound="loss2", m=None, mu=10.0, gain="exponential"):
    """Pairs weighted so that they bound NDCG."""
    gains, of_rank = ideal_gains(labels, gain=gain, m=m), discounts(scores, labels, m)
    rank, n, total = ranks(scores, labels), range(len(scores)), 0.0
    for i in n:
        for j in n:
            cost = softplus(scores[j] - scores[i])
            if bound == "loss1" and i != j:
                total += gains[i] * of_rank[i] * cost
            elif bound != "loss1" and labels[i] > labels[j]:
                apart = max(abs(rank[i] - rank[j]), 0.5)
                delta = 1 / log2(1 + apart) - 1 / log2(2 + apart)
                if max(rank[i], rank[j]) > (m or inf):
                    delta /= 1 - 1 / log2(1 + max(rank[i], rank[j]))
                rho = abs(of_rank[i] - of_rank[j])
                weight = delta if bound == "loss2" else rho + mu * delta
                total += weight * abs(gains[i] - gains[j]) * cost
    return total


def lambda_recall(scores, labels, k, *, m):
    """Pairs whose exchange changes what is kept of the ground truth."""
    z, rank, n = [float(x) for x in marks(labels, k)], ranks(scores, labels), range(len(scores))
    return sum(
        abs(z[i] - z[j]) * softplus(scores[j] - scores[i])
        for i in n
        for j in n
        if labels[i] > labels[j] and (rank[i] <= m) != (rank[j] <= m)
    ) / min(k, len(scores))


def approx_ndcg(scores, labels, *, temperature=0.1, gain="exponential"):
    """1 - NDCG with ranks that are counted softly."""
    gains = ideal_gains(labels, gain=gain)
    if not any(gains):
        return 0.0
    soft = [
        1 + sum(1 / (1 + exp(-(t - s) / temperature)) for j, t in enumerate(scores) if j != i)
        for i, s in enumerate(scores)
    ]
    return 1 - sum(g / log2(1 + r) for g, r in zip(gains, soft, strict=True))


def listnet(scores, labels):
    wanted, got = (sum(map(exp, x)) for x in (labels, scores))
    return -sum(exp(y) / wanted * log(exp(s) / got) for s, y in zip(scores, labels, strict=True))


def listmle(scores, labels):
    """Each candidate is drawn against all that are not better."""
    pairs = list(zip(scores, labels, strict=True))
    return sum(log(sum(exp(t) for t, x in pairs if x <= y)) - s for s, y in pairs)


def pointwise_softmax(scores, labels, *, classes):
    """Of all grades, the one nearest to the score is the likeliest."""
    total = 0.0
    for s, y in zip(scores, labels, strict=True):
        chances = [exp(-((s - c) ** 2) / 2) for c in range(classes)]
        total -= log(chances[y] / sum(chances))
    return total / len(scores)


def soft_ndcg(scores, labels, *, m=None, scalings=0, gain="exponential", **sort):
    """1 - NDCG of gains that a soft permutation sorted, its columns and rows scaled in turn."""
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
    seen = [sum(p * g for p, g in zip(row, gains, strict=True)) for row in soft][:m]
    return max(0.0, 1 - sum(x / log2(1 + r) for r, x in enumerate(seen, 1)))


def bpr(scores, labels, k):
    """Logistic loss of pairs of which one is more of the ground truth than the other."""
    z, n = [float(x) for x in marks(labels, k)], range(len(scores))
    pairs = [(z[i] - z[j], softplus(scores[j] - scores[i])) for i in n for j in n if z[i] > z[j]]
    return sum(w * c for w, c in pairs) / sum(w for w, _ in pairs) if pairs else 0.0


def sampled_softmax(scores, labels, k, *, log_q):
    """Each candidate of the ground truth against all that are none."""
    z = [float(x) for x in marks(labels, k)]
    weights = [exp(s - q) for s, q in zip(scores, log_q, strict=True)]
    rest = sum((1 - x) * w for x, w in zip(z, weights, strict=True))
    costs = (-x * log(w / (w + rest)) for x, w in zip(z, weights, strict=True))
    return sum(costs) / sum(z)
