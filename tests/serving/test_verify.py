"""Verification finds what is not what was trained; checksums find it before anything is loaded."""

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file

from cascaderank.errors import RunError
from cascaderank.serving import Ranker, verify_bundle
from cascaderank.serving.bundle_files import read_bundle_manifest, write_bundle_manifest


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "copy")


def sign(folder):
    """Make the checksums again, so that only the verification can find a change."""
    write_bundle_manifest(folder, read_bundle_manifest(folder))


def changed(folder, name, change):
    """Change the arrays of a file."""
    arrays = load_file(folder / name)
    change(arrays)
    save_file(arrays, folder / name)


def test_a_bundle_is_equal(bundle):
    result = verify_bundle(bundle)
    assert result.difference is None
    assert result.equal
    assert (result.requests, result.items) == (8, 30)
    assert result.ways == ["catalogue", "modules of training", "Ranker, keys", "Ranker, rows"]
    assert result.largest < 1e-6


def alter_weight(folder):
    def alter(arrays):
        arrays["stages.ranking.head.first.both.weight"][0, 0] += 0.5

    changed(folder, "weights.safetensors", alter)


def alter_item_weight(folder):
    def alter(arrays):  # the embedding of one item
        arrays["stages.preranking.embedder.tables.video.weight"][2, 0] += 0.01

    changed(folder, "weights.safetensors", alter)


def swap_columns(folder):
    def swap(arrays):
        arrays["value/price"], arrays["value/weight"] = arrays["value/weight"], arrays["value/price"]  # fmt: skip

    changed(folder, "item_codes.safetensors", swap)


def swap_rows_of_parts(folder):
    def swap(arrays):
        arrays["preranking"][[4, 5]] = arrays["preranking"][[5, 4]]

    changed(folder, "item_parts.safetensors", swap)


def swap_raw_columns(folder):
    """The codes and parts would then be those of the wrong raw values, and agree with them."""
    frame = pl.read_ipc(folder / "items.arrow").clone()
    shuffled = frame.with_columns(frame["weight"].reverse())
    shuffled.write_ipc(folder / "items.arrow", compression="uncompressed")


def _normalisation(feature):
    def change(folder):
        path = folder / "schema.json"
        schema = json.loads(path.read_text())
        schema["moments"][feature]["mean"] += 0.1
        path.write_text(json.dumps(schema))

    return change


def alter_golden(folder):
    def alter(arrays):
        arrays["kept"][0, 0] ^= True

    changed(folder, "golden.safetensors", alter)


CHANGES = [
    (alter_weight, "weights.safetensors", "stage 'ranking': expected the score"),
    (alter_item_weight, "weights.safetensors", "stage 'preranking': the part of the item is not"),
    (swap_columns, "item_codes.safetensors", "feature 'price': expected the encoded value"),
    (swap_rows_of_parts, "item_parts.safetensors", "item 112: stage 'preranking': the part"),
    (swap_raw_columns, "items.arrow", "feature 'weight': expected the encoded value"),
    (_normalisation("age"), "schema.json", "modules of training: .* expected the score"),
    (_normalisation("price"), "schema.json", "feature 'price': expected the encoded value"),
    (alter_golden, "golden.safetensors", "stage 'retrieval': expected it (kept|cut), found it"),
]


@pytest.mark.parametrize(("change", "file", "message"), CHANGES)
def test_a_change_is_found(copy, change, file, message):
    change(copy)
    for load in (Ranker.load, verify_bundle):
        with pytest.raises(RunError, match=rf"{file}: (changed since the export|half-copied|changed): expected"):  # fmt: skip
            load(copy)
    sign(copy)
    result = verify_bundle(copy)
    assert not result.equal
    assert pytest.approx(0, abs=1) == len(result.difference.splitlines()) - 1
    import re

    assert re.search(message, result.difference), result.difference


def test_another_way_to_serve_is_compared(bundle):
    ranker = Ranker.load(bundle)

    def off_by_some(golden):
        answer = ranker.rank(golden.request, golden.rows, trace=True)
        scores = {name: scores + 1e-4 for name, scores in answer.trace.scores.items()}
        return replace_trace(answer, scores=scores)

    result = verify_bundle(bundle, ways=[("HTTP", off_by_some)])
    assert result.ways[-1] == "HTTP"
    assert "HTTP: request 'r0" in result.difference
    assert "stage 'retrieval': expected the score" in result.difference


def replace_trace(answer, **changes):
    from cascaderank.serving import Answer

    fields = {n: getattr(answer, n) for n in ("ids", "scores", "stages", "milliseconds")}
    return Answer(**fields, trace=replace(answer.trace, **changes))


def test_cuts_between_equal_scores_are_counted(bundle):
    ranker = Ranker.load(bundle)

    def other_ties(golden):
        """Swap two candidates at a cut whose recorded scores are made equal."""
        golden.scores[0] = 1.0
        answer = ranker.rank(golden.request, golden.rows, trace=True)
        kept = {name: kept[::-1].copy() for name, kept in answer.trace.kept.items()}
        ones = {name: np.ones_like(s) for name, s in answer.trace.scores.items()}
        return replace_trace(answer, kept=kept, scores={**answer.trace.scores, "retrieval": ones["retrieval"]})  # fmt: skip

    result = verify_bundle(bundle, ways=[("other order", other_ties)])
    assert result.near_ties > 0
