"""cascaderank: train, evaluate, explain and serve a cascade ranking system as one network.

The public names are those of this package and of the packages that it lists. A module is imported
when one of its names is first used, so that ``import cascaderank`` is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cascaderank import _moved

if TYPE_CHECKING:
    from cascaderank import evaluation as evaluation
    from cascaderank import losses as losses
    from cascaderank import metrics as metrics
    from cascaderank import objectives as objectives
    from cascaderank import reports as reports
    from cascaderank import serving as serving
    from cascaderank import sorting as sorting
    from cascaderank import stages as stages
    from cascaderank.batch import RequestBatch as RequestBatch
    from cascaderank.cascade import Cascade as Cascade
    from cascaderank.cascade import build_stage as build_stage
    from cascaderank.data.loading.loader import RequestLoader as RequestLoader
    from cascaderank.data.log.request_log import RequestLog as RequestLog
    from cascaderank.data.log.request_log import RequestLogWriter as RequestLogWriter
    from cascaderank.errors import CascadeRankError as CascadeRankError
    from cascaderank.evaluation import evaluate as evaluate
    from cascaderank.objectives import build_objective as build_objective
    from cascaderank.relevance import ground_truth as ground_truth
    from cascaderank.runs.load import load_run as load_run
    from cascaderank.schema import Feature as Feature
    from cascaderank.schema import FittedSchema as FittedSchema
    from cascaderank.schema import Schema as Schema
    from cascaderank.settings.run import RunSettings as RunSettings
    from cascaderank.settings.run import read_settings as read_settings
    from cascaderank.training.train_run import train_run as train_run
    from cascaderank.training.trainer import Trainer as Trainer

__version__ = "0.5.0"

_HOME = {
    "Cascade": "cascade",
    "CascadeRankError": "errors",
    "Feature": "schema",
    "FittedSchema": "schema",
    "RequestBatch": "batch",
    "RequestLoader": "data.loading.loader",
    "RequestLog": "data.log.request_log",
    "RequestLogWriter": "data.log.request_log",
    "RunSettings": "settings.run",
    "Schema": "schema",
    "Trainer": "training.trainer",
    "build_objective": "objectives",
    "build_stage": "cascade",
    "evaluate": "evaluation",
    "ground_truth": "relevance",
    "load_run": "runs.load",
    "read_settings": "settings.run",
    "train_run": "training.train_run",
}
_PACKAGES = (
    "evaluation",
    "losses",
    "metrics",
    "objectives",
    "reports",
    "serving",
    "sorting",
    "stages",
)

__all__ = [  # noqa: PLE0604 - all are strings
    *_HOME,
    *_PACKAGES,
    "__version__",
]


if not TYPE_CHECKING:  # type checkers use the imports above, and reject any other name

    def __getattr__(name: str) -> Any:
        if name in _PACKAGES:
            return importlib.import_module(f"cascaderank.{name}")
        if name in _HOME:
            return getattr(importlib.import_module(f"cascaderank.{_HOME[name]}"), name)
        raise AttributeError(f"module 'cascaderank' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)


_moved.install()
