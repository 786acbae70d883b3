"""Evaluator: judge a cascade batch by batch, with results that no batch size changes."""

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.errors import ConfigError, DataError, ShapeError
from cascaderank.evaluation.attribution import attribute
from cascaderank.evaluation.bootstrap import bootstrap_intervals
from cascaderank.evaluation.consistency import ranking_consistency
from cascaderank.evaluation.linearised import linearised_auc, linearised_gauc
from cascaderank.evaluation.report import (
    STAGE_METRICS,
    WHOLE_METRICS,
    Report,
    StageReport,
)
from cascaderank.metrics import CONSISTENCY, NamedMetric, named_metric
from cascaderank.metrics.ndcg import ndcg_metric
from cascaderank.metrics.recall import recall_metric
from cascaderank.relevance import check_ground_truth
from cascaderank.selection import marks, total
from cascaderank.tensors import check_cascade, check_quotas

HIGHEST_GRADE = 30
"""Labels above this are no grades: with gain 2^y - 1 only the best candidate would count."""


@final
class Evaluator:
    """Collects the values of requests as they come, and reports on all of them.

    Values are worked out per request on the CPU in double precision and put in the order of their
    rows before they are averaged, so neither the batch size nor the order of the batches changes
    a single bit of the report.

    Args:
        quotas: how many candidates each stage passes on, one per stage; never grows.
        stage_names: one per stage; ``stage_1``, ``stage_2`` and so on if not given.
        ground_truth: the ground truth is the top so many by label.
        threshold: the ground truth is every label of at least this; give this or
            ``ground_truth``.
        metrics: more metrics of each stage, such as ``"ndcg@15"``, ``"map"``, ``"gauc"`` and
            ``"rcs"``, which the last stage has not.

    Raises:
        ConfigError: if quotas grow, names are not one per stage and different, not exactly one of
            ``ground_truth`` and ``threshold`` is given, or there is no such metric.

    Examples:
        >>> evaluator = Evaluator(quotas=(2, 1), ground_truth=1)
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0]]])
        >>> evaluator.update(scores, torch.tensor([[0.0, 1.0, 0.0]]))
        >>> evaluator.report().metrics["joint_recall"].mean
        1.0

    Source: this project.
    """

    def __init__(
        self,
        *,
        quotas: Sequence[int],
        stage_names: Sequence[str] | None = None,
        ground_truth: int | None = None,
        threshold: float | None = None,
        metrics: Sequence[str] = (),
    ) -> None:
        check_ground_truth(ground_truth, threshold)
        self.quotas = check_quotas(quotas, stages=len(quotas))
        if stage_names is None:
            stage_names = [f"stage_{i}" for i in range(1, len(quotas) + 1)]
        self.stage_names = tuple(stage_names)
        if len(self.stage_names) != len(quotas) or len(set(self.stage_names)) != len(quotas):
            raise ConfigError(
                f"one name per stage, all different: got {list(self.stage_names)} "
                f"for {len(quotas)} stages"
            )
        self.k, self.threshold = ground_truth, threshold
        self._more = [named_metric(name) for name in metrics]
        self._batches: list[dict[str, NDArray[np.float64]]] = []
        self._heaps: list[dict[str, _Heap]] = []
        self._rows: list[NDArray[np.int64]] = []
        self._labels_from, self._labels_to = 0.0, 0.0

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._rows)

    def update(
        self,
        scores: Tensor,
        labels: Tensor,
        *,
        mask: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> None:
        """Take in some requests.

        Args:
            scores: ``[stages, batch, list]``, first stage first; higher is better.
            labels: ``[batch, list]``, higher is better.
            mask: ``[batch, list]`` bool, ``True`` for a real candidate.
            rows: ``[batch]`` int64, where in its data set each request is; in the order they come
                if not given.

        Raises:
            ShapeError: if the tensors do not agree.
            DataError: if a score or a label of a real candidate is NaN.
        """
        mask = check_cascade(scores, labels, self.quotas, mask).cpu()
        # Exact: no two scores that differ become equal. Labels stay: see `selection.marks`.
        scores, labels = scores.detach().to("cpu", torch.float64), labels.detach().cpu()
        if rows is None:
            rows = torch.arange(len(self), len(self) + len(labels))
        elif rows.shape != labels.shape[:1]:
            raise ShapeError(f"rows must be [batch] = {[len(labels)]}; got {list(rows.shape)}")
        self._refuse_nan(scores, labels, mask)
        real = labels[mask]
        if len(real):
            self._labels_from = min(self._labels_from, float(real.min()))
            self._labels_to = max(self._labels_to, float(real.max()))
        self._rows.append(rows.cpu().numpy().astype(np.int64))
        values = self._values(scores, labels, mask)
        self._batches.append({name: value.numpy() for name, value in values.items()})
        self._heaps.append(
            {
                metric.text: _heap(metric, scores, labels, mask, self.k, self.threshold)
                for metric in self._more
                if metric.name == "pooled_auc"
            }
        )

    def per_request(self) -> dict[str, NDArray[np.int64] | NDArray[np.float64]]:
        """Return one value per request by name, in the order of the rows; NaN is undefined.

        Returns:
            ``row``, ``ground_truth`` (how many candidates are, shared places as fractions),
            ``joint_recall``, ``reachable``, and ``<metric>/<stage>`` for the metrics of a
            :class:`StageReport` and those asked for. Of ``gauc`` and ``pooled_auc``, which are no
            means over requests, they are such that their mean is the metric.

        Raises:
            DataError: if there is no request, or one came twice.
        """
        if not len(self):
            raise DataError("nothing to report on: the evaluator was given no request")
        rows = np.concatenate(self._rows)
        order = rows.argsort(kind="stable")
        rows = rows[order]
        twice = rows[1:][rows[1:] == rows[:-1]]
        if len(twice):
            raise DataError(
                f"{len(twice)} requests were given more than once, such as row {twice[0]}; "
                "evaluate each request once, and start a new Evaluator for the next evaluation"
            )
        columns = {
            name: np.concatenate([batch[name] for batch in self._batches])[order]
            for name in self._batches[0]
        }
        for metric in self._more:
            for stage, name in enumerate(self.stage_names):
                key = f"{metric.text}/{name}"
                if metric.name == "gauc":
                    weights = torch.from_numpy(columns.pop(f"{_WEIGHTS}{key}"))
                    columns[key] = linearised_gauc(torch.from_numpy(columns[key]), weights).numpy()
                elif metric.name == "pooled_auc":
                    columns[key] = self._of_heaps(metric.text, stage, order)
        return {"row": rows, **columns}

    def report(self, *, bootstrap: int = 1000, seed: int = 0, confidence: float = 0.95) -> Report:
        """Average over all requests.

        Args:
            bootstrap: resamples for the intervals; 0 for none, whose ends are then NaN.
            seed: of the bootstrap; equal seeds give equal intervals.
            confidence: of the intervals, between 0 and 1.

        Raises:
            DataError: if there is no request, or one came twice.
            ConfigError: if ``bootstrap`` or ``confidence`` is out of range.
        """
        values = self.per_request()
        sizes = values["ground_truth"]
        columns = {n: v.astype(np.float64) for n, v in values.items() if n not in _NO_METRICS}
        summaries = bootstrap_intervals(
            columns, resamples=bootstrap, seed=seed, confidence=confidence
        )
        graded, notes = self._labels_to <= HIGHEST_GRADE, []
        if not graded:
            notes.append(
                f"ndcg_exponential is left out: it is for grades up to {HIGHEST_GRADE}, "
                f"and there are labels up to {self._labels_to:g}"
            )
        if self._labels_from < 0:
            notes.append(
                f"NDCG is undefined for requests with a label below 0; there are labels down to "
                f"{self._labels_from:g}"
            )
        stages = {}
        for name, quota in zip(self.stage_names, self.quotas, strict=True):
            found = {metric: summaries[f"{metric}/{name}"] for metric in STAGE_METRICS}
            exponential = found.pop("ndcg_exponential") if graded else None
            found.pop("ndcg_exponential", None)
            more = {metric.text: summaries[f"{metric.text}/{name}"] for metric in self._more}
            stages[name] = StageReport(
                quota=quota, ndcg_exponential=exponential, metrics=more, **found
            )
        return Report(
            requests=len(sizes),
            without_ground_truth=int((sizes == 0).sum()),
            k=self.k,
            threshold=self.threshold,
            bootstrap=bootstrap,
            confidence=confidence,
            metrics={name: summaries[name] for name in WHOLE_METRICS},
            stages=stages,
            notes=tuple(notes),
            per_request=values,
        )

    def _refuse_nan(self, scores: Tensor, labels: Tensor, mask: Tensor) -> None:
        candidates = int(mask.sum())
        bad = int((labels.isnan() & mask).sum())
        if bad:
            raise DataError(f"{bad} of {candidates} labels are NaN; a label must be a number")
        for name, stage in zip(self.stage_names, scores, strict=True):
            bad = int((stage.isnan() & mask).sum())
            if bad:
                raise DataError(
                    f"stage '{name}' scored {bad} of {candidates} candidates NaN, so they have no "
                    "rank; if its training diverged, lower the learning rate"
                )

    def _values(self, scores: Tensor, labels: Tensor, mask: Tensor) -> dict[str, Tensor]:
        k, threshold, stages = self.k, self.threshold, len(self.quotas)
        found = attribute(scores, labels, quotas=self.quotas, k=k, threshold=threshold, mask=mask)
        lists, masks = labels.expand(stages, *labels.shape), mask.expand(stages, *mask.shape)
        by_stage = {
            "recall": torch.stack(
                [
                    recall_metric(stage, labels, m=quota, k=k, threshold=threshold, mask=mask)
                    for stage, quota in zip(scores, self.quotas, strict=True)
                ]
            ),
            "ndcg_linear": ndcg_metric(scores, lists, k=k, gain="linear", mask=masks),
            "ndcg_exponential": ndcg_metric(scores, lists, k=k, gain="exponential", mask=masks),
            "survival": found.alive,
            "lost": found.lost,
            "ceiling_if_perfect": found.ceiling,
            "depth": found.depth,
        }
        for metric in self._more:
            if metric.name == CONSISTENCY:
                agree = ranking_consistency(scores, quotas=self.quotas, mask=mask, **metric.options)
                last = torch.full((1, len(labels)), torch.nan, dtype=agree.dtype)
                by_stage[metric.text] = torch.cat([agree, last])
                continue
            by_stage[metric.text] = metric(scores, lists, k=k, threshold=threshold, mask=masks)
            if metric.name == "gauc":
                seen = metric.candidates(lists, masks)
                by_stage[f"{_WEIGHTS}{metric.text}"] = (masks if seen is None else seen).sum(-1)
        size = total(marks(labels, k=k, threshold=threshold, mask=mask))
        return {
            "ground_truth": size,
            "joint_recall": found.joint_recall,
            "reachable": found.reachable,
        } | {
            f"{metric}/{name}": by_stage[metric][stage]
            for stage, name in enumerate(self.stage_names)
            for metric in by_stage
        }

    def _of_heaps(self, metric: str, stage: int, order: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values of requests in the order given, of all their candidates in one heap."""
        heaps = [heaps[metric] for heaps in self._heaps]
        firsts = np.cumsum([0, *map(len, self._rows)])
        came = [heap.request + int(first) for heap, first in zip(heaps, firsts, strict=False)]
        request = torch.from_numpy(order.argsort())[torch.cat(came)]
        sorted_ = request.argsort(stable=True)
        values = linearised_auc(
            torch.cat([heap.scores[stage] for heap in heaps])[sorted_],
            torch.cat([heap.positive for heap in heaps])[sorted_],
            request[sorted_],
            len(order),
        )
        return values.numpy()


class _Heap(NamedTuple):
    """Candidates of the requests of a batch, one after the other."""

    scores: Tensor
    """``[stages, candidates]``."""
    positive: Tensor
    """``[candidates]`` bool."""
    request: Tensor
    """``[candidates]``: which of the batch each is of."""


def _heap(
    metric: NamedMetric,
    scores: Tensor,
    labels: Tensor,
    mask: Tensor,
    k: int | None,
    threshold: float | None,
) -> _Heap:
    among = metric.candidates(labels, mask)
    seen = mask if among is None else among
    # Of the top k, those that share the last places count if they have half of one or more.
    positive = marks(labels, mask=seen, **metric.truth(k, threshold)) >= 0.5
    return _Heap(scores[:, seen], positive[seen], seen.nonzero()[:, 0])


_NO_METRICS = ("row", "ground_truth")
_WEIGHTS = "weights of "
