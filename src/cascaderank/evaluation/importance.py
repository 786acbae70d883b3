"""Feature importance by permutation: the recall that a cascade loses without a feature."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.evaluation.evaluate import evaluation_mode
from cascaderank.metrics.cascade_recall import cascade_recall_metric
from cascaderank.metrics.recall import recall_metric
from cascaderank.relevance import check_ground_truth
from cascaderank.schema import Feature, Role
from cascaderank.selection import check_size


@final
@dataclass(frozen=True, kw_only=True)
class FeatureImportance:
    """Recall that is lost if one stage receives permuted values of one feature.

    A loss is a mean over requests and repetitions, positive if the feature helps. Its standard
    error is that of a mean over requests; it includes the randomness of the permutations, because
    each request has its own.
    """

    stage: str
    """Stage that receives permuted values; the other stages do not."""
    feature: str
    """Name of the feature; names of all features of a history that are permuted together."""
    role: str
    """``"item"``, ``"request"`` or ``"history"``."""
    joint_recall_loss: float
    """Joint recall of the cascade minus that with permuted values, in [-1, 1]."""
    joint_recall_error: float
    """Standard error of :attr:`joint_recall_loss`; NaN for fewer than two requests."""
    recall_loss: float
    """Recall of the stage over all candidates, at its quota, minus that with permuted values."""
    recall_error: float
    """Standard error of :attr:`recall_loss`; NaN for fewer than two requests."""
    constant: bool = False
    """Whether no permutation changes a value, so that nothing is measured: an item feature that is
    constant within each request, or another feature that is constant over all requests."""


@final
@dataclass(frozen=True, kw_only=True)
class Importance:
    """Importance of the features of the stages of a cascade."""

    requests: int
    """Number of requests with ground truth."""
    undefined: int
    """Number of requests without ground truth; they are excluded."""
    repeats: int
    """Number of permutations of each feature."""
    joint_recall: float
    """Joint recall without permutation."""
    recall: Mapping[str, float]
    """Recall of each stage over all candidates, at its quota, without permutation."""
    features: tuple[FeatureImportance, ...]
    """By stage, and inside a stage by the loss of joint recall, largest first."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict; undefined values are ``None``."""
        plain = asdict(self)
        plain["features"] = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in f.items()}
            for f in plain["features"]
        ]
        return plain


def permutation_importance(
    cascade: Cascade,
    loader: RequestLoader,
    features: Mapping[str, Sequence[Feature]],
    *,
    k: int | None = None,
    threshold: float | None = None,
    repeats: int = 5,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Importance:
    r"""Measure how much recall is lost if one stage receives permuted values of one feature.

    .. math::
        I_{t,f} = R(s) - \frac{1}{B} \sum_{b=1}^{B} R(s^{(t, f, b)})

    R is the joint recall, or the recall of stage t alone. In repetition b stage t scores candidates
    with permuted values of feature f; the scores of all other stages are unchanged. Values of an
    item feature are permuted among the candidates of the same request, so that a list keeps its
    values and only their assignment to candidates is lost. Values of a request feature are permuted
    among the evaluated requests, and so are histories: all features of a sequence together, because
    they have one length.

    A permuted feature is not a model without the feature: correlated features share their
    importance, and a loss of 0 means that *this* cascade does not rely on the feature.

    Args:
        cascade: trained cascade, on ``device``.
        loader: requests to evaluate, with labels.
        features: features of each stage to measure; at least one stage of the cascade.
        k: size of the ground truth, the top ``k`` candidates by label.
        threshold: minimum label of the ground truth; at least one of ``k`` and ``threshold`` must
            be given.
        repeats: number of permutations of each feature, at least 1.
        seed: random seed of the permutations; equal seeds give equal results for any batch size.
        device: device of the computation.
        progress: callback, called with 1 after each batch of requests.

    Raises:
        ConfigError: if a stage is unknown, ``repeats`` is out of range, or neither ``k`` nor
            ``threshold`` is given.
        DataError: if there are no labels, or no request has ground truth.

    Source: Breiman, Random Forests (Machine Learning 2001); Fisher, Rudin and Dominici (JMLR 2019).
    """
    for name in features:
        if name not in cascade.stage_names:
            raise ConfigError(
                f"no stage '{name}'{did_you_mean(name, cascade.stage_names)}; the cascade has "
                f"{', '.join(cascade.stage_names)}"
            )
    check_size(repeats, "repeats")
    check_ground_truth(k, threshold)
    units = [unit for stage, own in features.items() for unit in _units(stage, own)]
    changes = np.zeros(len(units), dtype=bool)
    permutations = [_Permutation(loader, seed, repeat) for repeat in range(repeats)]
    whole: list[Tensor] = []
    losses: list[Tensor] = []
    with evaluation_mode(cascade), torch.no_grad():
        for first in range(0, len(loader.rows), loader.batch_size):
            batch = loader.collate(loader.rows[first : first + loader.batch_size])
            if batch.labels is None:
                raise DataError("importance needs labels; prepare the requests with a target")
            recalls_of = partial(
                _recalls,
                labels=batch.labels,
                quotas=cascade.quotas,
                given={"k": k, "threshold": threshold, "mask": batch.mask},
            )
            on_device = batch.to(device)
            scores = cascade(on_device)
            before = recalls_of(scores.cpu().double())
            lost = torch.zeros(len(units), 2, len(batch), dtype=torch.float64)
            for permutation in permutations:
                permuted = permutation.of(batch, first)
                for i, unit in enumerate(units):
                    t = cascade.stage_names.index(unit.stage)
                    mixed = unit.replaced(batch, permuted)
                    changes[i] = changes[i] or unit.differs(batch, mixed)
                    changed = _changed(cascade, t, on_device, mixed.to(device), scores)
                    changed = changed.cpu().double()
                    lost[i] += (before - recalls_of(changed))[[0, 1 + t]] / repeats
            whole.append(before)
            losses.append(lost)
            if progress is not None:
                progress(1)
    recalls = torch.cat(whole, -1).numpy()
    defined = ~np.isnan(recalls[0])
    if not defined.any():
        raise DataError(
            "no evaluated request has ground truth, so importance is undefined; check relevance "
            "and data.target of the run"
        )
    of_units = torch.cat(losses, -1).numpy()[..., defined]
    measured = [
        _importance(unit, values, constant=not changed)
        for unit, values, changed in zip(units, of_units, changes, strict=True)
    ]
    by_stage = groupby(measured, key=lambda f: f.stage)  # units are in the order of the stages
    means = recalls[:, defined].mean(1)
    return Importance(
        requests=int(defined.sum()),
        undefined=int((~defined).sum()),
        repeats=repeats,
        joint_recall=float(means[0]),
        recall={
            name: float(mean) for name, mean in zip(cascade.stage_names, means[1:], strict=True)
        },
        features=tuple(
            f for _, own in by_stage for f in sorted(own, key=lambda f: -f.joint_recall_loss)
        ),
    )


class _Unit(NamedTuple):
    """Features of a stage that are permuted together: one feature, or those of one sequence."""

    stage: str
    role: Role
    names: tuple[str, ...]
    sequence: str = ""

    def replaced(self, batch: RequestBatch, permuted: RequestBatch) -> RequestBatch:
        """Return the batch with the features of this unit from ``permuted``."""
        if self.role is Role.ITEM:
            return replace(batch, items={**batch.items, **_of(permuted.items, self.names)})
        if self.role is Role.REQUEST:
            return replace(batch, request={**batch.request, **_of(permuted.request, self.names)})
        masks = {**batch.history_mask, self.sequence: permuted.history_mask[self.sequence]}
        history = {**batch.history, **_of(permuted.history, self.names)}
        return replace(batch, history=history, history_mask=masks)

    def differs(self, batch: RequestBatch, other: RequestBatch) -> bool:
        """Whether two batches differ in a value of the features of this unit."""
        kinds = {Role.ITEM: "items", Role.REQUEST: "request", Role.HISTORY: "history"}
        before, after = (getattr(b, kinds[self.role]) for b in (batch, other))
        pairs = [(before[name], after[name]) for name in self.names]
        if self.role is Role.HISTORY:
            pairs.append((batch.history_mask[self.sequence], other.history_mask[self.sequence]))
        return not all(_equal(*pair) for pair in pairs)


class _Permutation:
    """One permutation of the candidates of each request, and one of the requests.

    Args:
        loader: requests to evaluate.
        seed: random seed of the importance.
        repeat: number of the repetition.
    """

    def __init__(self, loader: RequestLoader, seed: int, repeat: int) -> None:
        self._loader = loader
        self._rows = np.random.default_rng([seed, repeat, 0]).permutation(loader.rows)
        self._keys = np.random.default_rng([seed, repeat, 1])

    def of(self, batch: RequestBatch, first: int) -> RequestBatch:
        """Return a batch with permuted values of all features; batches are requested in order.

        Args:
            batch: requests from position ``first`` of the loader on.
            first: position of the first request.
        """
        other = self._loader.collate(self._rows[first : first + len(batch)])
        # A stream of keys, one per candidate: the permutation does not depend on the batch size.
        keys = torch.full(batch.mask.shape, torch.inf, dtype=torch.float64)
        keys[batch.mask] = torch.from_numpy(self._keys.random(int(batch.mask.sum())))
        source = keys.argsort(dim=-1, stable=True)  # real candidates in random order, then padding
        target = (~batch.mask).int().argsort(dim=-1, stable=True)  # real candidates, then padding
        order = torch.empty_like(source).scatter(-1, target, source)
        requests = torch.arange(len(batch))[:, None]
        items = {name: values[requests, order] for name, values in batch.items.items()}
        return replace(other, mask=batch.mask, items=items, labels=None, levels=None, feedback=None)


def _units(stage: str, features: Sequence[Feature]) -> list[_Unit]:
    """Units of a stage: item and request features one by one, histories by sequence."""
    units = [_Unit(stage, f.role, (f.name,)) for f in features if f.role is not Role.HISTORY]
    sequences: dict[str, list[str]] = {}
    for feature in features:
        if feature.role is Role.HISTORY:
            sequences.setdefault(feature.sequence, []).append(feature.name)
    units += [_Unit(stage, Role.HISTORY, tuple(names), s) for s, names in sequences.items()]
    return units


def _of(columns: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    return {name: columns[name] for name in names}


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal; NaN, a missing number, equals NaN."""
    if one.shape != other.shape or not one.is_floating_point():
        return torch.equal(one, other)
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def _recalls(
    scores: Tensor, *, labels: Tensor, quotas: Sequence[int], given: Mapping[str, Any]
) -> Tensor:
    """Joint recall and recall of each stage, ``[1 + stages, batch]``."""
    alone = [
        recall_metric(of_stage, labels, m=quota, **given)
        for of_stage, quota in zip(scores, quotas, strict=True)
    ]
    return torch.stack([cascade_recall_metric(scores, labels, quotas=quotas, **given), *alone])


def _changed(
    cascade: Cascade, t: int, batch: RequestBatch, mixed: RequestBatch, scores: Tensor
) -> Tensor:
    """Return the scores of all stages if stage t reads a changed batch, and its successors t."""
    changed = list(scores)
    for later, name in enumerate(cascade.stage_names[t:], t):
        if later == t or name in cascade.previous:
            inputs = cascade.inputs(name, mixed if later == t else batch, changed[:later])
            changed[later] = cascade.stages[name](inputs)
    return torch.stack(changed)


def _importance(unit: _Unit, values: NDArray[np.float64], *, constant: bool) -> FeatureImportance:
    """Mean and standard error of the losses ``[joint recall and recall, requests]`` of a unit."""
    requests = values.shape[1]
    means, errors = values.mean(1), np.full(2, math.nan)
    if requests > 1:
        errors = values.std(1, ddof=1) / math.sqrt(requests)
    return FeatureImportance(
        stage=unit.stage,
        feature=" + ".join(unit.names),
        role=unit.role.value,
        joint_recall_loss=float(means[0]),
        joint_recall_error=float(errors[0]),
        recall_loss=float(means[1]),
        recall_error=float(errors[1]),
        constant=constant,
    )
