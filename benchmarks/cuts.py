"""Losses with thresholds, compared with bisection, and with the objective of LCRON."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from cascaderank.objectives import build_objective
from top_k import Pair, gradient

Thresholds = Literal["cut_likelihood", "conditional_survival"]
Beside = Literal["bisection", "lcron", "lcron, coupled"]
_LEVELS, _TEMPERATURE, _HALVINGS = 4, 0.25, 40


def cut_pair(name: Thresholds, lists: int, n: int, *, beside: Beside) -> Pair:
    """Return both functions: two stages, levels of equal size, and the top level as the truth.

    Cut likelihood has no coupling, but for ``"lcron, coupled"``: then it is as by default.
    """
    scores, size = torch.randn(2, lists, n), n // _LEVELS
    levels = torch.rand(lists, n).argsort(-1) // size
    quotas = (3 * size, 2 * size)
    labels = levels.float()

    def objective(which: str) -> Callable[[Tensor], Tensor]:
        options = {} if which == "lcron" else {"temperature": _TEMPERATURE}
        if which == "cut_likelihood":
            options["coupling"] = float(beside == "lcron, coupled")
        built = build_objective(which, stages=2, quotas=quotas, ground_truth=size, **options)
        return lambda leaf: built(leaf, labels, levels=levels).total

    def formula(leaf: Tensor) -> Tensor:
        by_bisection = cuts if name == "cut_likelihood" else survival
        return by_bisection(leaf / _TEMPERATURE, levels, quotas)

    theirs = formula if beside == "bisection" else objective("lcron")
    ours = objective(name)
    return lambda: gradient(theirs, scores), lambda: gradient(ours, scores)


def cuts(scores: Tensor, levels: Tensor, quotas: tuple[int, int]) -> Tensor:
    mass, total = torch.ones_like(scores[0]), scores.new_zeros(())
    for own, quota in zip(scores, quotas, strict=True):
        for level in range(1, _LEVELS):
            upper, region = levels >= level, mass * (levels >= level - 1)
            theta = threshold(own, region, (mass * upper).sum(-1, keepdim=True))
            cost = region * softplus(torch.where(upper, theta - own, own - theta))
            total = total + cost.mean() / (_LEVELS - 1)
        quotas_left = mass.new_full((len(mass), 1), quota)
        mass = (mass * (own - threshold(own, mass, quotas_left)).sigmoid()).detach()
    return total


def survival(scores: Tensor, levels: Tensor, quotas: tuple[int, int]) -> Tensor:
    mass, log_mass = torch.ones_like(scores[0]), torch.zeros_like(scores[0])
    for own, quota in zip(scores, quotas, strict=True):
        theta = threshold(own, mass, mass.new_full((len(mass), 1), quota))
        passed = (own - theta).sigmoid()
        slope = (mass * passed * (1 - passed)).sum(-1, keepdim=True).detach()
        theta = theta + ((mass * passed).sum(-1, keepdim=True) - quota) / slope
        log_mass = log_mass - softplus(theta - own)
        mass = log_mass.exp()
    top = levels == _LEVELS - 1
    return -(log_mass * top).sum(-1).div(top.sum(-1)).mean()


@torch.no_grad()
def threshold(scores: Tensor, mass: Tensor, quota: Tensor) -> Tensor:
    """Return where the mass of the candidates above a soft threshold is the quota."""
    low, high = scores.amin(-1, keepdim=True) - 20, scores.amax(-1, keepdim=True) + 20
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = (mass * (scores - middle).sigmoid()).sum(-1, keepdim=True) > quota
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return (low + high) / 2
