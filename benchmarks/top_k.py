"""NeuralSort's top k and LCRON beside their formulas, written down directly.

The formulas hold every row of the permutation in memory and leave the rest to autograd. In linear
space they do less, but then they break down at temperatures that this library stands.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

import dense_neural_sort  # noqa: F401, an operator of its name
from cascaderank.objectives import build_objective
from cascaderank.sorting import log_top_k_probability, top_k_probability

Pair = tuple[Callable[[], Tensor], Callable[[], Tensor]]
"""What is compared: a peer, and this library. Both return the same numbers."""

Beside = Literal["formula", "formula in logs", "dense operator"]


def log_top_k(
    scores: Tensor, k: int, temperature: float, *, in_logs: bool
) -> tuple[Tensor, Tensor]:
    """The logarithms of the share of the first k rows in each column, and of the other rows."""
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
    """The loss with weights of 1/2 for the terms of the stages, which is where training starts."""
    best = labels.argsort(-1, descending=True)[..., :k]
    marks = torch.zeros_like(labels).scatter(-1, best, 1.0)
    log_kept, log_dropped = log_top_k(scores, k, 50.0, in_logs=in_logs)
    log_lost = (1 - (1 - log_dropped.exp()).prod(0)).log()
    end_to_end = -(marks * log_kept.sum(0) + (1 - marks) * log_lost).mean()
    of_stages = -(marks * log_kept + (1 - marks) * log_dropped).mean((-2, -1))
    return end_to_end + 0.5 * of_stages.sum()


def gradient(loss: Callable[[Tensor], Tensor], scores: Tensor) -> Tensor:
    leaf = scores.clone().requires_grad_()
    (of_scores,) = torch.autograd.grad(loss(leaf), leaf)
    return of_scores


def probability_pair(lists: int, n: int, k: int) -> Pair:
    """The probability to be kept; the gradient flows through the rows that are kept alone."""
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
    """Both logarithms, beside the formula in logarithms."""
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
