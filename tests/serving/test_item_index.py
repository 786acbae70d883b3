"""A search by the index of a bundle: recall as measured, filters and pins, and what an answer says."""

import re
import shutil
import sys

import numpy as np
import pytest
import torch

from cascaderank.errors import ConfigError, MissingExtraError, RunError
from cascaderank.evaluation.vector_search import VectorIndex, exact_search
from cascaderank.serving import (
    Bundle,
    Condition,
    Filters,
    Ranker,
    Rerank,
    export_run,
    verify_bundle,
)
from cascaderank.serving.bundle_files import read_bundle_manifest, write_bundle_manifest
from cascaderank.serving.golden import golden_requests
from cascaderank.serving.item_index import best_places
from tests.runs.conftest import untrained
from tests.serving.conftest import SEARCHING, market_frame, market_items, request_of

REQUESTS = [request_of(row) for row in market_frame(40).iter_rows(named=True)]


@pytest.fixture(scope="module")
def indexed(searching_run, tmp_path_factory):
    """Bundle of 600 items with an index."""
    folder = tmp_path_factory.mktemp("indexed")
    market_items(600).write_parquet(folder / "items.parquet")
    export_run(searching_run, folder / "bundle", items=folder / "items.parquet", index="hnsw")
    return folder / "bundle"


@pytest.fixture(scope="module")
def both(indexed):
    """Rankers that search by the index and exactly."""
    bundle = Bundle.load(indexed)
    return Ranker(bundle), Ranker(bundle, exact=True)


def test_the_recall_is_measured_on_golden_requests(indexed, both):
    entry = read_bundle_manifest(indexed).index
    assert (entry.description, entry.stage, entry.k, entry.requests) == (
        "HNSW32",
        "retrieval",
        8,
        8,
    )
    ranker = both[1]
    plan, encoder = ranker.plans[0], ranker._shared.encoder
    found, expected = [], []
    for golden in golden_requests(ranker.bundle):
        scores = plan.scores_of_parts(encoder.request(golden.request), plan.parts)
        expected.append(set(np.argsort(-scores, kind="stable")[:8].tolist()))
        vector = plan.stage.request_vectors(encoder.request(golden.request))
        found.append(set(ranker.bundle.index.search(vector, 8)[0].tolist()))
    hits = [len(f & e) for f, e in zip(found, expected, strict=True)]
    assert entry.recall == pytest.approx(sum(hits) / 64)
    assert entry.recall > 0.9
    assert entry.milliseconds > 0
    assert entry.exact_milliseconds > 0


def test_an_answer_is_that_of_exact_search_up_to_the_recall(both):
    by_index, exactly = both
    assert (by_index.approximate, exactly.approximate) == (True, False)
    assert by_index.memory["index"] == (by_index.bundle.folder / "items.faiss").stat().st_size
    assert "index" not in exactly.memory
    hits = 0
    for request in REQUESTS:
        found = by_index.rank(request, trace=True)
        expected = exactly.rank(request, trace=True)
        assert (found.approximate, expected.approximate) == (True, False)
        assert found.to_json()["approximate"]
        assert [(s.came, s.left) for s in found.stages] == [(600, 8), (8, 6), (6, 3)]
        for key, score in zip(found.trace.keys, found.trace.scores["retrieval"], strict=True):
            place = expected.trace.keys.index(key)
            assert score == pytest.approx(expected.trace.scores["retrieval"][place], abs=1e-5)
        hits += found.ids == expected.ids
    assert hits >= 36


def test_candidates_of_a_request_are_not_searched_for(both):
    keys = [both[0].bundle.items.keys[i] for i in range(40)]
    assert not both[0].rank(REQUESTS[0], keys).approximate


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_filters_leave_no_item_in_the_list_and_fill_the_quota(both, share):
    by_index, exactly = both
    weights = by_index.bundle.items.raw["weight"]
    filters = Filters(where=[Condition("weight", "<", weights.quantile(share))])
    hits = 0
    for request in REQUESTS:
        best = exactly.rank(request).ids[0]
        filters = Filters(where=filters.where, items=[best])
        found, expected = (ranker.rank(request, filters=filters) for ranker in both)
        assert found.approximate
        assert best not in found.ids
        assert found.filtered == expected.filtered
        assert [s.left for s in found.stages] == [8, 6, 3]
        hits += found.ids == expected.ids
    assert hits >= 36


def test_a_filter_that_leaves_few_items_is_searched_exactly(both):
    filters = Filters(where=[Condition("weight", ">", 0.5)])
    answers = [ranker.rank(REQUESTS[1], filters=filters) for ranker in both]
    assert not answers[0].approximate
    assert answers[0].ids == answers[1].ids


def test_a_pin_that_the_index_does_not_find_is_in_the_list(both):
    by_index, exactly = both
    request = REQUESTS[2]
    last = exactly.rank(request, quotas=[600, 600, 600]).ids[-1]
    answer = by_index.rank(request, rerank=Rerank(pins={last: 2}))
    assert answer.approximate
    assert answer.ids[1] == last
    out = by_index.rank(request, rerank=Rerank(pins={last: 2}), filters=Filters(items=[last]))
    assert last not in out.ids


def test_more_items_are_retrieved_where_filters_leave_some_out():
    g = torch.Generator().manual_seed(0)
    items, request = torch.randn(2000, 4, generator=g), torch.randn(1, 4, generator=g)
    index = VectorIndex.build(items, "Flat")
    allowed = np.arange(0, 2000, 2)
    found = best_places(index, request, 10, allowed)
    best = exact_search(request, items[allowed], 10)[0] * 2
    assert set(best.tolist()) <= set(found.tolist()) <= set(allowed.tolist())
    # The 30 best items are left out: as many more are retrieved.
    out = exact_search(request, items, 30)[0]
    allowed = np.setdiff1d(np.arange(2000), out)
    expected = exact_search(request, items, 40)[0][30:]
    assert best_places(index, request, 10, allowed).tolist() == sorted(expected.tolist())
    assert best_places(index, request, 10, np.arange(50)) is None  # exact search
    assert best_places(index, request, 10, np.arange(0)) is None


def test_verification_finds_an_index_of_other_items(indexed, tmp_path):
    folder = shutil.copytree(indexed, tmp_path / "copy")
    assert verify_bundle(folder).ways[1] == "index"
    parts = Bundle.load(folder).parts["retrieval"]
    for items, message in (
        (parts.flip(0), r"index: expected a recall of (0\.9\d+|1\.0000), found 0\.[01]"),
        (parts[1:], "index: expected 600 items, found 599"),
    ):
        VectorIndex.build(items).save(folder / "items.faiss")
        with pytest.raises(RunError, match=r"items\.faiss: (changed|half-copied)"):
            Bundle.load(folder)
        write_bundle_manifest(folder, read_bundle_manifest(folder))
        found = verify_bundle(folder).difference
        assert re.search(message, found), found
    (folder / "items.faiss").write_bytes(b"nothing")
    write_bundle_manifest(folder, read_bundle_manifest(folder))
    with pytest.raises(RunError, match=r"cannot be loaded: .*items\.faiss: not an index of faiss"):
        Bundle.load(folder)


def test_a_missing_extra_is_named(indexed, searching_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"faiss is not installed; .*cascaderank\[ann\]"):
        Ranker.load(indexed)
    with pytest.raises(MissingExtraError, match=r"cascaderank\[ann\]"):
        export_run(searching_run, tmp_path / "bundle", index="hnsw")
    assert not (tmp_path / "bundle").exists()


def test_what_cannot_be_indexed_is_refused(bundle, searching_run, market_run, market, tmp_path):
    with pytest.raises(ConfigError, match="faiss cannot build index 'HSNW'"):
        export_run(searching_run, tmp_path / "bundle", index="HSNW")
    stages = {n: SEARCHING[n] for n in ("preranking", "ranking")}
    run = untrained(tmp_path / "run", market, stages, catalogue={"item": "video"})
    with pytest.raises(ConfigError, match=r"--index: .* stage 'preranking' cannot search"):
        export_run(run, tmp_path / "bundle", index="hnsw")
