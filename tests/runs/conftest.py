"""A run with random weights on a small log: loading and scoring do not depend on training."""

import pytest
import torch
from safetensors.torch import save_file

from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.runs.build import build_cascade
from cascaderank.runs.folder import RunFolder, write_json
from cascaderank.runs.load import load_run
from cascaderank.settings.run import check_settings
from tests.data.shops import shop_frame, write_shop

STAGES = {
    "retrieval": {
        "model": "two_tower",
        "quota": 2,
        "hidden": [8, 4],
        "features": ["user", "hour", "video", "watched"],
    },
    "ranking": {
        "model": "mlp",
        "quota": 1,
        "hidden": [8],
        "dropout": 0.5,
        "features": ["user", "video", "price", "watched", "seconds"],
    },
}


def untrained(folder, log, stages=None, **tables):
    """Write the folder of a run with random weights; its training data are the whole log."""
    settings = check_settings(
        {
            "data": {"path": str(log.path), "split": {"by": "request", "seed": 1}},
            "relevance": {"top": 1},
            "stages": stages or STAGES,
            "objective": {"name": "bce"},
            "evaluation": {"batch_size": 4},
            **tables,
        }
    )
    schema, run = fit_schema(log.schema, log.frames()), RunFolder(folder)
    torch.manual_seed(0)
    cascade = build_cascade(settings, schema)
    with torch.no_grad():  # embeddings of values unseen in training, too
        for parameter in cascade.parameters():
            parameter.normal_(std=0.2)
    run.config.write_text(settings.to_toml())
    schema.save(run.schema)
    save_file(cascade.state_dict(), run.weights)
    write_json(run.report, {"dataset": {"fingerprint": log.fingerprint}})
    return folder


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """Log of 40 requests with 1 to 3 candidates, in two files."""
    path = tmp_path_factory.mktemp("logs") / "shop"
    return write_shop(path, [shop_frame(40)], rows_per_part=23)


@pytest.fixture(scope="session")
def shop_run(shop, tmp_path_factory):
    """Folder of a run of two stages on ``shop``; read-only."""
    return untrained(tmp_path_factory.mktemp("runs") / "run", shop)


@pytest.fixture
def run(shop_run):
    return load_run(shop_run)
