"""Checked by mypy, not run: type checkers see every public name and refuse a misspelt argument.

`warn_unused_ignores` turns an ignore comment that ignores nothing into an error, so `make check`
fails if a mistake below is accepted.
"""

from torch import Tensor

import cascaderank as cr


def losses(scores: Tensor, labels: Tensor) -> Tensor:
    cr.losses.bce_loss(scores, labels, reductoin="sum")  # type: ignore[call-arg]
    cr.losses.bec_loss(scores, labels)  # type: ignore[attr-defined]
    return cr.losses.bce_loss(scores, labels)


def metrics(scores: Tensor, labels: Tensor) -> Tensor:
    cr.metrics.recall_metric(scores, labels, n=3, k=2)  # type: ignore[call-arg]
    return cr.metrics.recall_metric(scores, labels, m=3, k=2)


def operators(scores: Tensor) -> Tensor:
    cr.sorting.permutation(scores, temprature=2.0)  # type: ignore[call-arg]
    return cr.sorting.permutation(scores, operator=cr.sorting.NeuralSort())


def objectives(scores: Tensor, labels: Tensor) -> Tensor:
    cr.objectives.lcron_objective(stages=("a",), quota=(3,))  # type: ignore[call-arg]
    objective = cr.objectives.lcron_objective(stages=("a", "b"), quotas=(3, 2), ground_truth=2)
    total: Tensor = objective(scores, labels).total
    return total


def stages() -> object:
    cr.stages.TwoTowers  # type: ignore[attr-defined]  # noqa: B018
    return cr.stages.TwoTower


def runs() -> tuple[int, ...]:
    cr.laod_run("runs/funnel")  # type: ignore[attr-defined]
    return cr.load_run("runs/funnel").quotas
