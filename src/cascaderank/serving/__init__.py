"""Serving: a run as one folder, and the trained cascade as a function of one request.

:func:`~cascaderank.serving.export.export_run` writes a bundle,
:class:`~cascaderank.serving.ranker.Ranker` ranks with it, and
:func:`~cascaderank.serving.verify.verify_bundle` compares both with the code of training. Nothing
here needs a server.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascaderank.serving.answer import Answer as Answer
    from cascaderank.serving.answer import StageReport as StageReport
    from cascaderank.serving.answer import Trace as Trace
    from cascaderank.serving.bundle import Bundle as Bundle
    from cascaderank.serving.exploration import Exploration as Exploration
    from cascaderank.serving.export import export_run as export_run
    from cascaderank.serving.feature_source import FeatureSource as FeatureSource
    from cascaderank.serving.filters import Condition as Condition
    from cascaderank.serving.filters import Filters as Filters
    from cascaderank.serving.logged_candidates import Sampling as Sampling
    from cascaderank.serving.ranker import Ranker as Ranker
    from cascaderank.serving.redis_source import RedisSource as RedisSource
    from cascaderank.serving.rerank import Rerank as Rerank
    from cascaderank.serving.served_log import ServedLogWriter as ServedLogWriter
    from cascaderank.serving.served_settings import LogSettings as LogSettings
    from cascaderank.serving.served_settings import LogStatus as LogStatus
    from cascaderank.serving.verify import verify_bundle as verify_bundle

_HOME = {
    "Answer": "answer",
    "Bundle": "bundle",
    "Condition": "filters",
    "Exploration": "exploration",
    "FeatureSource": "feature_source",
    "Filters": "filters",
    "LogSettings": "served_settings",
    "LogStatus": "served_settings",
    "Ranker": "ranker",
    "RedisSource": "redis_source",
    "Rerank": "rerank",
    "Sampling": "logged_candidates",
    "ServedLogWriter": "served_log",
    "StageReport": "answer",
    "Trace": "answer",
    "export_run": "export",
    "verify_bundle": "verify",
}

__all__ = [*_HOME]  # noqa: PLE0604 - all are strings

if not TYPE_CHECKING:  # type checkers use the imports above

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            return getattr(importlib.import_module(f"cascaderank.serving.{_HOME[name]}"), name)
        raise AttributeError(f"module 'cascaderank.serving' has no attribute '{name}'")
