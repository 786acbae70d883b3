"""Losses: one per file, pure functions ``(scores, labels, *, mask, ..., reduction)``."""

from collections.abc import Callable

from torch import Tensor

from cascaderank.registry import Registry

LOSSES: Registry[Callable[..., Tensor]] = Registry("loss", __name__, suffix="_loss")


def __getattr__(name: str) -> Callable[..., Tensor]:
    return LOSSES.attribute(name)


def __dir__() -> list[str]:
    return ["LOSSES", *(f"{name}_loss" for name in LOSSES)]
