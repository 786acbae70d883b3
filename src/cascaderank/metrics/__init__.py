"""Metrics: one per file, pure functions ``(scores, labels, *, mask, ...)`` to one value per list.

What is undefined (nothing relevant, say) is NaN, which ``torch.nanmean`` leaves out.
"""

from collections.abc import Callable

from torch import Tensor

from cascaderank.registry import Registry

METRICS: Registry[Callable[..., Tensor]] = Registry("metric", __name__, suffix="_metric")


def __getattr__(name: str) -> Callable[..., Tensor]:
    return METRICS.attribute(name)


def __dir__() -> list[str]:
    return ["METRICS", *(f"{name}_metric" for name in METRICS)]
