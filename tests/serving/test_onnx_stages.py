"""Stages as ONNX have the scores of the modules, at any size, and verification compares them."""

import re
import shutil
import sys
from dataclasses import replace

import onnx
import pytest
import torch

from cascaderank.cascade import build_stage
from cascaderank.errors import ConfigError, DataError, MissingExtraError, RunError
from cascaderank.serving import Bundle, export_run, verify_bundle
from cascaderank.serving.bundle_files import read_bundle_manifest, write_bundle_manifest
from cascaderank.serving.onnx_stages import OnnxStage, _export, example_batch, onnx_cascade
from tests.command_line import cascaderank
from tests.contracts.test_stages import ALL, SCHEMA, make_batch, moved_apart, taken, with_lists
from tests.runs.conftest import untrained
from tests.serving.conftest import STAGES

NETWORKS = ("two_tower", "mlp", "din", "cold", "fscd", "ecm")
TREES = {"model": "boosted_trees", "quota": 3, "features": ["hour", "price", "distance"]}


def sizes():
    """Batches of one to three requests; lists, histories and values of other lengths, and of one."""
    yield make_batch()
    wide = torch.nn.functional.pad(make_batch(lists=2, length=9).items["genres"], (0, 3), value=-1)
    yield with_lists(make_batch(lists=2, length=9, history=7), genres=wide)
    one = taken(make_batch(), slice(1, 2), slice(1, 2))
    history = {name: values[:, :1] for name, values in one.history.items()}
    masks = {name: values[:, :1] for name, values in one.history_mask.items()}
    yield with_lists(
        replace(one, history=history, history_mask=masks),
        genres=one.items["genres"][..., :1],
        tags=one.request["tags"][..., :1],
    )


@pytest.mark.slow  # each export takes seconds
@pytest.mark.parametrize("name", NETWORKS)
def test_an_onnx_stage_has_the_scores_of_the_module_at_any_size(name, tmp_path):
    torch.manual_seed(0)
    stage = build_stage(name, SCHEMA, features=ALL).eval()
    moved_apart(stage)
    features = SCHEMA.select(ALL)
    _export(stage, example_batch(features), tmp_path / "stage.onnx")
    by_onnx = OnnxStage(tmp_path / "stage.onnx")
    for batch in sizes():
        found, expected = by_onnx(batch)[batch.mask], stage(batch)[batch.mask]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def stages(market, tmp_path_factory):
    """Bundle with ONNX of a run whose second stage is trees."""
    folder = tmp_path_factory.mktemp("onnx")
    of_run = {"retrieval": {**STAGES["retrieval"], "model": "mlp"}, "ranking": TREES}
    run = untrained(folder / "run", market, of_run, catalogue={"item": "video"})
    done = cascaderank("export", run, "--to", folder / "bundle", "--onnx")
    assert done.returncode == 0, done.stderr
    assert "stage 'ranking' (boosted_trees) is decision trees: not written as ONNX" in done.stderr
    assert "stage 'retrieval'" not in done.stderr.replace("stage 'retrieval' reads", "")
    return folder / "bundle"


def test_export_writes_networks_and_verifies_them(stages):
    manifest = read_bundle_manifest(stages)
    assert [s.onnx for s in manifest.stages] == ["stage0.onnx", None]
    assert "stage0.onnx" in manifest.files
    graph = onnx.load(stages / "stage0.onnx").graph
    inputs = {i.name for i in graph.input}
    assert {
        "mask",
        "items/video",
        "request/likes",
        "history/seconds",
        "history_mask/search",
    } <= inputs
    assert [o.name for o in graph.output] == ["scores"]
    result = verify_bundle(stages)
    assert result.difference is None
    assert "ONNX" in result.ways


def test_verification_finds_an_altered_weight_in_a_stage_as_onnx(stages, tmp_path):
    folder = shutil.copytree(stages, tmp_path / "copy")
    model = onnx.load(folder / "stage0.onnx")
    weight = [w for w in model.graph.initializer if len(w.dims) == 2][-1]
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 0.5
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, folder / "stage0.onnx")
    with pytest.raises(RunError, match=r"stage0\.onnx: (changed|half-copied)"):
        Bundle.load(folder)
    write_bundle_manifest(folder, read_bundle_manifest(folder))
    found = verify_bundle(folder).difference
    assert re.match("ONNX: request '.*stage 'retrieval': expected the score", found), found
    (folder / "stage0.onnx").write_bytes(b"nothing")
    write_bundle_manifest(folder, read_bundle_manifest(folder))
    assert re.match(r"ONNX: .*stage0\.onnx: cannot be loaded", verify_bundle(folder).difference)
    with pytest.raises(DataError, match="cannot be loaded by ONNX Runtime"):
        onnx_cascade(Bundle.load(folder))


def test_a_missing_extra_is_named(stages, market_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"onnxruntime is not installed.*cascaderank\[onnx\]"):  # fmt: skip
        verify_bundle(stages)
    with pytest.raises(MissingExtraError, match=r"cascaderank\[onnx\]"):
        export_run(market_run, tmp_path / "bundle", onnx=True)


def test_a_cascade_of_trees_alone_is_refused(market, tmp_path):
    run = untrained(tmp_path / "run", market, {"ranking": TREES}, catalogue={"item": "video"})
    with pytest.raises(ConfigError, match="--onnx: expected a stage that is a network"):
        export_run(run, tmp_path / "bundle", onnx=True)
