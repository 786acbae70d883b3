"""A ranker ranks as the code of training does, by keys, by rows, and over all items."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
import torch

from cascaderank.errors import ConfigError, DataError, SchemaError
from cascaderank.runs.load import load_run
from cascaderank.serving import Condition, Filters, Ranker
from tests.serving.conftest import ALONE, market_frame, market_items, request_of

STAGES = ("retrieval", "preranking", "ranking")
LONGER = market_frame(300)
"""Requests of which some have users and videos that training did not have."""


def check(answer, scored, number):
    """Compare an answer with a row of ``TrainedRun.score``."""
    row = scored.row(number, named=True)
    received = np.ones(len(row["video"]), dtype=bool)
    for stage in STAGES:
        expected, found = np.array(row[f"score/{stage}"]), answer.trace.scores[stage]
        np.testing.assert_allclose(found[received], expected[received], atol=1e-5)
        assert np.isnan(found[~received]).all()
        received = np.array(row[f"alive/{stage}"])
        assert answer.trace.kept[stage].tolist() == received.tolist()
    ranks = {rank: key for key, rank in zip(row["video"], row["rank"], strict=True) if rank}
    assert answer.ids == [ranks[i + 1] for i in range(len(ranks))]


@pytest.fixture(scope="module")
def scored(market_run):
    return load_run(market_run).score(LONGER)


def rows_of(row, names):
    return {name: row[name] for name in names}


@pytest.mark.parametrize("names", [["video", "distance"], [*ALONE, "distance"]])
def test_rows_are_ranked_as_by_training(ranker, scored, names):
    for number, row in enumerate(LONGER.iter_rows(named=True)):
        answer = ranker.rank(request_of(row), rows_of(row, names), trace=True)
        check(answer, scored, number)


def test_keys_are_ranked_as_by_training(searcher, searching_run):
    scored = load_run(searching_run).score(LONGER)
    for number, row in enumerate(LONGER.iter_rows(named=True)):
        check(searcher.rank(request_of(row), row["video"], trace=True), scored, number)


def test_a_row_per_candidate_is_a_list_per_feature(ranker):
    row = LONGER.row(7, named=True)
    columns = rows_of(row, ["video", "distance"])
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    arrays = {name: np.array(values) for name, values in columns.items()}
    answers = [ranker.rank(request_of(row), c) for c in (columns, rows, arrays)]
    assert answers[0].ids == answers[1].ids == answers[2].ids
    assert answers[0].scores == answers[1].scores == answers[2].scores
    assert {type(key) for key in answers[2].ids} == {int}, "JSON has no other integers"


def test_a_search_ranks_all_items(searcher, searching_run):
    items = market_items()
    row = LONGER.row(3, named=True)
    every = {**{n: [v] for n, v in row.items() if n not in ALONE}, "distance": [[0.0] * 30]}
    every |= {name: [items[name].to_list()] for name in ALONE}
    frame = pl.DataFrame(every, schema_overrides={n: LONGER.schema[n] for n in every})
    answer = searcher.rank(request_of(row), trace=True)
    check(answer, load_run(searching_run).score(frame), 0)
    assert [(s.name, s.came, s.left) for s in answer.stages] == [
        ("retrieval", 30, 8),
        ("preranking", 8, 6),
        ("ranking", 6, 3),
    ]
    assert answer.positions == [1, 2, 3]
    assert searcher.rank(request_of(row), top=2).ids == answer.ids[:2]


def test_rows_replace_what_the_catalogue_has(searcher, searching_run):
    row = LONGER.row(11, named=True)
    row["price"] = [9.0 * i for i in range(len(row["video"]))]
    frame = pl.DataFrame([row], schema_overrides=LONGER.schema)
    answer = searcher.rank(request_of(row), rows_of(row, ["video", "price"]), trace=True)
    check(answer, load_run(searching_run).score(frame), 0)


def test_items_outside_the_catalogue_are_reported_or_ranked_by_all_features(searcher):
    row = LONGER.row(11, named=True)
    request, known = request_of(row), row["video"]
    answer = searcher.rank(request, [999, *known, "x"])
    assert answer.unknown == (999, "x")
    assert answer.ids == searcher.rank(request, known).ids
    prices = {"video": [*known, 999], "price": [1.0] * (len(known) + 1)}
    assert searcher.rank(request, prices).unknown == (999,)
    new = {name: [*row[name], row[name][0]] for name in ALONE} | {"video": [*known, 999]}
    answer = searcher.rank(request, new, quotas=(99, 99, 99))
    assert not answer.unknown
    assert 999 in answer.ids


def test_features_of_request_and_item_are_required_with_the_stage_named(ranker, searcher):
    assert ranker.needs_rows == {"ranking": ("distance",)}
    assert not ranker.searches
    assert searcher.needs_rows == {}
    assert searcher.searches
    row = LONGER.row(2, named=True)
    for candidates in (None, row["video"], rows_of(row, ["video", "price"])):
        with pytest.raises(SchemaError, match=r"with distance, .* stage 'ranking' reads"):
            ranker.rank(request_of(row), candidates)


@pytest.mark.parametrize("candidates", [[], {"video": []}])
def test_no_candidates_give_an_empty_list(searcher, candidates):
    answer = searcher.rank(request_of(LONGER.row(0, named=True)), candidates, trace=True)
    assert answer.ids == []
    assert [stage.came for stage in answer.stages] == [0, 0, 0]


def test_quotas_are_those_of_the_request(searcher):
    request = request_of(LONGER.row(3, named=True))
    answer = searcher.rank(request, quotas={"preranking": 4})
    assert [stage.left for stage in answer.stages] == [8, 4, 3]
    assert [s.left for s in searcher.rank(request, quotas=[20, 10, 5]).stages] == [20, 10, 5]
    with pytest.raises(ConfigError, match=r"no stage called 'rankin' \(did you mean 'ranking'"):
        searcher.rank(request, quotas={"rankin": 4})
    with pytest.raises(ConfigError, match="quotas must be positive and never grow"):
        searcher.rank(request, quotas=[5, 6, 1])


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        (Filters(items=[100, 103, 4]), lambda item: item["video"] not in (100, 103)),
        (
            Filters(where=[Condition("price", ">", 2.0)]),
            lambda item: item["price"] is None or item["price"] <= 2,
        ),
        (Filters(where=[Condition("shop", "in", ["s1", "s2"])]), lambda item: item["shop"] not in ("s1", "s2")),
        (Filters(where=[Condition("genres", "has", "film")]), lambda item: "film" not in item["genres"]),
        (
            Filters(items=[100], where=[Condition("shop", "=", "s1"), Condition("weight", "<", 2)]),
            lambda item: item["video"] != 100 and item["shop"] != "s1" and item["weight"] >= 2,
        ),
    ],
)  # fmt: skip
def test_filters_leave_items_out_before_the_first_quota(searcher, filters, left):
    request = request_of(LONGER.row(3, named=True))
    kept = [item["video"] for item in market_items().iter_rows(named=True) if left(item)]
    answer = searcher.rank(request, filters=filters, trace=True)
    plain = searcher.rank(request, kept)
    assert (answer.ids, answer.filtered) == (plain.ids, 30 - len(kept))
    assert answer.stages[0].came == len(kept)
    out = [k for k, cut in zip(answer.trace.keys, answer.trace.cut_by, strict=True) if cut == "filters"]  # fmt: skip
    assert sorted([*out, *kept]) == sorted(answer.trace.keys)
    some = searcher.rank(request, market_items()["video"].to_list()[::-1], filters=filters)
    assert some.ids == searcher.rank(request, kept[::-1]).ids


def test_filters_read_the_features_of_rows(ranker):
    row = LONGER.row(11, named=True)
    near = Filters(where=[Condition("distance", ">", 0)])
    answer = ranker.rank(request_of(row), rows_of(row, ["video", "distance"]), filters=near)
    assert answer.filtered == sum(d > 0 for d in row["distance"])


@pytest.mark.parametrize("value", [[], [1]])
def test_a_filter_on_values_of_several_types_is_refused(searcher, value):
    rows = {"video": [100, 103], "prize": [[1], 1]}
    filters = Filters(where=[Condition("prize", "in", value)])
    with pytest.raises(ConfigError, match=r"values of one type .* found several types"):
        searcher.rank(request_of(LONGER.row(3, named=True)), rows, filters=filters)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (lambda: Condition("price", "~", 1), "operator must be one of =, !="),
        (lambda: Condition("shop", "in", "s1"), "'in' needs a list of values"),
        (lambda: Condition("prize", "<", 1), r"no feature 'prize' \(did you mean 'price'"),
        (
            lambda: Condition("shop", "<", 1),
            "'shop' <: expected a value to compare values of type String with, found 1",
        ),
        (
            lambda: Condition("price", "has", 1),
            "'price' has: expected a value to compare values of type Float64 with, found 1",
        ),
    ],
)
def test_wrong_conditions_are_named(searcher, condition, message):
    request = request_of(LONGER.row(3, named=True))
    with pytest.raises(ConfigError, match=message):
        searcher.rank(request, filters=Filters(where=[condition()]))


def test_a_trace_states_the_stage_that_cut(searcher):
    answer = searcher.rank(request_of(LONGER.row(3, named=True)), trace=True)
    trace = answer.trace
    assert [trace.of(key)["cut_by"] for key in answer.ids] == [None] * 3
    lost = trace.keys[trace.ranks["retrieval"].tolist().index(9)]
    assert trace.of(lost)["cut_by"] == "retrieval"
    assert trace.of(lost)["stages"]["retrieval"]["rank"] == 9
    assert list(trace.of(lost)["stages"]) == ["retrieval"]
    assert trace.of("none") is None
    cuts = [trace.cut_by.count(name) for name in (*STAGES, None)]
    assert cuts == [22, 2, 3, 3]
    assert answer.to_json()["trace"]["scores"]["ranking"].count(None) == 24


def test_a_stage_that_would_miss_the_deadline_is_left_out(searching_bundle):
    ranker = Ranker.load(searching_bundle)
    request = request_of(LONGER.row(3, named=True))
    assert not ranker.rank(request, deadline_ms=10_000).degraded
    ranker.plans[1].pace.took(1e9, 8)
    answer = ranker.rank(request, deadline_ms=10_000, trace=True)
    assert answer.degraded == ("preranking",)
    assert [stage.skipped for stage in answer.stages] == [False, True, False]
    assert [stage.left for stage in answer.stages] == [8, 6, 3]
    retrieval = answer.trace.ranks["retrieval"]
    assert answer.trace.kept["preranking"].tolist() == ((retrieval > 0) & (retrieval <= 6)).tolist()
    ranker.plans[2].pace.took(1e9, 6)
    answer = ranker.rank(request, deadline_ms=10_000, trace=True)
    assert answer.degraded == ("preranking", "ranking")
    first = np.argsort(-answer.trace.scores["retrieval"], kind="stable")[:3]
    assert answer.ids == [answer.trace.keys[i] for i in first]
    assert not ranker.rank(request).degraded
    tries = [ranker.rank(request, deadline_ms=10_000).degraded for _ in range(300)]
    assert tries[0]
    assert not tries[-1], "a stage that was left out is tried again"


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf"), "5"])
def test_a_deadline_is_a_positive_number(searcher, deadline):
    with pytest.raises(ConfigError, match="deadline_ms must be a positive number"):
        searcher.rank(request_of(LONGER.row(3, named=True)), deadline_ms=deadline)


def test_threads_share_a_ranker(searcher):
    requests = [request_of(row) for row in LONGER.head(64).iter_rows(named=True)]
    expected = [(a.ids, a.scores) for a in searcher.rank_many(requests)]
    with ThreadPoolExecutor(8) as pool:
        found = [(a.ids, a.scores) for a in pool.map(searcher.rank, requests * 4)]
    assert found == expected * 4


def test_loading_and_ranking_leave_global_state_alone(searching_bundle):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    ranker = Ranker.load(searching_bundle)
    ranker.rank(request_of(LONGER.row(3, named=True)))
    assert torch.equal(torch.rand(3), expected)
    assert not torch.is_inference_mode_enabled()


def test_many_requests_have_their_own_candidates(searcher):
    rows = list(LONGER.head(3).iter_rows(named=True))
    requests, lists = [request_of(row) for row in rows], [row["video"] for row in rows]
    answers = searcher.rank_many(requests, lists, top=1)
    pairs = zip(requests, lists, strict=True)
    assert [a.ids for a in answers] == [searcher.rank(r, c, top=1).ids for r, c in pairs]
    with pytest.raises(DataError, match="found 2 for 3 requests"):
        searcher.rank_many(requests, lists[:2])


def test_memory_is_reported(ranker, searcher):
    assert ranker.memory["parts/retrieval"] == 30 * 4 * 4
    assert "parts/ranking" not in ranker.memory
    assert searcher.memory["parts/ranking"] == 30 * (2 * 6 + 8) * 4  # two histories, and the head


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ("100", "expected candidates as a list"),
        (7, "expected candidates as a list"),
        ([100, {"video": 103}], "all keys or all rows"),
        ({"video": [100, 103], "price": [1.0]}, "lists of one length"),
        ({"price": [1.0]}, "no video, shop, .*, and no 'video' to look them up by"),
        ({"video": 3}, "expected a list for 'video'"),
    ],
)
def test_wrong_candidates_are_named(searcher, candidates, message):
    with pytest.raises(DataError, match=message):
        searcher.rank(request_of(LONGER.row(3, named=True)), candidates)


class Prices:
    """A source of prices and distances."""

    def __init__(self, *features, fails=False):
        self.features, self.fails, self.calls = features, fails, []

    def values(self, request, keys, features):
        if self.fails:
            raise ConnectionError("gone")
        self.calls.append((request["request"], list(keys), tuple(features)))
        return {name: [len(str(key)) + key / 100 for key in keys] for name in features}


def test_a_source_provides_features_of_the_candidates_left(bundle, market_run):
    source = Prices("price", "distance")
    ranker = Ranker.load(bundle, source=source)
    assert ranker.needs_rows == {}
    row = LONGER.row(11, named=True)
    row["price"] = row["distance"] = [3 + key / 100 for key in row["video"]]
    answer = ranker.rank({**request_of(row), "request": 7}, row["video"], trace=True)
    check(answer, load_run(market_run).score(pl.DataFrame([row], schema_overrides=LONGER.schema)), 0)  # fmt: skip
    assert [features for _, _, features in source.calls] == [("price",)] * 2 + [("price", "distance")]  # fmt: skip
    assert [len(keys) for _, keys, _ in source.calls] == [s.came for s in answer.stages]
    assert {request for request, _, _ in source.calls} == {7}


def test_the_catalogue_replaces_a_source_that_does_not_answer(searching_bundle, searcher, bundle):
    ranker = Ranker.load(searching_bundle, source=Prices("price", fails=True))
    request = request_of(LONGER.row(3, named=True))
    answer = ranker.rank(request)
    assert answer.stale == ("price",)
    assert answer.ids == searcher.rank(request).ids
    with pytest.raises(DataError, match="the source of distance did not answer"):
        Ranker.load(bundle, source=Prices("distance", fails=True)).rank(request, [100, 103])
    with pytest.raises(ConfigError, match="provides discount, which no stage reads"):
        Ranker.load(bundle, source=Prices("discount"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_requests_are_ranked_as_by_training(bundle, market_run):
    """With unknown ids, missing numbers, empty histories and lists of one candidate."""
    frame, run, ranker = market_frame(10_000), load_run(market_run), Ranker.load(bundle)
    for start in range(0, frame.height, 1000):
        block = frame[start : start + 1000]
        scored = run.score(block)
        for number, row in enumerate(block.iter_rows(named=True)):
            # By keys and, every other request, by all raw features.
            names = ["video", *ALONE[1 if number % 2 else len(ALONE) :], "distance"]
            check(ranker.rank(request_of(row), rows_of(row, names), trace=True), scored, number)
