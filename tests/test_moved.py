"""Import paths of version 0.1 work, and say what to write instead."""

import importlib
import re
import sys

import pytest

from cascaderank._moved import MODULES, NAMES
from cascaderank.evaluation import Evaluator

OLD = {
    "cascaderank.config": ("RunSettings", "read_settings"),
    "cascaderank.schedule": ("Schedule", "Phase"),
    "cascaderank.data.columns": ("EncodedLog",),
    "cascaderank.cli.select": ("select",),
    "cascaderank.data.encoding": ("check_same_features", "fit_schema", "encode_column"),
    "cascaderank.experiments.heatmap": ("heatmap_markdown",),
    "cascaderank.experiments.jobs": ("Job", "carry_out", "runner"),
    "cascaderank.data.fitting": ("fit_schema",),
    "cascaderank.data.loader": ("RequestLoader",),
    "cascaderank.data.request_log": ("RequestLog", "RequestLogWriter"),
    "cascaderank.evaluation": ("report_tables", "funnel_table", "profile_tables"),
    "cascaderank.evaluation.bootstrap": ("bootstrap_interval",),
    "cascaderank.evaluation.cascade": ("evaluate",),
    "cascaderank.experiments.summary": ("Comparison",),
    "cascaderank.training.judging": ("evaluate_run", "evaluate_run_catalogue"),
    "cascaderank.training.run": ("train_run", "load_run", "build_cascade", "RunResult"),
    "cascaderank.training.run_data": ("run_data", "RunData"),
    "cascaderank.training.run_folder": ("RunFolder",),
    "cascaderank.training.selection": ("select_run",),
}
"""Names that the documentation of 0.1 used, by the module they were imported from."""


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in OLD.items() for n in names])
def test_a_name_of_the_version_before_can_be_imported_with_a_warning(module, name):
    sys.modules.pop(module, None) if module.removeprefix("cascaderank.") in MODULES else None
    names: dict[str, object] = {}
    with pytest.warns(DeprecationWarning, match=re.escape(module)) as caught:
        exec(f"from {module} import {name}", names)
    assert callable(names[name])
    assert caught[0].filename == "<string>", "points to the import, not into the library"


@pytest.mark.parametrize("new", sorted({*MODULES.values()}))
def test_what_a_module_is_called_now_exists(new):
    importlib.import_module(f"cascaderank.{new}")


@pytest.mark.parametrize("new", sorted({*NAMES.values()}))
def test_what_a_name_is_called_now_exists(new):
    home, _, name = new.rpartition(".")
    assert hasattr(importlib.import_module(f"cascaderank.{home}"), name)


def test_nothing_else_is_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("cascaderank.nothing")
    with pytest.raises(ImportError):
        from cascaderank.evaluation import nothing  # noqa: F401


def test_everything_public_of_an_old_module_can_be_imported_at_once():
    sys.modules.pop("cascaderank.config", None)
    names: dict[str, object] = {}
    with pytest.warns(DeprecationWarning, match=r"cascaderank\.config"):
        exec("from cascaderank.config import *", names)
    assert {"RunSettings", "read_settings", "check_settings"} <= names.keys()


def test_an_old_and_a_new_keyword_together_are_refused():
    with pytest.raises(TypeError, match="ground_truth= is k= now, and both are given"):
        Evaluator(quotas=(2,), k=5, ground_truth=10)
    with pytest.warns(DeprecationWarning, match="ground_truth= is k= now"):
        assert Evaluator(quotas=(2,), ground_truth=10).k == 10
