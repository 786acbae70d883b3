"""Losses of learning to rank, compared with direct implementations of their formulas.

The formulas support no mask and no tied scores, materialise all pairs or all rows of the
permutation, and are differentiated by autograd.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from cascaderank.losses import LOSSES
from cascaderank.relevance import ground_truth
from top_k import Pair, gradient

SIZES = ((64, 200), (8, 1000))
M, K = 30, 15


def loss_pair(name: str, lists: int, n: int) -> Pair:
    scores, labels = normal_scores(lists, n), torch.randint(0, 5, (lists, n)).float()
    loss = LOSSES[name]
    options = {option: value for option, value in given(n).items() if option in TAKES.get(name, ())}

    def formula(leaf: Tensor) -> Tensor:
        return FORMULAS[name](leaf, labels).mean()

    def ours(leaf: Tensor) -> Tensor:
        return loss(leaf, labels, **options)

    return lambda: gradient(formula, scores), lambda: gradient(ours, scores)


def soft_sort_pair(lists: int, n: int) -> Pair:
    """The permutation loss with SoftSort, whose temperature does not depend on the length."""
    scores, labels = normal_scores(lists, n), torch.randint(0, 5, (lists, n)).float()
    loss, temperature = LOSSES["permutation"], 0.5

    def formula(leaf: Tensor) -> Tensor:
        best_first = leaf.sort(-1, descending=True).values
        distances = (best_first[..., :, None] - leaf[..., None, :]).abs()
        rows = (-distances / temperature).log_softmax(-1)
        return -(target_rows(labels) * rows).mean()

    def ours(leaf: Tensor) -> Tensor:
        return loss(leaf, labels, operator="soft_sort", temperature=temperature)

    return lambda: gradient(formula, scores), lambda: gradient(ours, scores)


def normal_scores(lists: int, n: int) -> Tensor:
    """Return quantiles of the normal distribution in random order, all distinct."""
    return torch.special.ndtri((torch.rand(lists, n).argsort(-1) + 0.5) / n)


def ranknet(scores: Tensor, labels: Tensor) -> Tensor:
    cost, preferred = pairs(scores, labels)
    return (cost * preferred).sum((-1, -2)) / preferred.sum((-1, -2))


def lambdarank(scores: Tensor, labels: Tensor) -> Tensor:
    cost, preferred = pairs(scores, labels)
    gains, discounts = gain(labels), 1 / torch.log2(1 + rank(scores))
    weights = distance(gains) * distance(discounts)
    return (cost * preferred * weights).sum((-1, -2))


def lambda_recall(scores: Tensor, labels: Tensor) -> Tensor:
    cost, preferred = pairs(scores, labels)
    kept, share = rank(scores) <= M, ground_truth(labels, k=K) / K
    swapped = kept[..., :, None] ^ kept[..., None, :]
    return (cost * preferred * swapped * distance(share)).sum((-1, -2))


def lambdaloss(scores: Tensor, labels: Tensor) -> Tensor:
    cost, preferred = pairs(scores, labels)
    ranks = rank(scores).to(scores.dtype)
    apart = distance(ranks).clamp(min=1)
    by_distance = 1 / torch.log2(1 + apart) - 1 / torch.log2(2 + apart)
    weights = distance(1 / torch.log2(1 + ranks)) + 10 * by_distance
    return (cost * preferred * weights * distance(gain(labels))).sum((-1, -2))


def approx_ndcg(scores: Tensor, labels: Tensor) -> Tensor:
    ahead = ((scores[..., None, :] - scores[..., :, None]) / 0.1).sigmoid()
    return 1 - (gain(labels) / torch.log2(1 + 0.5 + ahead.sum(-1))).sum(-1)


def listnet(scores: Tensor, labels: Tensor) -> Tensor:
    return -(labels.softmax(-1) * scores.log_softmax(-1)).sum(-1)


def listmle(scores: Tensor, labels: Tensor) -> Tensor:
    not_better = labels[..., None, :] <= labels[..., :, None]
    left = scores[..., None, :].masked_fill(~not_better, -torch.inf).logsumexp(-1)
    return (left - scores).sum(-1)


def pointwise_softmax(scores: Tensor, labels: Tensor) -> Tensor:
    logits = -((scores[..., None] - torch.arange(5)) ** 2) / 2
    return -logits.log_softmax(-1).gather(-1, labels.long()[..., None]).mean((-1, -2))


def permutation(scores: Tensor, labels: Tensor) -> Tensor:
    return -(target_rows(labels) * log_rows(scores)).mean((-1, -2))


def target_rows(labels: Tensor) -> Tensor:
    best_first = labels.sort(-1, descending=True).values
    alike = (best_first[..., :, None] == labels[..., None, :]).float()
    return alike / alike.sum(-1, keepdim=True)


def relaxed_recall(scores: Tensor, labels: Tensor) -> Tensor:
    return of_rows(log_rows(scores), labels)


def arf(scores: Tensor, labels: Tensor) -> Tensor:
    rows = log_rows(scores)
    targets = target_rows(labels)
    return of_rows(rows, labels) - 0.5 * (targets * rows).mean((-1, -2))


def of_rows(rows: Tensor, labels: Tensor) -> Tensor:
    share = rows[..., :M, :].exp().sum(-2) / M
    return -(ground_truth(labels, k=K) * share.log()).mean(-1)


def pirank(scores: Tensor, labels: Tensor) -> Tensor:
    return 1 - dcg(log_rows(scores).exp(), labels)


def neural_ndcg(scores: Tensor, labels: Tensor) -> Tensor:
    rows = log_rows(scores).exp()
    for _ in range(20):
        rows = rows / rows.sum(-2, keepdim=True)
        rows = rows / rows.sum(-1, keepdim=True)
    return 1 - dcg(rows, labels)


def dcg(rows: Tensor, labels: Tensor) -> Tensor:
    gains = (rows @ gain(labels)[..., None])[..., 0]
    return (gains / torch.log2(torch.arange(2, gains.shape[-1] + 2))).sum(-1)


def pairs(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    cost = softplus(-(scores[..., :, None] - scores[..., None, :]))
    return cost, labels[..., :, None] > labels[..., None, :]


def rank(scores: Tensor) -> Tensor:
    return scores.detach().argsort(-1, descending=True).argsort(-1) + 1


def gain(labels: Tensor) -> Tensor:
    gains = 2**labels - 1
    best = gains.sort(-1, descending=True).values
    return gains / (best / torch.log2(torch.arange(2, best.shape[-1] + 2))).sum(-1, keepdim=True)


def distance(values: Tensor) -> Tensor:
    return (values[..., :, None] - values[..., None, :]).abs()


def log_rows(scores: Tensor) -> Tensor:
    n = scores.shape[-1]
    pull = n + 1 - 2 * torch.arange(1, n + 1)
    logits = pull[:, None] * scores[..., None, :] - distance(scores).sum(-1)[..., None, :]
    return (logits / n).log_softmax(-1)


FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    f.__name__: f
    for f in (
        ranknet, lambdarank, lambdaloss, lambda_recall, approx_ndcg, listnet, listmle,
        pointwise_softmax, permutation, relaxed_recall, arf, pirank, neural_ndcg,
    )
}  # fmt: skip
"""Formula by name of the loss; it returns one value per list."""

TAKES = {
    "lambda_recall": ("m", "k"),
    "relaxed_recall": ("m", "k", "temperature"),
    "permutation": ("temperature",),
    "arf": ("m", "k", "temperature"),
    "pirank": ("temperature",),
    "neural_ndcg": ("temperature",),
}


def given(n: int) -> dict[str, float]:
    return {"m": M, "k": K, "temperature": float(n)}
