"""The registry of metrics, and the names that reports compute in another way."""

from collections.abc import Callable
from types import MappingProxyType
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

_TEXTS: Final = {
    "map": "Mean average precision: another name of average_precision.",
    "mrr": "Mean reciprocal rank: another name of reciprocal_rank.",
    "gauc": """Mean of the AUC of each request, weighted by its number of candidates.

Requests whose candidates are all of one class are excluded. Written as gauc, or as
"gauc >= 4 among >= 3" for the labels of at least 4 among the candidates with labels of at least
3. The same as :func:`cascaderank.evaluation.gauc`.

Source: DIN (arXiv 1706.06978), section 5.2.""",
    "pooled_auc": """Area under the ROC curve over the candidates of all requests pooled together.

Unlike gauc, it depends on differences of scores between requests.

Source: textbook.""",
    "rcs": """Overlap of the top candidates of a stage and of the next stage: ranking consistency.

Computed among the candidates that reach the stage, at the quota of the next stage, or at 10 for
rcs@10. It uses no labels. The same as :func:`cascaderank.evaluation.ranking_consistency`.

Source: Gu et al. 2022 (arXiv 2205.01289).""",
    "bias": """Mean error of the predicted probability, per list.

For scores that are log-odds and labels that are probabilities; positive if the stage predicts
too much.

Source: this project.""",
    "absolute_error": """Mean absolute error of the predicted probability, per list.

For scores that are log-odds and labels that are probabilities.

Source: this project.""",
}
NAMED: Final = MappingProxyType(_TEXTS)
"""Documentation of the names that reports compute in another way, and of the abbreviations."""

METRICS: Registry[Callable[..., Tensor]] = Registry(
    "metric",
    "cascaderank.metrics",
    suffix="_metric",
    given=("mask", "retrieved"),
    reserved=tuple(NAMED),
)
