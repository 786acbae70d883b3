"""Shared fixtures: a small request log, settings for it, and the folder of the real data sets."""

import os

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before torch is imported, as in the command line
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in parallel, in one process per core
os.environ.setdefault("POLARS_MAX_THREADS", "2")  # more than one: results must not depend on it
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes to compile

from pathlib import Path

import hypothesis
import pytest
import torch

if not torch.cuda.is_available():  # before triton is imported; interprets its kernels
    os.environ.setdefault("TRITON_INTERPRET", "1")

from cascaderank.data.sources import SOURCES
from cascaderank.settings.run import check_settings

ROOT = Path(__file__).parents[1]

# A busy machine is no mistake of the code.
hypothesis.settings.register_profile("without_deadline", deadline=None)
hypothesis.settings.load_profile("without_deadline")


@pytest.fixture(scope="session")
def data_folder():
    """Folder of the real data sets; tests that need it are skipped if it does not exist."""
    folder = Path(os.environ.get("CASCADERANK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent; set CASCADERANK_DATA")
    return folder


@pytest.fixture(scope="session")
def funnel(tmp_path_factory):
    """Request log of a small synthetic two-stage funnel; read-only."""
    path = tmp_path_factory.mktemp("logs") / "funnel"
    SOURCES["synthetic"](None, path, requests=240, users=50, items=200, seed=3)
    return path


@pytest.fixture
def settings_for():
    """Function that returns settings of a small two-stage run; ``a__b=1`` sets ``a.b``."""

    def build(path, **changes):
        settings = check_settings(
            {
                "data": {"path": str(path), "split": {"by": "request", "seed": 1}},
                "relevance": {"top": 10},
                "stages": {
                    "retrieval": {"model": "two_tower", "quota": 30, "hidden": [8, 4]},
                    "ranking": {"model": "mlp", "quota": 20, "hidden": [8], "dropout": 0.1},
                },
                "objective": {"name": "lcron"},
                "train": {"epochs": 3, "batch_size": 32, "checkpoint_every": 2},
                "evaluation": {"bootstrap": 50},
            }
        )
        return settings.changed({k.replace("__", "."): v for k, v in changes.items()})

    return build
