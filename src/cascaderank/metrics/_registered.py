"""The registry of metrics; a module of its own, so that the parser of names can import it."""

from collections.abc import Callable

from torch import Tensor

from cascaderank.registry import Registry

METRICS: Registry[Callable[..., Tensor]] = Registry(
    "metric", "cascaderank.metrics", suffix="_metric", given=("mask",)
)
