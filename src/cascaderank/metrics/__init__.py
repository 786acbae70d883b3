"""Metrics: one per file, pure functions ``(scores, labels, *, mask, ...)`` to one value per list.

An undefined value (of a list without relevant candidates, or with a NaN label) is NaN;
``torch.nanmean`` excludes it. :func:`named_metric` parses names such as ``"ndcg@10"``.
"""

from collections.abc import Callable

from torch import Tensor

from cascaderank.metrics._named import NamedMetric, named_metric
from cascaderank.metrics._registered import ALIASES, CONSISTENCY, METRICS, NAMED

__all__ = ["ALIASES", "CONSISTENCY", "METRICS", "NAMED", "NamedMetric", "named_metric"]


def __getattr__(name: str) -> Callable[..., Tensor]:
    return METRICS.attribute(name)


def __dir__() -> list[str]:
    return [*__all__, *(f"{name}_metric" for name in METRICS)]
