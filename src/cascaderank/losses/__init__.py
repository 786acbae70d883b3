"""Losses: one per file, pure functions ``(scores, labels, *, mask, ..., reduction)``.

The loss of a list with a NaN label is NaN; what lies under the mask has no effect.

Every registered loss is an attribute of this package, such as ``cascaderank.losses.bce_loss``.
The names in ``__all__`` are the registry and the building blocks of losses that objectives use.
"""

from collections.abc import Callable

from torch import Tensor

from cascaderank.losses._cuts import check_cut_sizes
from cascaderank.losses._pairs import Preferences, best_dcg, ndcg_lambdas, pessimistic_rank
from cascaderank.losses._targets import ground_truth_targets
from cascaderank.registry import Registry

__all__ = [
    "LOSSES",
    "Preferences",
    "best_dcg",
    "check_cut_sizes",
    "ground_truth_targets",
    "ndcg_lambdas",
    "pessimistic_rank",
]

LOSSES: Registry[Callable[..., Tensor]] = Registry("loss", __name__, suffix="_loss")


def __getattr__(name: str) -> Callable[..., Tensor]:
    return LOSSES.attribute(name)


def __dir__() -> list[str]:
    return [*__all__, *(f"{name}_loss" for name in LOSSES)]
