"""Evaluate a cascade on the requests of a loader."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn

from cascaderank._moved import renamed_keywords
from cascaderank.batch import RequestBatch
from cascaderank.errors import DataError
from cascaderank.evaluation.evaluator import Evaluator
from cascaderank.evaluation.report import Report


class Scorer(Protocol):
    """Protocol of the parts of :class:`~cascaderank.cascade.Cascade` that evaluation uses."""

    @property
    def quotas(self) -> tuple[int, ...]:
        """Number of candidates that each stage keeps."""

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Stage names, first stage first."""

    def __call__(self, batch: RequestBatch, /) -> Tensor:
        """Return the scores of all stages, ``[stages, batch, list]``."""

    def modules(self) -> Iterator[nn.Module]:
        """Return the cascade and all its submodules."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the trained parameters."""

    def buffers(self) -> Iterator[Tensor]:
        """Return the buffers, which are stored but not trained."""


class Batches(Protocol):
    """Protocol of the part of a loader that evaluation uses."""

    def epoch(self, epoch: int, /) -> Iterator[RequestBatch]:
        """Return the batches of one pass over the requests."""


@renamed_keywords(ground_truth="k")
def evaluate(
    cascade: Scorer,
    loader: Batches,
    *,
    k: int | None = None,
    threshold: float | None = None,
    metrics: Sequence[str] = (),
    device: torch.device | str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Evaluate a cascade once on every request of a loader.

    All modules are in evaluation mode during the call. The mode of each is restored afterwards,
    also after an error.

    Args:
        cascade: model to evaluate.
        loader: source of the requests; its epoch 0 is evaluated, in any order.
        k: size of the ground truth, the top ``k`` candidates by label.
        threshold: minimum label of the ground truth; at least one of ``k`` and ``threshold``
            must be given.
        metrics: additional metrics, such as ``"ndcg@15"``, ``"map"`` and ``"opa"``: of the list
            that the cascade returns, and of each stage over all candidates; see :class:`Evaluator`.
        device: device of the batches; by default that of the cascade. The cascade is not moved.
        bootstrap: number of bootstrap replicates for the intervals; 0 disables them.
        seed: random seed of the bootstrap.
        progress: callback, called with 1 after each batch.

    Returns:
        The report. It does not depend on the batch size, provided that the scores do not.

    Raises:
        ConfigError: if neither ``k`` nor ``threshold`` is given, or a metric is
            unknown.
        DataError: if the loader has no request, a batch has no labels, or a score is NaN.

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
        >>> report = evaluate(Funnel(), Loader(), k=1)
        >>> {name: stage.lost.mean for name, stage in report.stages.items()}
        {'retrieval': 1.0, 'ranking': 0.0}

    Source: this project.
    """
    evaluator = Evaluator(
        quotas=cascade.quotas,
        stage_names=cascade.stage_names,
        k=k,
        threshold=threshold,
        metrics=metrics,
    )
    if device is None:
        tensors = chain(cascade.parameters(), cascade.buffers())
        device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    with evaluation_mode(cascade), torch.no_grad():
        for batch in loader.epoch(0):
            if batch.labels is None:
                raise DataError(
                    "expected labels in every batch; got a batch without labels; prepare the "
                    "requests with a target"
                )
            scores = cascade(batch.to(device))
            evaluator.update(scores, batch.labels, mask=batch.mask, rows=batch.rows)
            if progress is not None:
                progress(1)
    return evaluator.report(bootstrap=bootstrap, seed=seed)


@contextmanager
def evaluation_mode(cascade: Scorer | nn.Module) -> Iterator[None]:
    """Set all modules to evaluation mode, and restore the mode of each, also after an error."""
    modes = {module: module.training for module in cascade.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
