"""Evaluator: batch-wise evaluation of a cascade, independent of batch size and order."""

from collections.abc import Sequence
from typing import Final, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank._moved import renamed_keywords
from cascaderank.errors import ConfigError, DataError, ShapeError
from cascaderank.evaluation.attribution import attribution_of
from cascaderank.evaluation.consistency import ranking_consistency
from cascaderank.evaluation.linearised import linearised_auc, linearised_gauc
from cascaderank.evaluation.report import (
    ALL_CANDIDATES,
    STAGE_METRICS,
    WHOLE_METRICS,
    Report,
    StageReport,
    over_all_candidates,
)
from cascaderank.evaluation.statistics.bootstrap import bootstrap_intervals
from cascaderank.metrics import CONSISTENCY, NamedMetric, named_metric
from cascaderank.metrics.ndcg import ndcg_of, shared_discounts
from cascaderank.relevance import Gain, check_ground_truth
from cascaderank.selection import keep, kept_by_stages, ranked, relevance_of, share, total
from cascaderank.tensors import check_cascade, check_quotas

GAINS: Final[tuple[Gain, ...]] = ("linear", "exponential")

HIGHEST_GRADE = 30
"""Highest label treated as a grade; above it, gain 2^y - 1 is dominated by the best candidate."""


@final
class Evaluator:
    """Accumulates metrics per request over batches and reports on all requests.

    Metrics are computed per request on the CPU in double precision and sorted by row before they
    are averaged. The report is therefore bitwise independent of the batch size and of the order of
    the batches.

    Metrics whose gain is 2^y - 1, such as ``"ndcg@15"``, are omitted if the highest label is above
    :data:`HIGHEST_GRADE`; a note in the report names them.

    Args:
        quotas: number of candidates that each stage keeps, one per stage, non-increasing.
        stage_names: distinct names, one per stage; ``stage_1``, ``stage_2``, ... by default.
        k: size of the ground truth, the top ``k`` candidates by label.
        threshold: minimum label of the ground truth; at least one of ``k`` and ``threshold`` must
            be given.
        metrics: additional metrics, such as ``"ndcg@15"``, ``"map"``, ``"gauc"`` and ``"rcs"``
            (which is undefined for the last stage). Each is computed for every stage over all
            candidates, and, if it applies to a ranked list, for the list that the cascade returns.

    Raises:
        ConfigError: if the quotas increase, the names are not distinct or not one per stage,
            neither ``k`` nor ``threshold`` is given, or a metric is unknown.

    Examples:
        >>> evaluator = Evaluator(quotas=(2, 1), k=1)
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0]]])
        >>> evaluator.update(scores, torch.tensor([[0.0, 1.0, 0.0]]))
        >>> evaluator.report().metrics["joint_recall"].mean
        1.0

    Source: this project.
    """

    @renamed_keywords(ground_truth="k")
    def __init__(
        self,
        *,
        quotas: Sequence[int],
        stage_names: Sequence[str] | None = None,
        k: int | None = None,
        threshold: float | None = None,
        metrics: Sequence[str] = (),
    ) -> None:
        check_ground_truth(k, threshold)
        self.quotas = check_quotas(quotas, stages=len(quotas))
        if stage_names is None:
            stage_names = [f"stage_{i}" for i in range(1, len(quotas) + 1)]
        self.stage_names = tuple(stage_names)
        if len(self.stage_names) != len(quotas) or len(set(self.stage_names)) != len(quotas):
            raise ConfigError(
                f"stage_names must be one distinct name per stage; got {list(self.stage_names)} "
                f"for {len(quotas)} stages"
            )
        self.k, self.threshold = k, threshold
        self._metrics = [named_metric(name) for name in metrics]
        self._batches: list[dict[str, NDArray[np.float64]]] = []
        self._pools: list[dict[str, _Pool]] = []
        self._rows: list[NDArray[np.int64]] = []
        self._lowest_label, self._highest_label = 0.0, 0.0

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
        """Add a batch of requests.

        Args:
            scores: ``[stages, batch, list]``, first stage first; higher is better.
            labels: ``[batch, list]``, higher is better.
            mask: ``[batch, list]`` bool, ``True`` for a real candidate.
            rows: ``[batch]`` int64, index of each request in its data set; by default the requests
                are numbered in the order of the calls.

        Raises:
            ShapeError: if the shapes or dtypes of the tensors do not agree.
            DataError: if a score or a label of a real candidate is NaN.
        """
        mask = check_cascade(scores, labels, self.quotas, mask).cpu()
        # The conversion is exact: distinct scores stay distinct. Labels keep their dtype, in which
        # `relevance_of` compares them with the threshold.
        scores, labels = scores.detach().to("cpu", torch.float64), labels.detach().cpu()
        if rows is None:
            rows = torch.arange(len(self), len(self) + len(labels))
        elif rows.shape != labels.shape[:1]:
            raise ShapeError(f"rows must be [batch] = {[len(labels)]}; got {list(rows.shape)}")
        self._check_no_nan(scores, labels, mask)
        real = labels[mask]
        if len(real):
            self._lowest_label = min(self._lowest_label, float(real.min()))
            self._highest_label = max(self._highest_label, float(real.max()))
        self._rows.append(rows.cpu().numpy().astype(np.int64))
        values = self._values(scores, labels, mask)
        # Copies: a value can be a view of a tensor that has one number per candidate.
        self._batches.append({name: value.numpy().copy() for name, value in values.items()})
        self._pools.append(
            {
                metric.text: _pool(metric, scores, labels, mask, self.k, self.threshold)
                for metric in self._metrics
                if metric.name == "pooled_auc"
            }
        )

    def per_request(self) -> dict[str, NDArray[np.int64] | NDArray[np.float64]]:
        """Return the metrics per request by name, sorted by row; NaN is undefined.

        Returns:
            ``row``, ``ground_truth`` (size of the ground truth, with shared places as fractions),
            the metrics of the cascade by name, ``<metric>/<stage>`` for the metrics of a
            :class:`StageReport`, and ``all_candidates/<metric>/<stage>`` for its additional
            metrics. The metrics ``gauc`` and ``pooled_auc`` are not means over requests; their
            values are linearised so that their mean is the metric.

        Raises:
            DataError: if there is no request, or a row occurs more than once.
        """
        if not len(self):
            raise DataError("expected at least one request to evaluate; got none")
        rows = np.concatenate(self._rows)
        order = rows.argsort(kind="stable")
        rows = rows[order]
        twice = rows[1:][rows[1:] == rows[:-1]]
        if len(twice):
            raise DataError(
                f"each request must be evaluated once; got {len(twice)} repeated rows, such as row "
                f"{twice[0]}; create a new Evaluator for each evaluation"
            )
        columns = {
            name: np.concatenate([batch[name] for batch in self._batches])[order]
            for name in self._batches[0]
        }
        for metric in self._metrics:
            for stage, name in enumerate(self.stage_names):
                key = over_all_candidates(metric.text, name)
                if metric.name == "gauc":
                    weights = torch.from_numpy(columns.pop(f"{_WEIGHTS}{key}"))
                    columns[key] = linearised_gauc(torch.from_numpy(columns[key]), weights).numpy()
                elif metric.name == "pooled_auc":
                    columns[key] = self._pooled_auc(metric.text, stage, order)
        for text in self._omitted:
            columns.pop(text, None)
            for name in self.stage_names:
                del columns[over_all_candidates(text, name)]
        return {"row": rows, **columns}

    @property
    def _graded(self) -> bool:
        """Whether labels are small enough for gain 2^y - 1."""
        return self._highest_label <= HIGHEST_GRADE

    @property
    def _omitted(self) -> list[str]:
        """Additional metrics that are not defined for the labels."""
        return [m.text for m in self._metrics if m.has_exponential_gain and not self._graded]

    def report(self, *, bootstrap: int = 1000, seed: int = 0, confidence: float = 0.95) -> Report:
        """Return the means over all requests, with bootstrap intervals.

        Args:
            bootstrap: number of bootstrap replicates; with 0, the ends of the intervals are NaN.
            seed: random seed of the bootstrap; equal seeds give equal intervals.
            confidence: confidence level of the intervals, in (0, 1).

        Raises:
            DataError: if there is no request, or a row occurs more than once.
            ConfigError: if ``bootstrap`` or ``confidence`` is out of range.
        """
        values = self.per_request()
        sizes = values["ground_truth"]
        columns = {
            n: v.astype(np.float64, copy=False) for n, v in values.items() if n not in _NO_METRICS
        }
        summaries = bootstrap_intervals(
            columns, resamples=bootstrap, seed=seed, confidence=confidence
        )
        graded, omitted, notes = self._graded, self._omitted, []
        if not graded:
            names = " and ".join(["ndcg_exponential", *omitted])
            verbs = ("are", "they are") if omitted else ("is", "it is")
            notes.append(
                f"{names} {verbs[0]} omitted: {verbs[1]} defined for grades up to {HIGHEST_GRADE}; "
                f"the highest label is {self._highest_label:g}"
                + '. ndcg(gain="linear") is defined for any label'
                * bool(omitted)
            )
        truth = ~np.isnan(columns["joint_recall"])
        gone = f"{int((truth & np.isnan(columns['ndcg_linear'])).sum()):,} of {int(truth.sum()):,}"
        if self._lowest_label < 0:
            notes.append(
                "NDCG is undefined for requests with a label below 0, which are "
                f"{gone} with ground truth; the lowest label is {self._lowest_label:g}"
            )
        elif not gone.startswith("0 "):
            notes.append(
                f"NDCG is undefined for {gone} requests with ground truth: all their labels are 0"
            )
        stages = {}
        for name, quota in zip(self.stage_names, self.quotas, strict=True):
            standard = {metric: summaries[f"{metric}/{name}"] for metric in STAGE_METRICS}
            exponential = standard.pop("ndcg_exponential") if graded else None
            standard.pop("ndcg_exponential", None)
            named = {
                m.text: summaries[over_all_candidates(m.text, name)]
                for m in self._metrics
                if m.text not in omitted
            }
            stages[name] = StageReport(
                quota=quota, ndcg_exponential=exponential, over_all_candidates=named, **standard
            )
        whole = [name for name in WHOLE_METRICS if graded or name != "ndcg_exponential"]
        whole += [m.text for m in self._metrics if m.ranks_a_list and m.text not in omitted]
        return Report(
            requests=len(sizes),
            without_ground_truth=int((sizes == 0).sum()),
            k=self.k,
            threshold=self.threshold,
            bootstrap=bootstrap,
            confidence=confidence,
            metrics={name: summaries[name] for name in whole},
            stages=stages,
            notes=tuple(notes),
            per_request=values,
        )

    def _check_no_nan(self, scores: Tensor, labels: Tensor, mask: Tensor) -> None:
        candidates = int(mask.sum())
        bad = int((labels.isnan() & mask).sum())
        if bad:
            raise DataError(f"labels must be numbers; got NaN for {bad} of {candidates} candidates")
        for name, stage in zip(self.stage_names, scores, strict=True):
            bad = int((stage.isnan() & mask).sum())
            if bad:
                raise DataError(
                    f"scores of stage '{name}' must be numbers; got NaN for {bad} of {candidates} "
                    "candidates; if its training diverged, lower the learning rate"
                )

    def _values(self, scores: Tensor, labels: Tensor, mask: Tensor) -> dict[str, Tensor]:
        k, threshold, stages = self.k, self.threshold, len(self.quotas)
        relevant = relevance_of(labels, k=k, threshold=threshold, mask=mask)
        best, orders = ranked(scores)
        kept = kept_by_stages(orders, self.quotas, mask)
        attribution = attribution_of(orders, kept, relevant, quotas=self.quotas, mask=mask)
        size, masks = total(relevant), mask.expand(stages, *mask.shape)

        def with_truth(values: Tensor) -> Tensor:
            # One population of requests: NDCG alone would include those without ground truth.
            return values.masked_fill(size == 0, torch.nan)

        # NDCG of all candidates by each stage, and of the final list in the order of the last.
        listed = torch.cat([masks, kept[-1:]])
        by_rank = torch.cat([orders, orders[-1:]])
        shared = shared_discounts(torch.cat([best, best[-1:]]), listed.gather(-1, by_rank), k)
        ndcg = {
            f"ndcg_{gain}": with_truth(
                ndcg_of(by_rank, shared, labels, k=k, gain=gain, mask=mask, listed=listed)
            )
            for gain in GAINS
        }
        alone = [keep(order, mask, m) for order, m in zip(orders, self.quotas, strict=True)]
        by_stage = {
            "recall": share(torch.stack(alone), relevant),
            **{name: values[:-1] for name, values in ndcg.items()},
            "survival": attribution.alive,
            "lost": attribution.lost,
            "ceiling_if_perfect": attribution.ceiling,
            "depth": attribution.depth,
        }
        joint, decided = attribution.joint_recall, mask.sum(-1) > self.quotas[-1]
        whole = {
            "ground_truth": size,
            "joint_recall": joint,
            "joint_recall_decided": joint.masked_fill(~decided, torch.nan),
            "reachable": attribution.reachable,
            **{name: values[-1] for name, values in ndcg.items()},
        }
        everything = {"labels": labels.expand(stages, *labels.shape), "mask": masks}
        final = {"labels": labels, "mask": mask, "retrieved": kept[-1]}
        for metric in self._metrics:
            key = f"{ALL_CANDIDATES}/{metric.text}"
            if metric.ranks_a_list:
                of_list = metric(scores[-1], k=k, threshold=threshold, **final)
                whole[metric.text] = of_list if metric.takes_truth else with_truth(of_list)
            if metric.name == CONSISTENCY:
                consistency = ranking_consistency(
                    scores, quotas=self.quotas, mask=mask, **metric.options
                )
                last = torch.full((1, len(labels)), torch.nan, dtype=consistency.dtype)
                by_stage[key] = torch.cat([consistency, last])
                continue
            value = metric(scores, k=k, threshold=threshold, **everything)
            own = metric.ranks_a_list and not metric.takes_truth
            by_stage[key] = with_truth(value) if own else value
            if metric.name == "gauc":
                seen = metric.candidates(**everything)
                by_stage[f"{_WEIGHTS}{key}"] = (everything["mask"] if seen is None else seen).sum(
                    -1
                )
        return whole | {
            f"{metric}/{name}": values[stage]
            for stage, name in enumerate(self.stage_names)
            for metric, values in by_stage.items()
        }

    def _pooled_auc(self, metric: str, stage: int, order: NDArray[np.int64]) -> NDArray[np.float64]:
        """Linearised AUC of the pooled candidates of all requests, per request in ``order``."""
        pools = [by_metric[metric] for by_metric in self._pools]
        firsts = np.cumsum([0, *map(len, self._rows)])
        arrival = [pool.request + int(first) for pool, first in zip(pools, firsts, strict=False)]
        request = torch.from_numpy(order.argsort())[torch.cat(arrival)]
        sorted_ = request.argsort(stable=True)
        values = linearised_auc(
            torch.cat([pool.scores[stage] for pool in pools])[sorted_],
            torch.cat([pool.positive for pool in pools])[sorted_],
            request[sorted_],
            len(order),
        )
        return values.numpy()


class _Pool(NamedTuple):
    """Candidates of all requests of a batch, flattened."""

    scores: Tensor
    """``[stages, candidates]``."""
    positive: Tensor
    """``[candidates]`` bool."""
    request: Tensor
    """``[candidates]``: index of the request of each candidate in the batch."""


def _pool(
    metric: NamedMetric,
    scores: Tensor,
    labels: Tensor,
    mask: Tensor,
    k: int | None,
    threshold: float | None,
) -> _Pool:
    selected = metric.candidates(labels, mask)
    pooled = mask if selected is None else selected
    # Candidates tied for the last places of the top k are positive if their share is at least 1/2.
    positive = relevance_of(labels, mask=pooled, **metric.truth(k, threshold)) >= 0.5
    return _Pool(scores[:, pooled], positive[pooled], pooled.nonzero()[:, 0])


_NO_METRICS = ("row", "ground_truth")
_WEIGHTS = "weights of "
