"""Recalls of the validation requests at the end of an epoch."""

import math
from typing import Any

import torch
from torch import Tensor

from cascaderank.cascade import Cascade
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import ConfigError
from cascaderank.metrics.cascade_recall import cascade_recall_metric
from cascaderank.metrics.recall import recall_metric
from cascaderank.settings.run import RelevanceSettings


@torch.no_grad()
def validation_recalls(
    cascade: Cascade,
    loader: RequestLoader,
    *,
    relevance: RelevanceSettings,
    depth: int,
    device: torch.device,
) -> dict[str, float | None]:
    """Return mean recalls over the validation requests, ``None`` if undefined for all.

    These are the joint recall of the cascade, the joint recall of its first ``depth`` stages, and
    the recall of each stage on the complete candidate lists. Without validation requests, all are
    undefined. The cascade is set to evaluation mode.

    Args:
        cascade: cascade on its device.
        loader: loader of the validation requests.
        relevance: definition of the ground truth.
        depth: number of first stages.
        device: device of the cascade.

    Raises:
        ConfigError: if the requests have no labels.
    """
    cascade.eval()
    values: dict[str, list[Tensor]] = {}
    k, threshold = relevance.top, relevance.threshold
    quotas = cascade.quotas
    for batch in loader.epoch(0):
        if batch.labels is None:
            raise ConfigError(
                "validation needs labels, and the validation loader yielded a batch without; "
                "build it on a log that has the target"
            )
        scores = cascade(batch.to(device)).cpu()
        options: dict[str, Any] = {"k": k, "threshold": threshold, "mask": batch.mask}
        for d in sorted({depth, len(quotas)}):
            recall = cascade_recall_metric(scores[:d], batch.labels, quotas=quotas[:d], **options)
            values.setdefault(joint_recall_key(cascade, d), []).append(recall)
        for name, stage_scores, quota in zip(cascade.stage_names, scores, quotas, strict=True):
            recall = recall_metric(stage_scores, batch.labels, m=quota, **options)
            values.setdefault(f"recall/{name}", []).append(recall)
    if not values:
        names = [joint_recall_key(cascade, d) for d in sorted({depth, len(quotas)})]
        return dict.fromkeys([*names, *(f"recall/{n}" for n in cascade.stage_names)])
    return {name: _mean(torch.cat(parts)) for name, parts in values.items()}


def joint_recall_key(cascade: Cascade, depth: int) -> str:
    """Return the name of the joint recall of the first ``depth`` stages."""
    is_whole = depth == len(cascade.quotas)
    return "joint_recall" if is_whole else f"joint_recall/{cascade.stage_names[depth - 1]}"


def _mean(values: Tensor) -> float | None:
    """Return the mean of the values that are not NaN, ``None`` if there are none."""
    mean = float(values.double().nanmean())
    return None if math.isnan(mean) else mean
