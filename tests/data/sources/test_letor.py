"""LETOR files: values as scikit-learn reads them, and every mistake told with file and line."""

import gzip
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_svmlight_file

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.data.sources._letor import svmlight
from cascaderank.errors import DataError
from cascaderank.schema import Kind, Role, Transform

TWO_QUERIES = """\
2 qid:10 1:0.5 2:1.25 4:-3e-2 #docid = GX029-35-5894638 inc = 1 prob = 0.02
0 qid:10 2:7
# a comment alone

1.5 qid:q-7 3:1 # no docid
"""


@pytest.fixture
def file(tmp_path):
    def write(text, name="letor.txt"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def read(tmp_path, *paths, **options):
    SOURCES["letor"](paths, tmp_path / "log", **options)
    return pl.concat(RequestLog.open(tmp_path / "log").frames())


def matrix(frame):
    """Labels and dense values of all candidates, null as NaN."""
    names = [c for c in frame.columns if c not in ("request_id", "label", "item_key")]
    values = [frame[n].explode().cast(pl.Float32).to_numpy() for n in names]
    return frame["label"].explode().to_numpy(), np.stack(values, axis=1)


def test_a_query_becomes_a_request_and_absent_indices_are_zero(file, tmp_path):
    frame = read(tmp_path, file(TWO_QUERIES))
    assert frame.columns == ["request_id", "f1", "f2", "f3", "f4", "label"]
    assert frame["request_id"].to_list() == ["10", "q-7"]
    assert frame["label"].to_list() == [[2.0, 0.0], [1.5]]
    assert frame["f2"].to_list() == [[1.25, 7.0], [0.0]]
    assert frame["f3"].to_list() == [[0.0, 0.0], [1.0]]
    assert frame["f4"].to_list() == [[np.float32(-3e-2), 0.0], [0.0]]


def test_features_are_numbers_of_candidates_with_the_transform_that_was_asked_for(file, tmp_path):
    read(tmp_path, file(TWO_QUERIES), transform=Transform.NONE)
    schema = RequestLog.open(tmp_path / "log").schema
    assert {(f.role, f.kind, f.transform, f.missing) for f in schema.features} == {
        (Role.ITEM, Kind.NUMERIC, Transform.NONE, False)
    }


def test_more_features_may_be_declared_than_there_are(file, tmp_path):
    frame = read(tmp_path, file(TWO_QUERIES), features=6)
    assert frame["f6"].to_list() == [[0.0, 0.0], [0.0]]


def test_gzipped_files_and_folders_read_the_same(file, tmp_path):
    plain = read(tmp_path, file(TWO_QUERIES))
    folder = tmp_path / "folder"
    folder.mkdir()
    one, two = TWO_QUERIES.split("# a comment alone")
    (folder / "b.txt.gz").write_bytes(gzip.compress(two.encode()))
    (folder / "a.txt").write_text(one)
    (folder / "notes.md").write_text("not a LETOR file")
    assert read(tmp_path, folder, overwrite=True).equals(plain)


@pytest.mark.parametrize("block", [1, 2, 3, 1000])
def test_queries_stay_whole_wherever_blocks_end(file, tmp_path, monkeypatch, block):
    monkeypatch.setattr(svmlight, "_LINES_PER_BLOCK", block)
    lines = [f"{i % 3} qid:{q} 1:{q}.5 2:{i}" for q, n in enumerate([1, 4, 2, 7]) for i in range(n)]
    frame = read(tmp_path, file("\n".join(lines)))
    assert frame["request_id"].to_list() == ["0", "1", "2", "3"]
    assert [len(x) for x in frame["f1"]] == [1, 4, 2, 7]
    assert frame["f2"].to_list() == [[float(i) for i in range(n)] for n in [1, 4, 2, 7]]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.dictionaries(
            st.integers(1, 9),
            st.floats(-1e30, 1e30) | st.integers(-5, 5).map(float),
            max_size=9,
        ),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from(["{!r}", "{:.6f}", "{:.3e}"]),
)
def test_values_are_those_that_scikit_learn_reads(tmp_path_factory, rows, form):
    folder = tmp_path_factory.mktemp("letor")
    lines = [
        " ".join(
            [f"{i % 4} qid:{i // 3}", *(f"{k}:{form.format(row[k])}" for k in sorted(row)), "# x"]
        )
        for i, row in enumerate(rows)
    ]
    path = folder / "file.txt"
    path.write_text("\n".join(lines) + "\n")
    labels, values = matrix(read(folder, path, features=9))
    theirs, their_labels, qid = load_svmlight_file(
        str(path), n_features=9, query_id=True, zero_based=False
    )
    np.testing.assert_array_equal(values, theirs.toarray().astype(np.float32))
    np.testing.assert_array_equal(labels, their_labels.astype(np.float32))
    assert len(set(qid.tolist())) == RequestLog.open(folder / "log").manifest.requests


def test_unknown_numbers_are_missing_if_asked_for_and_counted(file, tmp_path):
    path = file("1 qid:1 1:nan 2:1.79769313486231570E+308\n0 qid:1 1:-inf 2:3\n")
    frame = read(tmp_path, path, missing=True)
    assert frame["f1"].to_list() == [[None, None]]
    assert frame["f2"].to_list() == [[None, 3.0]]
    log = RequestLog.open(tmp_path / "log")
    assert all(f.missing for f in log.schema.features)
    assert log.manifest.extra["notes"]["missing_values"] == 3


def keys(frame):
    return frame["item_key"].to_list()


def notes(tmp_path):
    return RequestLog.open(tmp_path / "log").manifest.extra["notes"]


@pytest.mark.parametrize("features", [None, 3])
@pytest.mark.parametrize(
    "comment",
    [
        "#docid = GX{i} inc = 1 prob = 0.02",  # LETOR 4
        "# docid=GX{i}",
        "#DOCID: GX{i}",
        "# GX{i}",  # RankLib
    ],
)
def test_document_ids_of_comments_are_kept(file, tmp_path, comment, features):
    lines = [f"{i % 2} qid:{i // 2} 1:{i} {comment.format(i=i)}\n" for i in range(4)]
    frame = read(tmp_path, file("# written by a tool\n" + "".join(lines)), features=features)
    assert keys(frame) == [["GX0", "GX1"], ["GX2", "GX3"]]
    assert frame.columns[-1] == "item_key"
    assert notes(tmp_path)["document_ids"] == "kept"


@pytest.mark.parametrize("block", [1, 1000])
def test_document_ids_stay_with_their_lines(file, tmp_path, monkeypatch, block):
    monkeypatch.setattr(svmlight, "_LINES_PER_BLOCK", block)
    path = file("".join(f"{i % 7} qid:{i // 30} 1:{i} # d{i}\n" for i in range(60)))
    frame = read(tmp_path, path, max_documents=10, min_positives=0)
    assert keys(frame) == [[f"d{x:.0f}" for x in row] for row in frame["f1"].to_list()]


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ("0 qid:7 1:2\n", "none in {path}, line 3"),
        ("0 qid:7 1:2 # two words\n", "none in {path}, line 3"),
        ("0 qid:7 1:2 # a\n", "{path}, line 3 repeats 'a'"),
    ],
)
@pytest.mark.parametrize("features", [None, 3])
def test_document_ids_that_do_not_identify_every_line_are_not_kept(
    file, tmp_path, last, why, features
):
    path = file(f"1 qid:6 1:1 # a\n1 qid:7 1:1 # a\n{last}")
    frame = read(tmp_path, path, features=features)
    assert "item_key" not in frame.columns
    assert notes(tmp_path)["document_ids"] == "not kept: " + why.format(path=path)


GROUPED = "2 1:1 2:5\n0 1:2\n# comment\n1 2:3 # c\n"
"""Lines without qid, as LightGBM and XGBoost have them."""


@pytest.mark.parametrize(("suffix", "block"), [(".query", 1000), (".group", 1), (".query", 2)])
def test_sizes_of_queries_may_be_in_a_file_beside(file, tmp_path, monkeypatch, suffix, block):
    monkeypatch.setattr(svmlight, "_LINES_PER_BLOCK", block)
    path = file(GROUPED, "rank.train")
    file("2\n1\n", f"rank.train{suffix}")
    file("5\n6\n7\n", "rank.train.init")
    frame = read(tmp_path, path)
    assert frame["request_id"].to_list() == ["rank.train-1", "rank.train-2"]
    assert frame["label"].to_list() == [[2.0, 0.0], [1.0]]
    assert frame["f1"].to_list() == [[1.0, 2.0], [0.0]]
    assert frame["init"].to_list() == [[5.0, 6.0], [7.0]]


def test_a_folder_of_lightgbm_has_parts_and_initial_scores_and_weights(file, tmp_path):
    folder = tmp_path / "lightgbm"
    folder.mkdir()
    for part, lines in {"train": GROUPED, "test": "1 1:9\n0 2:3\n1 1:1\n"}.items():
        file(lines, folder / f"rank.{part}")
        file("1\n2\n", folder / f"rank.{part}.query")
        file("0.5\n-1\n2e0\n", folder / f"rank.{part}.init")
        file("1\n1\n3\n", folder / f"rank.{part}.weight")
    frame = read(tmp_path, folder, features=2)
    log = RequestLog.open(tmp_path / "log")
    assert {p.given for p in log.manifest.parts} == {"train", "test"}
    assert frame.columns == ["request_id", "f1", "f2", "init", "label", "candidate_weight"]
    assert frame["candidate_weight"].to_list() == [[1.0], [1.0, 3.0]] * 2
    assert frame["init"].to_list() == [[0.5], [-1.0, 2.0]] * 2
    assert notes(tmp_path)["lines_with_candidate_weight"] == 6
    every = read(tmp_path, *sorted(folder.iterdir()), overwrite=True)  # such as --from folder/*
    assert every.sort("request_id").equals(frame.sort("request_id"))


def test_lines_with_qid_keep_their_queries_if_the_sizes_agree(file, tmp_path):
    path = file(TWO_QUERIES)
    file("2\n1\n", "letor.txt.query")
    assert read(tmp_path, path)["request_id"].to_list() == ["10", "q-7"]
    file("1\n2\n", "letor.txt.query")
    with pytest.raises(
        DataError, match=r"letor.txt.query: .* by qid, found another in line 1: 1 instead of 2"
    ):
        read(tmp_path, path, overwrite=True)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (".query", "2\n2\n", "query: .*sum of 3, .*train, found 2 sizes with a sum of 4"),
        (".query", "2\n", "query: .*sum of 3, .*train, found 1 sizes with a sum of 2"),
        (".query", "2\n0\n1\n", "query, value 2: expected the number of lines of a query.*found 0"),
        (".query", "1.5\n1.5\n", "query, value 1: .*found 1.5"),
        (".query", "2\nx\n", "query, line 2: expected the number of lines of a query, found 'x'"),
        (".init", "1\n2\n", "init: expected 3 initial scores, one per line of .*train, found 2"),
        (".init", "1\n2\nnan\n", "init, line 3: expected an initial score, found 'nan'"),
        (".init", "1\t2\n", "init, line 1: expected an initial score"),
        (".weight", "1\nx\n", "weight, line 2: expected a weight of at least 0, found 'x'"),
        (
            ".weight",
            "1\n-0.5\n2\n",
            "weight, line 2: expected a weight of at least 0, found '-0.5'",
        ),
        (
            ".weight",
            "1\n1\n1\n1\n",
            "weight: expected 3 weights, one per line of .*train as in "
            "LightGBM, or 2, one per query as in XGBoost, found 4; give",
        ),
        (".group", "2\n1\n", "group: expected one file with sizes, found .*query too"),
    ],
)
@pytest.mark.parametrize("features", [None, 2])
def test_a_side_file_that_does_not_fit_is_refused(file, tmp_path, name, text, told, features):
    path = file(GROUPED, "rank.train")
    file("2\n1\n", "rank.train.query")
    file(text, f"rank.train{name}")
    with pytest.raises(DataError, match=told):
        read(tmp_path, path, features=features)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("features", [None, 2])
def test_one_weight_per_query_is_the_weight_of_the_request(file, tmp_path, features):
    paths = [file("2 qid:7 1:1\n0 qid:7 2:1\n\n1 qid:8 1:1\n", "a.txt"),
             file("1 qid:9 1:1\n0 qid:9 1:2\n", "b.txt"),
             file("1 qid:10 1:1\n0 qid:10 1:2\n", "c.txt")]  # fmt: skip
    file("0.5\n3\n", "a.txt.weight")
    frame = read(tmp_path, *paths, features=features)
    assert frame["request_weight"].to_list() == [0.5, 3.0, 1.0, 1.0]
    assert "candidate_weight" not in frame.columns
    assert notes(tmp_path)["queries_with_request_weight"] == 2
    file("4\n5\n", "b.txt.weight")
    frame = read(tmp_path, *paths, features=features, overwrite=True)
    assert frame["request_weight"].to_list() == [0.5, 3.0, 1.0, 1.0]
    assert frame["candidate_weight"].to_list() == [[1.0, 1.0], [1.0], [4.0, 5.0], [1.0, 1.0]]
    assert notes(tmp_path)["queries_with_request_weight"] == 2
    assert notes(tmp_path)["lines_with_candidate_weight"] == 2


def test_documents_that_are_drawn_keep_their_weights(file, tmp_path):
    path = file("".join(f"{i % 2} qid:1 1:{i}\n" for i in range(30)))
    file("".join(f"{i}\n" for i in range(30)), "letor.txt.weight")
    frame = read(tmp_path, path, max_documents=10)
    assert frame["candidate_weight"].to_list() == frame["f1"].to_list()
    assert len(frame["f1"][0]) == 10


def test_initial_scores_of_some_files_only_are_refused(file, tmp_path):
    paths = file("1 qid:1 1:1\n", "a.txt"), file("1 qid:2 1:1\n", "b.txt")
    file("1\n", "b.txt.init")
    with pytest.raises(DataError, match=r"a.txt: expected a file with initial scores beside it"):
        read(tmp_path, *paths)


def test_a_line_with_qid_among_lines_without_is_refused(file, tmp_path):
    path = file("1 1:1\n1 qid:3 1:2\n", "rank.train")
    file("2\n", "rank.train.query")
    with pytest.raises(DataError, match="line 2: expected index:value, found 'qid:3'"):
        read(tmp_path, path)


def test_progress_ends_at_the_bytes_of_all_files(file, tmp_path):
    calls = []
    paths = [file("1 qid:1 1:2\n" * 9), file("1 qid:2 1:2\n", name="more.txt")]
    SOURCES["letor"](paths, tmp_path / "log", progress=lambda *told: calls.append(told))
    assert calls[-1] == (10 * len("1 qid:1 1:2\n"), 10 * len("1 qid:1 1:2\n"))


def test_progress_is_told_on_the_way_and_never_goes_back(tmp_path):
    path = tmp_path / "long.txt.gz"
    path.write_bytes(gzip.compress("".join(f"1 qid:{i} 1:{i}\n" for i in range(20_000)).encode()))
    calls = []
    SOURCES["letor"](path, tmp_path / "log", progress=lambda *told: calls.append(told))
    done = [d for d, _ in calls]
    assert len(set(done)) > 3
    assert done == sorted(done)
    assert done[-1] == path.stat().st_size


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1 qid:1 1:0.5 nonsense", "expected index:value, found 'nonsense'"),
        ("1 qid:1 1:0.5 2:", "expected index:value, found '2:'"),
        ("1 qid:1 1:0.5 2:3:4", "expected index:value, found '2:3:4'"),
        ("1 qid:1 1:0.5 2:abc", "expected a number for feature 2, found 'abc'"),
        ("1 qid:1 1:0.5 2:1_0", "expected index:value, found '2:1_0'"),
        ("1 1:0.5 2:3", "found no qid"),
        ("1 qid: 1:0.5", "found no qid"),
        ("1", "found no qid"),
        ("good qid:1 1:0.5", "found the label 'good'"),
        ("-1 qid:1 1:0.5", "expected a finite non-negative label, found '-1'"),
        ("nan qid:1 1:0.5", "expected a finite non-negative label, found 'nan'"),
        ("inf qid:1 1:0.5", "expected a finite non-negative label, found 'inf'"),
        ("1e300 qid:1 1:0.5", "expected a finite non-negative label, found '1e300'"),
        ("1 qid:1 0:0.5", "expected feature indices from 1, found '0:0.5'"),
        ("1 qid:1 3:0.5 3:0.5", "feature indices must increase, but 3 occurs twice"),
        ("1 qid:1 3:0.5 2:0.5", "feature indices must increase, but 2 follows 3"),
        ("1 qid:1 1:0.5 5:1", "feature index 5 is beyond features=4"),
    ],
)
def test_a_wrong_line_is_refused_by_file_and_number(file, tmp_path, line, told):
    path = file(f"0 qid:1 1:1 4:2\n# comment\n{line}\n0 qid:1 1:1\n")
    with pytest.raises(DataError) as error:
        read(tmp_path, path, features=4)
    assert f"{path}, line 3: " in str(error.value)
    assert told in str(error.value)
    assert not (tmp_path / "log").exists()


def test_a_query_that_comes_back_is_refused_in_one_file_and_in_two(file, tmp_path):
    scattered = file("1 qid:1 1:1\n1 qid:2 1:1\n1 qid:1 1:1\n")
    with pytest.raises(
        DataError, match=r"letor.txt, line 3: .*query 1 together.*letor.txt, line 1"
    ):
        read(tmp_path, scattered)
    files = file("1 qid:1 1:1\n", "a.txt"), file("1 qid:1 1:1\n", "b.txt")
    with pytest.raises(DataError, match=r"b.txt, line 1: .*query 1 together.*a.txt, line 1"):
        read(tmp_path, *files)


@pytest.mark.parametrize("block", [1, 2, 1000])
def test_unknown_numbers_are_refused_counted_and_named(file, tmp_path, monkeypatch, block):
    monkeypatch.setattr(svmlight, "_LINES_PER_BLOCK", block)
    path = file("1 qid:1 1:1 2:2\n1 qid:1 1:nan 2:inf\n1 qid:2 2:1e39\n")
    with pytest.raises(DataError, match=r"found 3 that are not, first in line 2") as error:
        read(tmp_path, path)
    assert "f1 (1), f2 (2)" in str(error.value)
    assert "missing=true" in str(error.value)


def test_a_file_named_twice_an_empty_one_and_a_missing_one_are_refused(file, tmp_path):
    path = file(TWO_QUERIES)
    with pytest.raises(DataError, match="given twice"):
        read(tmp_path, path, tmp_path / "." / path.name)
    with pytest.raises(DataError, match=r"empty.txt: .*found none"):
        read(tmp_path, path, file("# nothing\n", "empty.txt"))
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path, tmp_path / "absent.txt")
    with pytest.raises(DataError, match="found no file or folder; give one with --from"):
        read(tmp_path)
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match=r"bare: expected LETOR files .*\*\.txt"):
        read(tmp_path, tmp_path / "bare")


def test_a_file_without_features_and_one_with_absurd_indices_are_refused(file, tmp_path):
    with pytest.raises(DataError, match="found no feature"):
        read(tmp_path, file("1 qid:1\n0 qid:1\n"))
    with pytest.raises(DataError, match=r"line 2: feature index 20000000 is beyond 10000"):
        read(tmp_path, file("1 qid:1 1:1\n0 qid:1 20000000:1\n"))
    with pytest.raises(DataError, match=r"line 1: feature index 9{18} is beyond 10000"):
        read(tmp_path, file(f"1 qid:1 {'9' * 18}:1\n"))
    with pytest.raises(DataError, match="features must be at least 1"):
        read(tmp_path, file("1 qid:1 1:1\n"), features=0)


def test_a_truncated_gzip_file_is_refused_by_name(tmp_path):
    path = tmp_path / "cut.txt.gz"
    text = "".join(f"1 qid:{i} 1:{math.sin(i):.9f}\n" for i in range(2000))
    path.write_bytes(gzip.compress(text.encode())[:-200])
    with pytest.raises(
        DataError, match=r"cut.txt.gz: damaged gzip file, unreadable after line \d+"
    ):
        read(tmp_path, path)


@pytest.mark.data
def test_clueweb09_is_what_its_readme_says(data_folder, tmp_path):
    if not (data_folder / "clueweb09_ltr").is_dir():
        pytest.skip("no clueweb09_ltr")
    frame = read(tmp_path, data_folder / "clueweb09_ltr")
    lengths = frame["label"].list.len()
    assert frame.height == 61
    assert lengths.sum() == 26_646
    assert (lengths.min(), lengths.max()) == (230, 728)
    assert (frame["label"].list.max() >= 2).sum() == 55
    assert set(frame["label"].explode().unique()) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert frame.width == 45
    assert frame["item_key"].explode().n_unique() > 20_000
    assert frame["item_key"].explode().str.starts_with("clueweb09-").all()


@pytest.mark.data
def test_clueweb09_is_what_scikit_learn_reads(data_folder, tmp_path):
    path = data_folder / "clueweb09_ltr" / "fold1.txt.gz"
    if not path.is_file():
        pytest.skip("no clueweb09_ltr")
    labels, values = matrix(read(tmp_path, path))
    theirs, their_labels = load_svmlight_file(str(path), n_features=42, zero_based=False)
    np.testing.assert_array_equal(values, theirs.toarray().astype(np.float32))
    np.testing.assert_array_equal(labels, their_labels)
