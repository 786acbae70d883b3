"""A loaded run scores frames of raw columns as evaluation scores a log."""

import re

import numpy as np
import polars as pl
import pytest
import torch

from cascaderank.errors import ConfigError, DataError, SchemaError
from cascaderank.runs.frames import request_rows
from cascaderank.runs.load import load_run
from cascaderank.runs.score_run import score_run
from cascaderank.schema import Feature, FittedSchema, Schema
from tests.data.shops import SCHEMA, shop_frame, write_shop
from tests.runs.conftest import STAGES, untrained

SCORES = [f"score/{name}" for name in STAGES]
RESULTS = [*SCORES, *(f"alive/{name}" for name in STAGES), "rank", "stage_reached"]
ITEMS = ["video", "price"]
NEEDED = ["request_id", "user", "hour", "video", "price", "watched", "seconds"]


@pytest.fixture
def requests():
    """One row per request, only the columns that stages read."""
    return shop_frame(40).select(NEEDED)


@pytest.fixture
def candidates(requests):
    """One row per candidate."""
    return requests.explode(ITEMS)


def test_scores_are_those_of_the_log(run, shop_run, shop, tmp_path, requests):
    score_run(shop_run, shop.path, to=tmp_path / "s.parquet", part="all")
    of_log = pl.read_parquet(tmp_path / "s.parquet")
    of_frame = run.score(requests).explode(RESULTS)
    for name in SCORES:
        np.testing.assert_allclose(of_frame[name], of_log[name], atol=1e-6)
    assert of_frame["rank"].equals(of_log["rank"])
    assert of_frame["stage_reached"].equals(of_log["stage_reached"])
    assert of_frame.schema["rank"] == pl.Int32


def test_both_layouts_have_the_same_scores(run, requests, candidates):
    rows = run.score(candidates)
    assert rows.columns == [*candidates.columns, *RESULTS]
    assert rows.select(candidates.columns).equals(candidates)
    lists = run.score(requests)
    assert lists.select(requests.columns).equals(requests)
    assert lists.explode(RESULTS).select(RESULTS).equals(rows.select(RESULTS))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_rows_and_lists_does_not_matter(run, requests, candidates, seed):
    places = np.random.default_rng(seed).permutation(candidates.height)
    shuffled = run.score(candidates[places])
    expected = run.score(candidates)[places]
    for name in SCORES:
        np.testing.assert_allclose(shuffled[name], expected[name], atol=1e-6)
    assert shuffled.drop(SCORES).equals(expected.drop(SCORES))
    reversed_lists = run.score(requests.with_columns(pl.col(ITEMS).list.reverse()))
    back = reversed_lists.with_columns(pl.col(*ITEMS, *RESULTS).list.reverse())
    assert back["rank"].equals(run.score(requests)["rank"])


def test_the_cascade_is_that_of_the_run(run, requests):
    for row in run.score(requests).iter_rows(named=True):
        scores = torch.tensor([row[name] for name in SCORES])[:, None]
        alive = run.cascade.select(scores)[:, 0].tolist()
        assert [row[f"alive/{name}"] for name in STAGES] == alive
        assert row["rank"] == [1 if kept else None for kept in alive[-1]]


def test_columns_that_stages_do_not_read_are_ignored(run):
    whole = shop_frame(9)
    expected = run.score(whole.select(NEEDED)).select(RESULTS)
    extra = whole.with_columns(title=pl.lit("x"), pages=[["a", "b"]] * 9)
    assert run.score(extra).select(RESULTS).equals(expected)
    assert run.score(whole.select(NEEDED).drop("request_id")).select(RESULTS).equals(expected)
    assert run.score(run.score(extra)).equals(run.score(extra)), "scores are replaced"


def test_new_categories_are_out_of_vocabulary(run, requests):
    new = [
        run.score(requests.with_columns(user=pl.lit(user), video=pl.col("video").list.eval(offset)))
        for user, offset in (("new", pl.element() + 9000), ("newer", pl.element() + 8000))
    ]
    assert new[0].select(RESULTS).equals(new[1].select(RESULTS))
    assert not new[0].select(SCORES).equals(run.score(requests).select(SCORES))


# The final list.


def test_rank_returns_the_final_lists_in_order(shop, tmp_path, requests, candidates):
    stages = {name: {**stage, "quota": 3} for name, stage in STAGES.items()}
    run = load_run(untrained(tmp_path / "run", shop, stages))
    places = np.random.default_rng(3).permutation(candidates.height)
    scored = run.score(candidates[places])
    expected = pl.concat(
        rows.sort("score/ranking", descending=True)
        for _, rows in scored.group_by("request_id", maintain_order=True)
    )
    assert run.rank(candidates[places]).equals(expected)
    top = run.rank(candidates[places], top=2)
    assert top.equals(expected.filter(pl.col("rank") <= 2))
    of_lists = run.rank(requests.with_columns(title=pl.col("video")))
    assert of_lists.columns == [*requests.columns, "title", *RESULTS]
    assert of_lists["title"].equals(of_lists["video"], check_names=False)
    in_order = run.rank(candidates)
    assert of_lists.drop("title").equals(in_order.select(of_lists.drop("title").columns))
    assert of_lists["watched"].dtype == pl.List(pl.Int64), "histories stay lists"


def test_what_a_stage_cut_is_not_in_the_final_list(run, candidates):
    final = run.rank(candidates)
    assert final["rank"].to_list() == [1] * 40, "the last quota is 1"
    assert final["request_id"].to_list() == candidates["request_id"].unique().sort().to_list()
    assert final["alive/ranking"].all()


def test_requests_without_an_id_are_numbered(run, requests):
    final = run.rank(requests.drop("request_id"))
    assert final["request_id"].to_list() == list(range(40))


@pytest.mark.parametrize("top", [0, -1, 1.5, True])
def test_top_is_a_positive_integer(run, requests, top):
    with pytest.raises(ConfigError, match="top must be a positive integer"):
        run.rank(requests, top=top)


def test_of_equal_scores_the_earlier_candidate_wins(run):
    copies = shop_frame(1).select(NEEDED).explode(ITEMS)
    final = run.rank(pl.concat([copies] * 3).with_columns(copy=pl.Series([0, 1, 2])))
    assert final["copy"].to_list() == [0]


# Frames of other kinds.


class WithArrow:
    """A frame with the Arrow interface alone."""

    def __init__(self, frame):
        self.frame = frame

    def __arrow_c_stream__(self, requested_schema=None):
        return self.frame.__arrow_c_stream__(requested_schema)


def test_arrow_tables_are_returned_as_arrow_tables(run, requests, candidates):
    for frame in (requests, candidates):
        table = run.score(frame.to_arrow())
        assert type(table).__name__ == "Table"
        assert pl.DataFrame(table).equals(run.score(frame))
        assert pl.DataFrame(run.rank(frame.to_arrow())).equals(run.rank(frame))
        assert run.score(WithArrow(frame)).equals(run.score(frame)), "any other becomes polars"


def test_pandas_frames_are_returned_as_pandas_frames(run, candidates, requests):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(candidates.to_dicts(), index=range(100, 100 + candidates.height))
    scored = run.score(frame)
    assert isinstance(scored, pandas.DataFrame)
    assert scored.index.equals(frame.index)
    expected = run.score(candidates)
    for name in SCORES:
        np.testing.assert_allclose(scored[name], expected[name], atol=1e-6)
    assert run.rank(frame)["rank"].tolist() == run.rank(candidates)["rank"].to_list()
    lists = run.score(pandas.DataFrame(requests.to_dicts()))
    assert [list(x) for x in lists["score/ranking"]] == expected.group_by(
        "request_id", maintain_order=True
    ).agg("score/ranking")["score/ranking"].to_list()


def test_missing_values_of_pandas_are_missing_values(run, requests, candidates):
    as_pandas = candidates.with_columns(
        pl.col("price").fill_null(float("nan")), pl.col("video").cast(pl.Float64)
    )
    assert run.score(as_pandas).select(RESULTS).equals(run.score(candidates).select(RESULTS))
    lists = requests.with_columns(pl.col("price").list.eval(pl.element().fill_null(float("nan"))))
    assert run.score(lists).select(RESULTS).equals(run.score(requests).select(RESULTS))
    empty = requests.with_columns(watched=pl.lit([], dtype=pl.List(pl.Int64)), seconds=pl.lit([]))
    null = requests.with_columns(
        watched=pl.lit(None, dtype=pl.List(pl.Int64)),
        seconds=pl.lit(None, dtype=pl.List(pl.Float64)),
    )
    empty = empty.with_columns(pl.col("seconds").cast(pl.List(pl.Float64)))
    assert run.score(null).select(RESULTS).equals(run.score(empty).select(RESULTS))


def test_frames_without_rows_or_candidates(run, requests, candidates):
    assert run.score(requests[:0]).columns == [*requests.columns, *RESULTS]
    assert run.score(candidates[:0]).height == run.rank(candidates[:0]).height == 0
    some = requests.with_columns(
        pl.when(pl.col("request_id") == "r0002").then([]).otherwise(pl.col(c)).alias(c)
        for c in ITEMS
    )
    scored = run.score(some)
    assert scored["rank"].list.len().to_list() == some["video"].list.len().to_list()
    assert "r0002" not in run.rank(some)["request_id"]


def test_modules_in_training_mode_are_restored(run, requests):
    expected = run.score(requests)
    run.cascade.train()
    assert run.score(requests).equals(expected), "no dropout"
    assert all(module.training for module in run.cascade.modules())


# Mistakes.


@pytest.mark.parametrize("layout", ["requests", "candidates"])
def test_a_missing_feature_is_named_with_its_stages(run, layout, request):
    frame = request.getfixturevalue(layout)
    with pytest.raises(
        SchemaError, match=r"no 'price' \(read by ranking\) \(did you mean 'prices'\?\); found requ"
    ):
        run.score(frame.rename({"price": "prices"}))
    with pytest.raises(SchemaError, match=r"'video' \(read by retrieval, ranking\)"):
        run.rank(frame.drop("video"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hour": pl.lit("noon")}, "'hour'.*number"),
        ({"user": pl.lit(3)}, "fitted to strings; found Int32"),
        ({"hour": pl.lit(float("nan"))}, "NaN"),
        ({"watched": pl.lit(3)}, "history feature 'watched' must be a list"),
        ({"price": pl.lit([1.0], dtype=pl.List(pl.Float64))}, "lists of unequal length"),
        ({"price": pl.lit(None, dtype=pl.List(pl.Float64))}, "'price': the lists of 40 requests"),
        ({"hour": pl.lit([1.0], dtype=pl.List(pl.Float64))}, "'hour'"),
    ],
)
def test_values_of_a_wrong_type_are_named(run, requests, change, message):
    with pytest.raises(DataError, match=message):
        run.score(requests.with_columns(**change))


def test_rows_of_candidates_have_ids_of_requests(run, candidates):
    with pytest.raises(SchemaError, match="one row per candidate needs a column 'request_id'"):
        run.score(candidates.drop("request_id"))
    null = candidates.with_columns(
        pl.when(pl.col("video") == 20).then(None).otherwise("request_id").alias("request_id")
    )
    with pytest.raises(DataError, match="request_id is null in 1 of 79 rows"):
        run.score(null)


def test_layouts_are_not_mixed(run, requests):
    with pytest.raises(SchemaError, match="'price' has one value per row, but 'video' has a list"):
        run.score(requests.with_columns(price=pl.lit(1.0)))


def test_rows_of_a_request_agree(run, candidates):
    with pytest.raises(DataError, match=r"feature 'hour': .* in 26 requests, first 'r0001'"):
        run.score(candidates.with_columns(hour=pl.int_range(0, pl.len()).cast(pl.Float64)))


@pytest.mark.parametrize("frame", [{"video": [[1]]}, [1], None, pl.Series([1]), pl.LazyFrame()])
def test_other_types_are_refused(run, frame):
    with pytest.raises(DataError, match="expected a polars frame, a pandas frame"):
        run.score(frame)


def test_features_with_several_values_are_read_in_both_layouts(tmp_path):
    tags = Feature(name="tags", role="item", kind="categorical", multiple=True)
    frame = shop_frame(12).with_columns(
        pl.col("video").list.eval(pl.concat_list(pl.element() % 3, pl.element() % 5)).alias("tags")
    )
    schema = Schema(features=(*SCHEMA.features, tags))
    log = write_shop(tmp_path / "log", [frame], schema=schema)
    stages = {"only": {"model": "two_tower", "quota": 1, "features": ["user", "tags"]}}
    run = load_run(untrained(tmp_path / "run", log, stages))
    lists, rows = frame.select("request_id", "user", "tags"), ["score/only", "rank"]
    of_lists, of_rows = run.score(lists), run.score(lists.explode("tags"))
    assert of_lists["score/only"].explode().n_unique() > 4
    assert of_lists.explode(rows).select(rows).equals(of_rows.select(rows))
    score_run(tmp_path / "run", log.path, to=tmp_path / "s.parquet", part="all")
    scores = pl.read_parquet(tmp_path / "s.parquet")["score/only"]
    np.testing.assert_allclose(of_rows["score/only"], scores, atol=1e-6)
    with pytest.raises(ConfigError, match="choose one with --item"):
        score_run(tmp_path / "run", log.path, vectors=tmp_path / "v")
    score_run(tmp_path / "run", log.path, vectors=tmp_path / "v", item="video")
    assert len(np.load(tmp_path / "v" / "items.npy")) == frame["video"].explode().n_unique()


def test_features_with_the_names_of_results_are_refused(run, candidates, monkeypatch):
    monkeypatch.setattr("cascaderank.runs.score_frame.result_columns", lambda _: ["price", "rank"])
    with pytest.raises(SchemaError, match="features have the names of results: price, which"):
        run.score(candidates)


def test_a_pandas_frame_that_cannot_be_read_is_refused_with_the_column(run):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"request_id": [1, 1], "user": ["a", 5], "video": [1, 2]})
    with pytest.raises(DataError, match=r"column 'user': expected values of one type .* int, str"):
        run.score(frame)
    twice = pandas.concat([frame[["video"]], frame], axis=1)
    with pytest.raises(DataError, match="several columns called video"):
        run.rank(twice)


def test_copies_in_final_lists_are_counted_if_items_have_an_identity(shop, tmp_path, candidates):
    stages = {name: {**stage, "quota": 9} for name, stage in STAGES.items()}
    run = load_run(untrained(tmp_path / "run", shop, stages))
    plain = run.rank(candidates)
    keyed = candidates.with_columns(item_key=pl.col("video"))
    assert run.rank(keyed).height == plain.height
    with pytest.warns(UserWarning, match="2 candidates of final lists repeat another .*'item_key'"):
        copied = run.rank(pl.concat([keyed, keyed[:2]]))
    assert copied.height == plain.height + 2


@pytest.mark.parametrize("name", ["owner", "owner_", "place", "differs 0"])
def test_other_columns_may_have_any_name(run, requests, candidates, name):
    for frame in (requests, candidates):
        more = frame.with_columns(pl.lit(7).alias(name))
        assert run.score(more).drop(name).equals(run.score(frame))
        assert run.rank(more).drop(name).equals(run.rank(frame))
        assert set(run.rank(more)[name]) == {7}


@pytest.mark.parametrize("name", ["*", "^v.*$"])
def test_columns_with_names_that_are_patterns_are_refused(run, requests, name):
    frame = requests.with_columns(pl.Series(name, [[0.5]] * requests.height))
    for method in (run.score, run.rank):
        with pytest.raises(DataError, match=rf"in Polars: {re.escape(name)}; rename"):
            method(frame)
        with pytest.raises(DataError, match=rf"in Polars: {re.escape(name)}; rename"):
            method(frame.to_arrow())


def test_features_may_have_the_names_of_helper_columns():
    names = ["place", "differs 0", "place_"]
    features = [Feature(name=n, role="request", kind="numeric") for n in names]
    schema = FittedSchema(
        features=[*features, Feature(name="price", role="item", kind="numeric")],
    )
    frame = pl.DataFrame(
        {"request_id": [1, 1], **{n: [2.0, 2.0] for n in names}, "price": [3.0, 4.0]}
    )
    rows = request_rows(frame, schema, {})
    assert rows.frame.to_dicts() == [
        {"request_id": 1, **dict.fromkeys(names, 2.0), "price": [3.0, 4.0]}
    ]
    with pytest.raises(DataError, match="feature 'differs 0': expected one value per request"):
        request_rows(frame.with_columns(pl.Series("differs 0", [1.0, 2.0])), schema, {})
