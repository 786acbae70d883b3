"""The registry of metrics, and the names that reports compute in another way."""

from collections.abc import Callable
from typing import Final

from torch import Tensor

from cascaderank.registry import Registry

ALIASES: Final = {"map": "average_precision", "mrr": "reciprocal_rank"}
"""Registered names by their abbreviations."""
POOLED: Final = ("pooled_auc", "gauc")
"""Computed over all requests together: over their pooled candidates (``pooled_auc``), or as a
weighted mean over requests (``gauc``)."""
CONSISTENCY: Final = "rcs"
"""Computed for two consecutive stages: :func:`cascaderank.evaluation.ranking_consistency`."""
ERRORS: Final = ("bias", "absolute_error")
"""Errors of scores that are log-odds, against labels that are probabilities."""

METRICS: Registry[Callable[..., Tensor]] = Registry(
    "metric",
    "cascaderank.metrics",
    suffix="_metric",
    given=("mask", "retrieved"),
    reserved=(*ALIASES, *POOLED, CONSISTENCY, *ERRORS),
)
