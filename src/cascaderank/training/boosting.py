"""Optimizer of boosted trees: fits trees to the gradients that the steps of training collect."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from cascaderank.errors import DivergedError
from cascaderank.stages.boosted_trees import BoostedTrees


@final
class Boosting:
    """Fit a tree per stage to the gradient of each part of an epoch.

    An epoch has as many parts of consecutive steps as a stage has trees per epoch. Each step
    collects the gradient of the objective with respect to the scores of the stage; at the end of a
    part, a tree is fitted to the gradients that the part collected, and added to the stage. Trees
    do not change within a part. With one part, this is gradient boosting on all training requests;
    with more, each tree is fitted to a random part of them (stochastic gradient boosting). All
    stages are boosted at once; a schedule can train them in turn.

    Args:
        stages: stages to train; a stage in evaluation mode collects nothing, and forgets what it
            has collected.
        batches: number of steps of an epoch, at least 1.

    Source: this project; one part is Friedman 2001, several are Friedman 2002.
    """

    def __init__(self, stages: Sequence[BoostedTrees], *, batches: int) -> None:
        self._stages, self._batches = tuple(stages), batches
        self._step = 0
        self._trees = [stage.trees for stage in self._stages]
        self._collected: list[list[tuple[NDArray[np.float32], NDArray[np.float32]]]] = [
            [] for _ in self._stages
        ]
        self.param_groups: list[dict[str, Any]] = []
        """Empty: the learning rate of trees is an option of the stage."""

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Do nothing: every batch has its own scores."""

    def step(self) -> None:
        """Collect the gradient of the last batch, and fit trees where a part ends.

        Raises:
            DivergedError: if the gradient is not finite.
        """
        for i, (stage, collected) in enumerate(zip(self._stages, self._collected, strict=True)):
            taken = stage.take_gradient()
            # Gradients from before a phase that freezes the stage, or that restores its best trees.
            if not stage.training or stage.trees != self._trees[i]:
                collected.clear()
            if taken is not None:
                collected.append(taken)
            done, parts = self._step % self._batches, stage.trees_per_epoch
            if (done + 1) * parts // self._batches > done * parts // self._batches:
                _fit(stage, collected)
            self._trees[i] = stage.trees
        self._step += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps and what the current part has collected."""
        return {
            "step": self._step,
            "trees": [*self._trees],
            "collected": [
                [(torch.from_numpy(v), torch.from_numpy(g)) for v, g in collected]
                for collected in self._collected
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that :meth:`state_dict` returned."""
        self._step, self._trees = state["step"], [*state["trees"]]
        for collected, saved in zip(self._collected, state["collected"], strict=True):
            collected[:] = [(v.cpu().numpy(), g.cpu().numpy()) for v, g in saved]


def _fit(
    stage: BoostedTrees, collected: list[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> None:
    """Fit a tree to the collected gradients and clear them."""
    if not collected:
        return
    values = np.concatenate([v for v, _ in collected])
    gradient = np.concatenate([g for _, g in collected])
    collected.clear()
    if not np.isfinite(gradient).all():
        raise DivergedError(
            "the gradient of a stage of boosted trees is not finite; lower the learning_rate of "
            "the stage, or raise the temperature of the objective"
        )
    # From the global generator, whose state is part of a checkpoint.
    stage.fit_tree(values, gradient, seed=int(torch.randint(2**31 - 1, ())))
