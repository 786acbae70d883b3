"""Import paths of version 0.1 that have changed; they work for one more release.

Importing an old module emits a :class:`DeprecationWarning` that names the new one, and gives a
module whose attributes are those of the new one. Remove this file, and the lines
that import it in three ``__init__.py``, in version 0.4.
"""

import importlib
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final, ParamSpec, TypeVar, final

_ROOT: Final = "cascaderank."
_P = ParamSpec("_P")
_R = TypeVar("_R")

MODULES: Final = {
    "catalogue": "components",
    "cli.select": "cli.fields",
    "comparison": "settings.comparison",
    "config": "settings.run",
    "schedule": "settings.schedule",
    "settings_files": "settings.files",
    "data.candidates": "data.loading.candidates",
    "data.column_files": "data.encoding.column_files",
    "data.columns": "data.encoding.encoded_log",
    "data.fitting": "data.encoding.fitting",
    "data.flat": "data.encoding.flatten",
    "data.funnel.settings": "data.funnel.funnel_settings",
    "data.hashing": "data.encoding.hashing",
    "data.loader": "data.loading.loader",
    "data.log_writer": "data.log.writer",
    "data.manifest": "data.log.manifest",
    "data.ordering": "data.loading.request_order",
    "data.padding": "data.loading.padding",
    "data.prefetch": "data.loading.prefetch",
    "data.request_log": "data.log.request_log",
    "data.summary": "data.log.summary",
    "data.tables": "data.encoding.column_blocks",
    "data.unfinished": "data.log.steps",
    "data.validation": "data.log.validation",
    "evaluation.bootstrap": "evaluation.statistics.bootstrap",
    "evaluation.cascade": "evaluation.evaluate",
    "evaluation.catalogue": "evaluation.item_retrieval",
    "evaluation.profile_tables": "reports.profile_tables",
    "evaluation.search": "evaluation.vector_search",
    "evaluation.significance": "evaluation.statistics.significance",
    "evaluation.tables": "reports.evaluation_tables",
    "experiments.cells": "reports.cells",
    "experiments.heatmap_plot": "reports.heatmap_plot",
    "experiments.jobs": "experiments.execution.local",
    "experiments.outputs": "reports.comparison_files",
    "experiments.papers": "reports.paper_tables",
    "experiments.plots": "reports.comparison_plot",
    "experiments.profile_plot": "reports.profile_plot",
    "experiments.search": "experiments.retrieval_metrics",
    "experiments.summary": "experiments.results",
    "experiments.tables": "reports.comparison_tables",
    "layers.mlp": "layers.feed_forward",
    "simulation.settings": "simulation.simulation_settings",
    "training.domains": "training.domain_checks",
    "training.environment": "runs.environment",
    "training.judging": "training.evaluate_run",
    "training.progress": "progress",
    "training.run": "training.train_run",
    "training.run_data": "runs.data",
    "training.run_folder": "runs.folder",
    "training.schedule": "training.scheduler",
    "training.seeding": "runs.seeding",
    "training.selection": "training.field_selection",
    "training.start": "training.warm_start",
}
"""New modules by old ones, both without ``cascaderank.``."""

NAMES: Final = {
    "catalogue.catalogue": "components.components",
    "cli.select.select": "cli.fields.fields",
    "data.encoding.check_same_features": "data.encoding.encoder.check_same_features",
    "data.encoding.Encoder": "data.encoding.encoder.Encoder",
    "data.encoding.encode_column": "data.encoding.encoder.encode_column",
    "data.encoding.fit_schema": "data.encoding.fitting.fit_schema",
    "evaluation.catalogue_table": "reports.catalogue_table",
    "evaluation.funnel_table": "reports.funnel_table",
    "evaluation.profile_tables": "reports.profile_tables",
    "evaluation.report_tables": "reports.report_tables",
    "evaluation.summary_table": "reports.summary_table",
    "evaluation.tradeoff_table": "reports.tradeoff_table",
    "experiments.heatmap.heatmap_markdown": "reports.heatmap_tables.heatmap_markdown",
    "experiments.jobs.Job": "experiments.execution.job.Job",
    "experiments.jobs.carry_out": "experiments.execution.plans.carry_out",
    "experiments.jobs.run_job": "experiments.execution.job.run_job",
    "experiments.summary.check_judging": "experiments.results.check_reference",
    "training.run.RunResult": "training.run_result.RunResult",
    "training.run.build_cascade": "runs.build.build_cascade",
    "training.run.load_run": "runs.load.load_run",
    "training.run.run_objective": "runs.build.build_run_objective",
    "training.run_data.open_shared": "runs.sharing.open_shared",
    "training.run_data.share": "runs.sharing.share",
    "training.selection.Selected": "training.field_selection.SelectedFields",
    "training.selection.select_run": "training.field_selection.select_fields",
}
"""New names by old ones, where a name moved without its module or was renamed."""


def moved_name(module: str, name: str) -> Any:
    """Return what was called ``name`` in a module; for the ``__getattr__`` of that module.

    Args:
        module: the module, without ``cascaderank.``.
        name: an attribute that it does not have.

    Raises:
        AttributeError: if the module never had such a name.
    """
    new = NAMES.get(f"{module}.{name}")
    if new is None:
        raise AttributeError(f"module '{_ROOT}{module}' has no attribute '{name}'")
    _warn(f"{module}.{name}", new, stacklevel=4)  # past the __getattr__ that calls this
    home, _, attribute = new.rpartition(".")
    return getattr(importlib.import_module(_ROOT + home), attribute)


def renamed_keywords(**names: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let a function accept keywords by their old names, with a ``DeprecationWarning``.

    Args:
        **names: new name of each keyword by its old name.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(function)
        def renamed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            for old, new in names.items():
                if old in kwargs:
                    if new in kwargs:
                        raise TypeError(f"{old}= is {new}= now, and both are given; give {new}=")
                    warnings.warn(
                        f"{old}= is {new}= now; the old name will be removed in version 0.4",
                        DeprecationWarning,
                        stacklevel=2,
                    )
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return renamed

    return decorate


@final
class _Finder(MetaPathFinder):
    """Finds the modules of :data:`MODULES`."""

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        old = fullname.removeprefix(_ROOT)
        return ModuleSpec(fullname, _Loader(old)) if old != fullname and old in MODULES else None


@final
class _Loader(Loader):
    """Makes a module whose attributes are those of another one."""

    def __init__(self, old: str) -> None:
        self._old = old

    def exec_module(self, module: ModuleType) -> None:
        old, new = self._old, MODULES[self._old]
        _warn(old, new, stacklevel=3)
        home = importlib.import_module(_ROOT + new)

        def attribute(name: str) -> Any:
            if f"{old}.{name}" in NAMES:
                return moved_name(old, name)
            return getattr(home, name)

        module.__getattr__ = attribute  # type: ignore[method-assign]
        renamed = [n.removeprefix(f"{old}.") for n in NAMES if n.startswith(f"{old}.")]
        public = [name for name in vars(home) if not name.startswith("_")]
        module.__dict__["__all__"] = sorted({*public, *renamed})  # for `import *`
        module.__doc__ = home.__doc__


def _warn(old: str, new: str, *, stacklevel: int) -> None:
    warnings.warn(
        f"{_ROOT}{old} is {_ROOT}{new} now; the old name will be removed in version 0.4",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def install() -> None:
    """Make the old import paths work. Modules that exist are always found first."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
