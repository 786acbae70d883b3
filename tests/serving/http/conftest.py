"""A service over the bundles of the serving tests, and a client without a socket."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cascaderank.runs.folder import RunFolder
from cascaderank.serving import export_run
from cascaderank.serving.bundle import Bundle
from cascaderank.serving.golden import golden_requests
from cascaderank.serving.http.app import build_app
from cascaderank.serving.http.openapi import plain
from cascaderank.serving.http.service import Service
from tests.serving.http.asgi_client import Client
from tests.serving.http.chromium import in_thread, launched


def client_of(service, access=None):
    return Client(build_app(service, access))


@pytest.fixture(scope="session")
def service(searching_bundle):
    made = Service({"main": searching_bundle})
    yield made
    made.close()


@pytest.fixture(scope="session")
def client(service):
    return client_of(service)


@pytest.fixture(scope="session")
def bodies(searching_bundle):
    """Body of each golden request: values, and candidates by key."""
    return [
        {"request": plain(golden.request), "candidates": golden.columns["video"]}
        for golden in golden_requests(Bundle.load(searching_bundle))
    ]


@pytest.fixture(scope="session")
def other_bundle(searching_run, tmp_path_factory):
    """Bundle of the same run with other weights, so that lists differ."""
    run = tmp_path_factory.mktemp("runs") / "other"
    shutil.copytree(searching_run, run)
    weights = load_file(RunFolder(run).weights)
    rng = np.random.default_rng(3)
    for name, values in weights.items():
        weights[name] = torch.from_numpy(rng.normal(size=values.shape).astype(np.float32) / 4)
    save_file(weights, RunFolder(run).weights)
    path = tmp_path_factory.mktemp("bundles") / "other"
    export_run(run, path, name="challenger")
    return path


@pytest.fixture(scope="module")
def browser():
    with launched() as started:
        yield started


@pytest.fixture(scope="module")
def url(browser, service):
    with in_thread(service) as address:
        yield address
