"""NeuralSort's top k and LCRON, compared with direct implementations of their formulas.

The formulas materialise all rows of the permutation and are differentiated by autograd. In linear
space they need fewer operations, but fail at temperatures that this library supports.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

import dense_neural_sort  # noqa: F401, registers an operator
from cascaderank.objectives import build_objective
from cascaderank.sorting import log_top_k_probability, top_k_probability

Pair = tuple[Callable[[], Tensor], Callable[[], Tensor]]
"""A function of a peer and one of this library, which return the same values."""

Beside = Literal["formula", "formula in logs", "dense operator"]


def log_top_k(
    scores: Tensor, k: int, temperature: float, *, in_logs: bool
) -> tuple[Tensor, Tensor]:
    """Return the logarithms of the fractions of each column in the first k and the other rows."""
    n = scores.shape[-1]
    distance = (scores[..., :, None] - scores[..., None, :]).abs().sum(-1)
    pull = n + 1 - 2 * torch.arange(1, n + 1)
    logits = (pull[:, None] * scores[..., None, :] - distance[..., None, :]) / temperature
    if in_logs:
        rows = logits.log_softmax(-1)
        total = rows.logsumexp(-2).detach()
        return rows[..., :k, :].logsumexp(-2) - total, rows[..., k:, :].logsumexp(-2) - total
    rows = logits.softmax(-1)
    total = rows.sum(-2).detach()
    return (rows[..., :k, :].sum(-2) / total).log(), (rows[..., k:, :].sum(-2) / total).log()


def lcron(scores: Tensor, labels: Tensor, k: int, *, in_logs: bool) -> Tensor:
    """Return the loss with the initial weights of the terms of the stages, 1/2."""
    best = labels.argsort(-1, descending=True)[..., :k]
    targets = torch.zeros_like(labels).scatter(-1, best, 1.0)
    log_kept, log_dropped = log_top_k(scores, k, 50.0, in_logs=in_logs)
    log_lost = (1 - (1 - log_dropped.exp()).prod(0)).log()
    end_to_end = -(targets * log_kept.sum(0) + (1 - targets) * log_lost).mean()
    of_stages = -(targets * log_kept + (1 - targets) * log_dropped).mean((-2, -1))
    return end_to_end + 0.5 * of_stages.sum()


def gradient(loss: Callable[[Tensor], Tensor], scores: Tensor) -> Tensor:
    leaf = scores.clone().requires_grad_()
    (of_scores,) = torch.autograd.grad(loss(leaf), leaf)
    return of_scores


def probability_pair(lists: int, n: int, k: int) -> Pair:
    """The top-k probability; its gradient flows through the kept rows only."""
    scores, above = torch.randn(lists, n), torch.rand(lists, n)

    def formula(leaf: Tensor) -> Tensor:
        distance = (leaf[..., :, None] - leaf[..., None, :]).abs().sum(-1)
        pull = n + 1 - 2 * torch.arange(1, n + 1)
        rows = ((pull[:, None] * leaf[..., None, :] - distance[..., None, :]) / n).softmax(-1)
        return (rows[..., :k, :].sum(-2) / rows.sum(-2).detach() * above).sum()

    def ours(leaf: Tensor) -> Tensor:
        return (top_k_probability(leaf, k, temperature=float(n)) * above).sum()

    return lambda: gradient(formula, scores), lambda: gradient(ours, scores)


def log_pair(lists: int, n: int, k: int) -> Pair:
    """Both logarithms, compared with the formula in log space."""
    scores, above = torch.randn(lists, n), torch.rand(2, lists, n)

    def formula(leaf: Tensor) -> Tensor:
        return (torch.stack(log_top_k(leaf, k, float(n), in_logs=True)) * above).sum()

    def ours(leaf: Tensor) -> Tensor:
        return (torch.stack(log_top_k_probability(leaf, k, temperature=float(n))) * above).sum()

    return lambda: gradient(formula, scores), lambda: gradient(ours, scores)


def lcron_pair(stages: int, lists: int, n: int, k: int, *, beside: Beside = "formula") -> Pair:
    scores, labels = torch.randn(stages, lists, n), torch.randn(lists, n)

    def of_objective(operator: str) -> Callable[[Tensor], Tensor]:
        objective = build_objective(
            "lcron", stages=stages, quotas=[k] * stages, ground_truth=k, operator=operator
        )
        return lambda leaf: objective(leaf, labels).total

    def formula(leaf: Tensor) -> Tensor:
        return lcron(leaf, labels, k, in_logs=beside == "formula in logs")

    ours = of_objective("neural_sort")
    theirs = of_objective("dense_neural_sort") if beside == "dense operator" else formula
    return lambda: gradient(theirs, scores), lambda: gradient(ours, scores)
