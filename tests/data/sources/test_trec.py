"""TREC runs and judgments: pools, features of systems and labels, against plain Python."""

import gzip

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.errors import DataError
from cascaderank.schema import Kind, Role, Transform

BM25 = "q1 Q0 d2 1 9.5 x\nq1 Q0 d1 2 8.0 x\nq2 Q0 d9 1 3.5 x\n"
DENSE = "q1 Q0 d3 1 0.9 y\nq1 Q0 d2 2 0.8 y\n"
QRELS = "q1 0 d1 0\nq1 0 d3 2\nq1 0 d77 3\nq2 0 d9 1\n"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "trec"
    path.mkdir()
    (path / "bm25.test.run").write_text(BM25)
    (path / "dense.run.gz").write_bytes(gzip.compress(DENSE.encode()))
    (path / "qrels.test.txt").write_text(QRELS)
    return path


def read(tmp_path, *paths, **options):
    SOURCES["trec"](paths, tmp_path / "log", **options)
    return pl.concat(RequestLog.open(tmp_path / "log").frames())


def notes(tmp_path):
    return RequestLog.open(tmp_path / "log").manifest.extra["notes"]


def test_the_pool_of_a_query_is_what_any_system_found(folder, tmp_path):
    frame = read(tmp_path, folder)
    assert frame["request_id"].to_list() == ["q1", "q2"]
    assert frame.columns == [
        "request_id", "bm25_score", "bm25_rr", "dense_score", "dense_rr", "label",
        "item_key",
    ]  # fmt: skip
    one = frame.row(0, named=True)  # documents d1, d2, d3
    assert one["bm25_score"] == [8.0, 9.5, None]
    assert one["bm25_rr"] == [1 / 2, 1 / 1, 0.0]
    assert one["dense_score"] == pytest.approx([None, 0.8, 0.9])
    assert one["dense_rr"] == [0.0, 1 / 2, 1 / 1]
    assert one["label"] == [0.0, 0.0, 2.0]
    assert one["item_key"] == ["d1", "d2", "d3"]
    assert frame["dense_score"][1].to_list() == [None]


def test_scores_may_be_missing_and_reciprocal_ranks_may_not(folder, tmp_path):
    read(tmp_path, folder, transform=Transform.LOG1P)
    schema = RequestLog.open(tmp_path / "log").schema
    assert {(f.role, f.kind) for f in schema.features} == {(Role.ITEM, Kind.NUMERIC)}
    assert (schema["dense_score"].missing, schema["dense_rr"].missing) == (True, False)
    assert (schema["dense_score"].transform, schema["dense_rr"].transform) == ("log1p", "none")


def test_what_is_not_judged_not_retrieved_or_not_run_is_counted(folder, tmp_path):
    (folder / "dense.more.run").write_text("q3 Q0 d1 1 0.5 y\n")
    with (folder / "qrels.test.txt").open("a") as file:
        file.write("q4 0 d1 1\n")
    read(tmp_path, folder)
    assert notes(tmp_path) == {
        "systems": ["bm25", "dense"],
        "queries_without_run": 1,
        "queries_without_judgment": 1,
        "skipped_queries": "1 without any judgment: q3; keep them by judged_only=false",
        "positive_not_retrieved": 1,
        "candidates_unjudged": 1,
        "lists_where_rank_and_score_disagree": 0,
    }


def test_runs_of_one_system_over_several_query_sets_are_united(folder, tmp_path):
    (folder / "dense.second.run").write_text("q2 Q0 d8 1 0.5 y\n")
    frame = read(tmp_path, folder)
    assert frame["dense_score"][1].to_list() == [0.5, None]
    assert frame.width == 7


def test_queries_without_judgments_stay_if_asked_for(folder, tmp_path):
    (folder / "dense.more.run").write_text("q3 Q0 d1 1 0.5 y\n")
    frame = read(tmp_path, folder, judged_only=False)
    assert frame["request_id"].to_list() == ["q1", "q2", "q3"]
    assert frame["label"][2].to_list() == [0.0]


@pytest.mark.parametrize(
    ("unjudged", "labels"), [(0.0, [0.0, 0.0, 2.0]), (0.5, [0.0, 0.5, 2.0]), ("drop", [0.0, 2.0])]
)
def test_unjudged_candidates_get_the_label_that_was_asked_for(folder, tmp_path, unjudged, labels):
    frame = read(tmp_path, folder, unjudged=unjudged)
    assert frame["label"][0].to_list() == labels
    assert notes(tmp_path)["candidates_unjudged"] == 1


@pytest.mark.parametrize(("order", "places"), [("score", [2, 3, 1, 4]), ("rank", [4, 1, 3, 2])])
def test_the_place_of_a_document_is_by_score_unless_ranks_are_trusted(
    tmp_path, folder, order, places
):
    # d1 and d2 tie by score: the better rank goes first.
    (folder / "bm25.test.run").write_text(
        "q1 Q0 d1 4 5 x\nq1 Q0 d2 1 5 x\nq1 Q0 d3 3 7 x\nq1 Q0 d4 2 1 x\n"
    )
    places = {"score": [3, 2, 1, 4], "rank": [4, 1, 3, 2]}[order]
    frame = read(tmp_path, folder, order=order)
    assert frame["bm25_rr"][0].to_list() == pytest.approx([1 / p for p in places])
    assert notes(tmp_path)["lists_where_rank_and_score_disagree"] == 1


def test_ties_of_score_and_rank_go_by_document(folder, tmp_path):
    (folder / "bm25.test.run").write_text("q1 Q0 d2 1 5 x\nq1 Q0 d1 1 5 x\n")
    frame = read(tmp_path, folder)
    assert frame["bm25_rr"][0].to_list() == [1.0, 0.5, 0.0]


def test_negative_grades_are_refused_or_zero(folder, tmp_path):
    (folder / "qrels.test.txt").write_text(QRELS + "q1 0 d2 -2\n")
    with pytest.raises(DataError, match=r"found 1 below 0.*negative_grades='zero'"):
        read(tmp_path, folder)
    frame = read(tmp_path, folder, negative_grades="zero")
    assert frame["label"][0].to_list() == [0.0, 0.0, 2.0]
    assert notes(tmp_path)["candidates_unjudged"] == 0


def archive(folder, **runs):
    """A folder as TREC's archive has it: a run is input.TAG.gz."""
    for tag, text in runs.items():
        (folder / f"input.{tag}.gz").write_bytes(gzip.compress(text.encode()))
    for old in (folder / "bm25.test.run", folder / "dense.run.gz"):
        old.unlink(missing_ok=True)
    return folder


def test_runs_of_an_archive_are_named_by_their_tags(folder, tmp_path):
    read(tmp_path, archive(folder, a=BM25, b=DENSE))
    assert notes(tmp_path)["systems"] == notes(tmp_path)["named_by_tag"] == ["x", "y"]


def test_files_of_one_name_that_share_a_query_are_named_by_their_tags(folder, tmp_path):
    (folder / "dense.second.run").write_text("q1 Q0 d8 1 0.5 z\n")
    frame = read(tmp_path, folder)
    assert notes(tmp_path)["systems"] == ["bm25", "y", "z"]
    assert frame["z_score"][0].to_list() == [None, None, None, 0.5]


def test_names_are_tags_or_files_if_asked_for(folder, tmp_path):
    (folder / "sparse").write_text("q1 Q0 d1 1 0.5 z\nq1 Q0 d2 2 0.5 w\n")
    read(tmp_path, folder, names="tag")
    assert notes(tmp_path)["systems"] == ["x", "y", "sparse"]  # a file with two tags has no tag
    assert notes(tmp_path)["several_tags_in"] == [str(folder / "sparse")]
    read(tmp_path, archive(folder, a=BM25, b=DENSE), names="file", overwrite=True)
    assert notes(tmp_path)["systems"] == ["a", "b", "sparse"]  # the part of input.NAME.gz


def test_files_that_all_have_one_tag_are_named_by_the_file(folder, tmp_path):
    files = archive(folder, a=BM25.replace(" x\n", " rank\n"), b=DENSE.replace(" y\n", " rank\n"))
    read(tmp_path, files)
    assert notes(tmp_path)["systems"] == ["a", "b"]
    with pytest.raises(
        DataError, match=r"once per system \(both are 'rank'\), or set names='file'"
    ):
        read(tmp_path, files, names="tag", overwrite=True)


def test_any_file_name_is_read_and_what_is_skipped_is_named_with_the_reason(folder, tmp_path):
    (folder / "judgments").write_text("q9 0 d1 1\n")  # without suffix
    (folder / "README.md").write_text("Runs of the track\n")
    (folder / "runs.zip").write_bytes(b"PK\x03\x04\xff\xfe")
    (folder / "empty.log").touch()
    (folder / ".hidden").write_text("q1")
    (folder / "more").mkdir()
    read(tmp_path, folder)
    assert notes(tmp_path)["queries_without_run"] == 1
    assert notes(tmp_path)["skipped_files"] == {
        str(folder / "README.md"): "neither run nor qrels: 'Runs of the track'",
        str(folder / "empty.log"): "empty",
        str(folder / "more"): "a folder inside the folder; give it with --from, too",
        str(folder / "runs.zip"): "not text",
    }


def test_a_folder_without_any_run_is_refused_with_what_it_has(tmp_path):
    (tmp_path / "README").write_text("nothing here\n")
    with pytest.raises(DataError, match="expected runs and qrels in this folder, found README: "):
        read(tmp_path, tmp_path)


def test_depth_is_the_number_of_best_documents_of_each_system_and_query(folder, tmp_path):
    frame = read(tmp_path, folder, depth=1)
    assert frame["item_key"].to_list() == [["d2", "d3"], ["d9"]]
    assert frame["bm25_rr"].to_list() == [[1.0, 0.0], [1.0]]
    assert frame["dense_score"][0].to_list() == pytest.approx([None, 0.9])
    assert notes(tmp_path)["lines_beyond_depth"] == 2


@pytest.mark.parametrize(
    ("normalise", "bm25", "dense"),
    [
        ("none", [8.0, 9.5, None, 2.0], [None, 0.8, 0.9, None]),
        ("min_max", [6 / 7.5, 1.0, None, 0.0], [None, 0.0, 1.0, None]),
        ("z_score", [1.5, 3.0, None, -4.5], [None, -1.0, 1.0, None]),  # bm25: by deviation, below
    ],
)
def test_scores_are_normalised_by_system_and_query(folder, tmp_path, normalise, bm25, dense):
    (folder / "bm25.test.run").write_text(BM25 + "q1 Q0 d4 3 2.0 x\n")
    frame = read(tmp_path, folder, normalise=normalise)
    if normalise == "z_score":
        deviation = (sum(x**2 for x in (1.5, 3.0, -4.5)) / 3) ** 0.5
        bm25 = [x and x / deviation for x in bm25]
    assert frame["bm25_score"][0].to_list() == pytest.approx(bm25)
    assert frame["dense_score"][0].to_list() == pytest.approx(dense, abs=1e-5)
    only = 3.5 if normalise == "none" else 0.0  # the one candidate of its query
    assert frame["bm25_score"][1].to_list() == [only]


def test_the_log_suggests_labels_as_the_target(folder, tmp_path):
    read(tmp_path, folder)
    manifest = RequestLog.open(tmp_path / "log").manifest
    assert manifest.extra["suggested"] == {"target": "label"}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("bm25.test.run", BM25 + "q2 Q0 d1 2 1.0\n", "line 4: expected 'query Q0 document rank"),
        ("bm25.test.run", BM25 + "q2 Q0 d1 2 1.0 x y\n", "line 4: .*found 7 columns"),
        ("bm25.test.run", "\n# a run by an old system\n", "line 2: .*found 7 columns"),
        ("bm25.test.run", "q2 Q0 d1 2 1.0\n", "line 1: expected 'query Q0.*found 5 columns"),
        ("bm25.test.run", BM25 + "q2 Q0 d1 2 high x\n", "line 4: .*found '2' and 'high'"),
        ("bm25.test.run", BM25 + "q2 Q0 d1 2 nan x\n", "line 4: .*a finite score.*'nan'"),
        ("bm25.test.run", BM25 + "q2 Q0 d1 2 1e99 x\n", "line 4: .*a finite score.*'1e99'"),
        ("bm25.test.run", BM25 + "q2 Q0 d1 two 1 x\n", "line 4: expected an integer rank"),
        ("bm25.test.run", BM25 + "q1 Q0 d2 3 1 x\n", "line 4: document d2 occurs twice for"),
        ("bm25.test.run", "\n", "expected lines of a run or of qrels, found none"),
        ("qrels.test.txt", QRELS + "q1 0 d5 good\n", "line 5: expected a finite grade.*'good'"),
        ("qrels.test.txt", QRELS + "q1 0 d3 1\n", "line 5: document d3 occurs twice for"),
        ("qrels.test.txt", QRELS + "q1 0 1\n", "line 5: expected 'query 0 document grade'"),
        ("bm25.more.run", "q2 Q0 d4 1 1 x\n", "1 queries, such as q2, are in .*bm25"),
        ("qrels.more.txt", "q2 0 d4 1\n", "1 queries, such as q2, are in .*qrels"),
    ],
)
def test_a_wrong_file_is_refused_by_name(folder, tmp_path, name, text, told):
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=told) as error:
        read(tmp_path, folder)
    assert str(folder) in str(error.value)
    assert not (tmp_path / "log").exists()


def test_text_that_is_not_utf8_is_refused(folder, tmp_path):
    (folder / "bm25.test.run").write_bytes(BM25.encode() + b"q1 Q0 \xff\xfe 3 1 x\n")
    with pytest.raises(DataError, match="line 4: expected UTF-8"):
        read(tmp_path, folder)


def test_runs_alone_and_judgments_alone_are_refused(folder, tmp_path):
    with pytest.raises(DataError, match="expected at least one qrels file"):
        read(tmp_path, folder / "bm25.test.run")
    with pytest.raises(DataError, match="expected at least one run"):
        read(tmp_path, folder / "qrels.test.txt")


def test_judgments_of_other_queries_or_documents_are_refused(folder, tmp_path):
    (folder / "qrels.test.txt").write_text("x1 0 d1 1\n")
    with pytest.raises(
        DataError, match=r"qrels.*: expected judgments of the queries of the runs, found none"
    ):
        read(tmp_path, folder)
    (folder / "qrels.test.txt").write_text("q1 0 x1 1\n")
    with pytest.raises(DataError, match="judgments of the documents of the runs, found none"):
        read(tmp_path, folder)


@pytest.mark.parametrize("unjudged", [-1.0, float("nan")])
def test_a_label_of_the_unjudged_that_is_no_label_is_refused(folder, tmp_path, unjudged):
    with pytest.raises(DataError, match="unjudged must be a non-negative label"):
        read(tmp_path, folder, unjudged=unjudged)


@pytest.mark.data
def test_deep_learning_tracks_are_what_their_readme_says(data_folder, tmp_path):
    if not (data_folder / "trec_dl").is_dir():
        pytest.skip("no trec_dl")
    frame = read(tmp_path, data_folder / "trec_dl")
    assert frame.height == 43 + 54
    assert frame.width == 3 + 2 * 6
    assert 270 < frame["label"].list.len().mean() < 290
    # Every system found 100 documents for every query, at ranks 1 to 100.
    harmonic = sum(1 / rank for rank in range(1, 101))
    for column in frame.columns:
        if column.endswith("_rr"):
            assert frame[column].list.sum().to_list() == pytest.approx([harmonic] * 97)
        if column.endswith("_score"):
            assert (frame[column].list.drop_nulls().list.len() == 100).all()
    assert notes(tmp_path)["lists_where_rank_and_score_disagree"] == 0


@pytest.mark.data
def test_deep_learning_tracks_agree_with_a_plain_reading(data_folder, tmp_path):
    if not (data_folder / "trec_dl").is_dir():
        pytest.skip("no trec_dl")
    frame = read(tmp_path, data_folder / "trec_dl")

    def lines(name):
        with gzip.open(data_folder / "trec_dl" / name, "rt") as file:
            return [line.split() for line in file]

    query = "264014"
    found = {}
    for path in sorted((data_folder / "trec_dl").glob("*.dl19.run.gz")):
        for q, _, document, _, score, _ in lines(path.name):
            if q == query:
                found.setdefault(document, {})[path.name.partition(".")[0]] = float(score)
    grades = {d: int(g) for q, _, d, g in lines("qrels.dl19-passage.txt.gz") if q == query}
    row = frame.row(by_predicate=pl.col("request_id") == query, named=True)
    documents = sorted(found)
    assert row["label"] == [grades.get(d, 0) for d in documents]
    for system in notes(tmp_path)["systems"]:
        assert row[f"{system}_score"] == pytest.approx([found[d].get(system) for d in documents])
