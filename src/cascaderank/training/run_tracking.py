"""Tracking of a run: what is sent to the trackers of ``train.track``, and when.

A tracker that fails, as of a full disk or a network without a connection, is left out with one
warning; training continues.
"""

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

from torch import nn

from cascaderank.cascade import Cascade
from cascaderank.evaluation import Report
from cascaderank.layers.embedder import Embedder
from cascaderank.objectives import ObjectiveOutput
from cascaderank.schema import FittedSchema
from cascaderank.tracking import TRACKERS, EmbeddingTracker, Tracker

EVERY: Final = 10
"""Steps between records of losses and gradients; reading their values waits for the device."""
_MOST_ROWS = 10_000
"""Categories of an embedding table that is shown; larger ones are left out."""


@final
class RunTracking:
    """Send losses, metrics and norms of gradients of a run to its trackers.

    Args:
        names: names of trackers.
        folder: folder for the files of the trackers.
        name: name of the run.

    Raises:
        MissingExtraError: if the library of a tracker is not installed.

    Examples:
        >>> import tempfile
        >>> with RunTracking((), tempfile.gettempdir(), name="run") as tracking:
        ...     tracking.begin(0)
    """

    def __init__(self, names: Sequence[str], folder: str | os.PathLike[str], *, name: str) -> None:
        self._trackers: dict[str, Tracker] = {
            tracker: TRACKERS[tracker](Path(folder), name=name) for tracker in names
        }
        self._norms: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._each(lambda tracker: tracker.close())

    def begin(self, step: int, texts: Mapping[str, str] | None = None) -> None:
        """Open the trackers.

        Args:
            step: steps that are already done; 0 in a new run.
            texts: texts about the run, which a new run records.
        """
        self._each(lambda tracker: tracker.begin(step))
        if not step:
            for name, text in (texts or {}).items():
                self._each(methodcaller("text", name, text))

    def gradients(self, cascade: Cascade, step: int) -> None:
        """Compute the norm of the gradient of each stage, if the step is recorded.

        Args:
            cascade: cascade after the backward pass, before gradients are clipped.
            step: number of steps done before this one.
        """
        if (step + 1) % EVERY == 0 and self._trackers:
            self._norms = gradient_norms(cascade)

    def step(self, step: int, out: ObjectiveOutput) -> None:
        """Record the loss and its terms in one batch, every :data:`EVERY` steps.

        Args:
            step: number of steps done.
            out: output of the objective in the last of them.
        """
        if step % EVERY or not self._trackers:
            return
        losses = {"loss": out.total, **out.terms}
        values = {f"step/{name}": float(value.detach()) for name, value in losses.items()}
        self._scalars(step, {**values, **self._norms})

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Record the line of an epoch in ``metrics.jsonl``.

        Args:
            record: means of the terms, their weights, and metrics of the validation requests.
        """
        values = {
            f"{group}/{name}": value
            for group in ("train", "weights", "validation")
            for name, value in record[group].items()
        }
        self._scalars(record["step"], values)

    def result(self, step: int, report: Report) -> None:
        """Record the metrics of the test requests.

        Args:
            step: number of steps done.
            report: evaluation of the cascade.
        """
        values = {f"test/{name}": summary.mean for name, summary in report.metrics.items()}
        for name, stage in report.stages.items():
            values |= {
                f"test/recall/{name}": stage.recall.mean,
                f"test/survival/{name}": stage.survival.mean,
            }
        self._scalars(step, values)

    def embeddings(self, step: int, cascade: Cascade, schema: FittedSchema) -> None:
        """Send embedding tables of at most 10,000 categories to trackers that show them.

        Args:
            step: number of steps done.
            cascade: cascade with its best weights.
            schema: fitted schema of the run, for the names of categories.
        """
        if not any(isinstance(tracker, EmbeddingTracker) for tracker in self._trackers.values()):
            return
        for stage_name, stage in cascade.stages.items():
            for module in stage.modules():
                if not isinstance(module, Embedder):
                    continue
                for vocabulary, table in module.tables.items():
                    labels = [str(v) for v in schema.vocabularies.get(vocabulary, ())]
                    if isinstance(table, nn.Embedding) and 0 < len(labels) <= _MOST_ROWS:
                        vectors = table.weight.detach().cpu()[1 : len(labels) + 1].numpy()
                        self._embed(step, f"{stage_name}.{vocabulary}", vectors, labels)

    def _embed(self, step: int, name: str, vectors: Any, labels: list[str]) -> None:
        def send(tracker: Tracker) -> None:
            if isinstance(tracker, EmbeddingTracker):
                tracker.embeddings(step, name, vectors, labels)

        self._each(send)

    def _scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        known = {n: float(v) for n, v in values.items() if v is not None and math.isfinite(v)}
        self._each(lambda tracker: tracker.scalars(step, known))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        """Call each tracker; one that fails is left out from now on."""
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # noqa: BLE001 - of any library, disk or network
                del self._trackers[name]
                reason = " ".join(str(error).split()) or type(error).__name__
                warnings.warn(
                    f"tracking by {name} ended: {reason[:300]}; training continues without it",
                    stacklevel=3,
                )


def gradient_norms(cascade: Cascade) -> dict[str, float]:
    """Return the norm of the gradient of each stage, by ``"gradient_norm/<stage>"``.

    Args:
        cascade: cascade after a backward pass.

    Examples:
        >>> import torch
        >>> from cascaderank.cascade import Cascade
        >>> stage = nn.Linear(2, 1, bias=False)
        >>> stage.weight.grad = torch.tensor([[3.0, 4.0]])
        >>> gradient_norms(Cascade({"only": stage}, (1,)))
        {'gradient_norm/only': 5.0}
    """
    norms = {}
    for name, stage in cascade.stages.items():
        squares = 0.0
        for parameter in stage.parameters():
            gradient = parameter.grad
            if gradient is not None:
                values = gradient.coalesce().values() if gradient.is_sparse else gradient
                squares += float(values.double().square().sum())
        norms[f"gradient_norm/{name}"] = math.sqrt(squares)
    return norms
