"""Evaluate a cascade on the requests of a loader."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import DataError
from cascaderank.evaluation.evaluator import Evaluator
from cascaderank.evaluation.report import Report


class Scorer(Protocol):
    """What of a :class:`~cascaderank.cascade.Cascade` an evaluation needs; for types only."""

    @property
    def quotas(self) -> tuple[int, ...]:
        """How many candidates each stage passes on."""

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages, first stage first."""

    def __call__(self, batch: RequestBatch, /) -> Tensor:
        """Return the scores of all stages, ``[stages, batch, list]``."""

    def modules(self) -> Iterator[nn.Module]:
        """Return the cascade and all modules in it."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return what is trained."""

    def buffers(self) -> Iterator[Tensor]:
        """Return what is stored and not trained."""


class Batches(Protocol):
    """What of a loader an evaluation needs; for types only."""

    def epoch(self, epoch: int, /) -> Iterator[RequestBatch]:
        """Return the batches of one pass over the requests."""


def evaluate(
    cascade: Scorer,
    loader: Batches,
    *,
    ground_truth: int | None = None,
    threshold: float | None = None,
    metrics: Sequence[str] = (),
    device: torch.device | str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Judge a cascade on every request of a loader, once.

    The cascade is in evaluation mode meanwhile, and every module is back in its own mode
    afterwards, whatever happens.

    Args:
        cascade: the model.
        loader: its first epoch is what is evaluated; the order of the requests does not matter.
        ground_truth: the ground truth is the top so many by label.
        threshold: the ground truth is every label of at least this; give this or
            ``ground_truth``.
        metrics: more metrics of each stage, such as ``"ndcg@15"``, ``"map"`` and ``"opa"``.
        device: where the batches go; where the cascade is if not given. The cascade stays there.
        bootstrap: resamples for the intervals; 0 for none.
        seed: of the bootstrap.
        progress: called with 1 after each batch.

    Returns:
        A report; the same one for any batch size, if the cascade's scores are.

    Raises:
        ConfigError: if not exactly one of ``ground_truth`` and ``threshold`` is given, or there is
            no such metric.
        DataError: if there is no request, a batch has no labels, or a score is NaN.

    Examples:
        >>> class Funnel(nn.Module):
        ...     quotas, stage_names = (2, 1), ("retrieval", "ranking")
        ...     def forward(self, batch):
        ...         return torch.stack([batch.items["old"], batch.items["new"]])
        >>> class Loader:
        ...     def epoch(self, epoch):
        ...         old, new = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[1.0, 2.0, 3.0]])
        ...         mask = torch.ones(1, 3, dtype=torch.bool)
        ...         yield RequestBatch(items={"old": old, "new": new}, mask=mask, labels=new)
        >>> report = evaluate(Funnel(), Loader(), ground_truth=1)
        >>> {name: stage.lost.mean for name, stage in report.stages.items()}
        {'retrieval': 1.0, 'ranking': 0.0}

    Source: this project.
    """
    evaluator = Evaluator(
        quotas=cascade.quotas,
        stage_names=cascade.stage_names,
        ground_truth=ground_truth,
        threshold=threshold,
        metrics=metrics,
    )
    if device is None:
        tensors = chain(cascade.parameters(), cascade.buffers())
        device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    training = {module: module.training for module in cascade.modules()}
    try:
        for module in training:
            module.training = False
        with torch.no_grad():
            for batch in loader.epoch(0):
                if batch.labels is None:
                    raise DataError(
                        "a batch has no labels to be judged by; prepare the requests with a target"
                    )
                scores = cascade(batch.to(device))
                evaluator.update(scores, batch.labels, mask=batch.mask, rows=batch.rows)
                if progress is not None:
                    progress(1)
    finally:
        for module, mode in training.items():
            module.training = mode
    return evaluator.report(bootstrap=bootstrap, seed=seed)
