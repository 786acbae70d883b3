"""What users may rely on is what is listed, and costs nothing to import."""

import subprocess
import sys

import pytest

import cascaderank

CONTRACT = {
    "Cascade", "CascadeRankError", "Feature", "FittedSchema", "RequestBatch", "RequestLoader",
    "RequestLog", "RequestLogWriter", "RunSettings", "Schema", "Trainer", "__version__",
    "build_objective", "build_stage", "evaluate", "evaluation", "ground_truth", "load_run", "losses",
    "metrics", "objectives", "read_settings", "reports", "serving", "sorting", "stages", "train_run",
}  # fmt: skip


def test_public_names_are_the_listed_ones():
    assert set(cascaderank.__all__) == CONTRACT


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_public_name_can_be_had(name):
    assert getattr(cascaderank, name) is not None


def test_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'Casacde'"):
        _ = cascaderank.Casacde


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("losses", "bce_loss"),
        ("metrics", "cascade_recall_metric"),
        ("metrics", "recall_metric"),
        ("metrics", "ndcg_metric"),
        ("sorting", "permutation"),
        ("sorting", "top_k_probability"),
    ],
)
def test_functions_of_the_contract_are_there(package, name):
    assert callable(getattr(getattr(cascaderank, package), name))


@pytest.mark.parametrize("statement", ["import cascaderank", "import cascaderank.cli"])
def test_importing_loads_nothing_heavy(statement):
    heavy = "torch polars numpy pyarrow pydantic scipy"
    code = f"{statement}; import sys; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
