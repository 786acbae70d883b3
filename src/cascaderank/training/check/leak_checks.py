"""Findings about features that order candidates as the labels do: leaks of the labels."""

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from cascaderank.batch import RequestBatch
from cascaderank.metrics.auc import auc_metric
from cascaderank.relevance import ground_truth
from cascaderank.runs.item_keys import item_keys
from cascaderank.schema import Feature, Kind, Role
from cascaderank.settings.run import RunSettings
from cascaderank.training.check.findings import Finding, error
from cascaderank.training.check.sample import Sample

LEAK: Final = 0.98
"""Mean AUC within requests from which a single feature is reported. The best feature of the real
data sets of ``docs/datasets.md`` has less than .9."""
_FEWEST = 20
"""Requests with an AUC that a finding is based on, at least."""
_MOST_REQUESTS = 1_000
_MOST_CODES = 1_000
"""Categories whose mean relevance is estimated; more have too few candidates each."""


def leak_findings(settings: RunSettings, sample: Sample) -> Iterator[Finding]:
    """Yield a finding for each item feature that alone orders candidates as the labels do.

    The feature that identifies items is left out: it is known before the ranking, and orders the
    candidates where the same items are served in most requests.

    Args:
        settings: settings of the run.
        sample: requests of the log.
    """
    rows = sample.data.split.train
    rows = rows[:: max(1, -(-len(rows) // _MOST_REQUESTS))]
    batches = list(sample.data.loader(rows).epoch(0))
    identity = item_keys(sample.data.log, settings).column
    for feature in sample.data.schema.of(Role.ITEM):
        if feature.several or feature.name == identity:
            continue
        numeric = feature.kind is Kind.NUMERIC
        for how, aucs in (_numeric if numeric else _categorical)(feature, batches, settings):
            defined = aucs[~aucs.isnan()].double()
            if len(defined) >= _FEWEST and float(defined.mean()) >= LEAK:
                yield error(
                    "leak",
                    f"{how} '{feature.name}' alone orders the ground truth before all others: AUC "
                    f"{float(defined.mean()):.3f} within {len(defined):,} training requests. It "
                    "is probably known only after the ranking, or computed from the labels. Leave "
                    f'it out with "!{feature.name}" in the features of the stages.',
                )
                break


def _aucs(batch: RequestBatch, scores: Tensor, settings: RunSettings) -> Tensor:
    if batch.labels is None:
        return torch.full(batch.mask.shape[:1], torch.nan)
    truth = settings.ground_truth
    return auc_metric(scores, batch.labels, k=truth.top, threshold=truth.threshold, mask=batch.mask)


def _numeric(
    feature: Feature, batches: list[RequestBatch], settings: RunSettings
) -> Iterator[tuple[str, Tensor]]:
    """Yield AUCs in both directions, and of the indicator of missing values."""
    values = [batch.items[feature.name] for batch in batches]
    for sign, how in ((1.0, "feature"), (-1.0, "the negative of feature")):
        orders = [(v * sign).nan_to_num(nan=-torch.inf) for v in values]
        yield how, _of_all(batches, orders, settings)
    if feature.missing:
        for sign, how in ((1.0, "a value of"), (-1.0, "a missing value of")):
            known = [sign * (~v.isnan()).float() for v in values]
            yield how, _of_all(batches, known, settings)


def _categorical(
    feature: Feature, batches: list[RequestBatch], settings: RunSettings
) -> Iterator[tuple[str, Tensor]]:
    """Yield AUCs of the mean relevance of categories, from one half of the batches in the other."""
    codes = [batch.items[feature.name].long() for batch in batches]
    most = max((int(c.max()) for c in codes if c.numel()), default=0) + 1
    if most > _MOST_CODES:
        return
    halves: list[Tensor] = []
    for batch, code in zip(batches, codes, strict=True):
        if batch.labels is None:
            return
        even = torch.arange(len(batch)) % 2 == 0
        means = [_means(batch, code, half, most, settings) for half in (even, ~even)]
        scores = torch.where(even[:, None], means[1][code], means[0][code])
        halves.append(_aucs(batch, scores, settings))
    yield "the category", torch.cat(halves) if halves else torch.zeros(0)


def _means(
    batch: RequestBatch, code: Tensor, half: Tensor, most: int, settings: RunSettings
) -> Tensor:
    """Return the mean relevance by category over some requests of a batch, ``[codes]``."""
    truth = settings.ground_truth
    labels = batch.labels if batch.labels is not None else torch.zeros(batch.mask.shape)
    relevance = ground_truth(labels, k=truth.top, threshold=truth.threshold, mask=batch.mask)
    chosen = batch.mask & half[:, None]
    sums = torch.bincount(code[chosen], weights=relevance[chosen].double(), minlength=most)
    return sums / torch.bincount(code[chosen], minlength=most).clamp(min=1)


def _of_all(batches: list[RequestBatch], scores: list[Tensor], settings: RunSettings) -> Tensor:
    if not batches:
        return torch.zeros(0)
    return torch.cat([_aucs(b, s, settings) for b, s in zip(batches, scores, strict=True)])
