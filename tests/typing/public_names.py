"""Checked by mypy, not run: type checkers see every public name and refuse a misspelt argument.

`warn_unused_ignores` turns an ignore comment that ignores nothing into an error, so this file
fails `make check` if a mistake below were accepted.
"""

from torch import Tensor

import cascaderank as cr

scores: Tensor
labels: Tensor

loss: Tensor = cr.losses.bce_loss(scores, labels)
cr.losses.bce_loss(scores, labels, reductoin="sum")  # type: ignore[call-arg]
cr.losses.bec_loss(scores, labels)  # type: ignore[attr-defined]

recall: Tensor = cr.metrics.recall_metric(scores, labels, m=3, k=2)
cr.metrics.recall_metric(scores, labels, n=3, k=2)  # type: ignore[call-arg]

operator = cr.sorting.NeuralSort()
permutation: Tensor = cr.sorting.permutation(scores, operator=operator)
cr.sorting.permutation(scores, temprature=2.0)  # type: ignore[call-arg]

objective = cr.objectives.lcron_objective(stages=("a", "b"), quotas=(3, 2), ground_truth=2)
total: Tensor = objective(scores, labels).total
cr.objectives.lcron_objective(stages=("a",), quota=(3,))  # type: ignore[call-arg]

cr.stages.TwoTower  # noqa: B018
cr.stages.TwoTowers  # type: ignore[attr-defined]  # noqa: B018
cr.evaluation.evaluate  # noqa: B018
cr.laod_run("runs/funnel")  # type: ignore[attr-defined]
quotas: tuple[int, ...] = cr.load_run("runs/funnel").quotas
