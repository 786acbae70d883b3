"""LETOR data sets as they are published: their folds and parts, and queries cut as papers do."""

from math import log1p

import polars as pl
import pytest

from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.encoder import fit_schema
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.data.split import GivenSplit, split_requests
from cascaderank.errors import DataError
from cascaderank.experiments.folds import folds_of
from cascaderank.schema import Transform
from cascaderank.settings.run import check_settings


def lines(queries, documents=3, positives=1):
    return "".join(
        f"{int(d < positives)} qid:{q} 1:{d}.5 2:{q} #docid = GX0-{q}-{d} inc = 1 prob = 0.5\n"
        for q in queries
        for d in range(documents)
    )


def fold(folder, train, validation, test, names=("train", "vali", "test")):
    folder.mkdir(parents=True)
    for name, queries in zip(names, (train, validation, test), strict=True):
        if queries:
            (folder / f"{name}.txt").write_text(lines(queries))
    return folder


@pytest.fixture
def mslr(tmp_path):
    """Fifteen queries in five folds that go round as in LETOR 4.0 and MSLR."""
    subsets = [range(3 * i, 3 * i + 3) for i in range(5)]
    for i in range(5):
        a, b, c, validation, test = (subsets[(i + j) % 5] for j in range(5))
        fold(tmp_path / "MSLR" / f"Fold{i + 1}", [*a, *b, *c], validation, test)
    return tmp_path / "MSLR"


def prepare(tmp_path, source, **options):
    SOURCES["letor"](source, tmp_path / "log", overwrite=True, **options)
    return RequestLog.open(tmp_path / "log")


def queries_of(log, rows):
    return {q for frame in log.frames(["request_id"], rows=rows) for q in frame["request_id"]}


def parts_of(log, **settings):
    split = split_requests(log, GivenSplit(**settings))
    return tuple(queries_of(log, rows) for rows in (split.train, split.validation, split.test))


def asked(text):
    return {line.split("qid:")[1].split()[0] for line in text.splitlines()}


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_each_fold_of_a_whole_data_set_has_its_official_parts(mslr, tmp_path, number):
    log = prepare(tmp_path, mslr)
    assert log.manifest.requests == 15
    official = [
        asked((mslr / f"Fold{number}" / f"{name}.txt").read_text())
        for name in ("train", "vali", "test")
    ]
    assert list(parts_of(log, fold=number - 1)) == official
    assert list(parts_of(prepare(tmp_path, mslr, fold=number))) == official


def test_a_comparison_goes_over_all_official_folds_and_over_one_split_once(mslr, tmp_path):
    def settings(log):
        return check_settings(
            {
                "data": {"path": log.path, "target": "label", "split": {"by": "given"}},
                "relevance": {"top": 1},
                "stages": {"ranking": {"model": "linear", "quota": 1}},
            }
        )

    whole = prepare(tmp_path, mslr)
    assert [f.settings.data.split.fold for f in folds_of(settings(whole), whole)] == [0, 1, 2, 3, 4]
    one = prepare(tmp_path, mslr / "Fold3")
    assert len(folds_of(settings(one), one)) == 1


@pytest.mark.parametrize(
    "names", [("trainingset", "validationset", "testset"), ("Train", "valid", "Test")]
)
def test_parts_are_told_by_the_names_that_data_sets_use(tmp_path, names):
    log = prepare(tmp_path, fold(tmp_path / "sample", [1, 2], [3], [4], names=names))
    assert parts_of(log) == ({"1", "2"}, {"3"}, {"4"})


def test_without_a_validation_file_some_of_the_training_queries_validate(tmp_path):
    log = prepare(tmp_path, fold(tmp_path / "full", range(20), [], range(20, 25)))
    train, validation, test = parts_of(log, validation=0.25, seed=1)
    assert len(validation) == 5
    assert train | validation == {str(q) for q in range(20)}
    assert test == {str(q) for q in range(20, 25)}
    assert parts_of(log, validation=0.25, seed=1)[1] == validation
    assert parts_of(log, validation=0.25, seed=2)[1] != validation


def test_files_of_other_names_have_no_parts_and_that_is_told(tmp_path):
    (tmp_path / "web.txt").write_text(lines(range(9)))
    log = prepare(tmp_path, tmp_path / "web.txt")
    with pytest.raises(DataError, match=r'has no given parts; set split.by = "request"'):
        split_requests(log, GivenSplit())


def test_a_fold_that_there_is_not_is_told(mslr, tmp_path):
    with pytest.raises(DataError, match=r"split.fold must be less than 5, .* has 5 folds; got 5"):
        split_requests(prepare(tmp_path, mslr), GivenSplit(fold=5))
    with pytest.raises(DataError, match="has one split and no folds"):
        split_requests(prepare(tmp_path, mslr, fold=2), GivenSplit(fold=1))
    with pytest.raises(DataError, match="expected fold=6, found folds 1, 2, 3, 4, 5"):
        prepare(tmp_path, mslr, fold=6)
    with pytest.raises(DataError, match="expected a folder with Fold1"):
        prepare(tmp_path, mslr / "Fold1", fold=1)
    with pytest.raises(DataError, match="expected a folder of folds alone, found 2 paths"):
        prepare(tmp_path, [mslr, mslr / "Fold1"])


def test_folds_that_do_not_go_round_are_refused(mslr, tmp_path):
    (mslr / "Fold3" / "vali.txt").write_text(lines([99]))
    with pytest.raises(DataError, match=r"Fold3.vali.txt: expected the queries of .*Fold2.test"):
        prepare(tmp_path, mslr)
    (mslr / "Fold3" / "test.txt").unlink()
    with pytest.raises(DataError, match=r"Fold3: expected a file named test.txt"):
        prepare(tmp_path, mslr)
    (mslr / "Fold2").rename(mslr / "Fold9")
    with pytest.raises(
        DataError, match="expected Fold1, Fold2, Fold3 and so on, found Fold1, Fold3"
    ):
        prepare(tmp_path, mslr)


def test_short_queries_are_dropped_and_counted(tmp_path):
    path = tmp_path / "web.txt"
    path.write_text(lines([1], 40) + lines([2], 41) + lines([3], 1, positives=0))
    log = prepare(tmp_path, path, min_documents=41)
    assert queries_of(log, None) == {"2"}
    notes = log.manifest.extra["notes"]
    assert (notes["dropped_queries"], notes["dropped_documents"]) == (2, 41)
    notes = prepare(tmp_path, path).manifest.extra["notes"]
    assert notes["dropped_queries"] == 0
    assert (notes["queries_without_positive"], notes["queries_of_one_document"]) == (1, 1)
    with pytest.raises(
        DataError, match="at least 42 documents, found none among 3; lower min_documents"
    ):
        prepare(tmp_path, path, min_documents=42)


@pytest.mark.parametrize(("positives", "kept"), [(40, 15), (15, 15), (7, 7), (0, 0)])
def test_long_queries_are_cut_and_keep_enough_positives(tmp_path, positives, kept):
    path = tmp_path / "web.txt"
    path.write_text("".join(lines([q], 2000, positives) for q in range(20)))
    log = prepare(tmp_path, path, max_documents=50)
    frame = pl.concat(log.frames())
    assert frame["label"].list.len().to_list() == [50] * 20
    # Drawn by chance, 50 of 2,000 have one positive or so: those that must be there were added.
    assert frame["label"].list.sum().to_list() == [kept] * 20
    assert log.manifest.extra["notes"]["queries_cut"] == 20
    assert log.manifest.extra["notes"]["dropped_documents"] == 20 * 1950
    drawn = [tuple(row) for row in frame["f1"].to_list()]
    assert all(list(row) == sorted(set(row)) for row in drawn)
    assert len({row[kept:] for row in drawn}) == 20


def test_many_positives_are_not_cut_down_to_the_fewest(tmp_path):
    path = tmp_path / "web.txt"
    path.write_text(lines([1], 400, 300))
    frame = pl.concat(prepare(tmp_path, path, max_documents=200).frames())
    assert 120 < frame["label"].list.sum()[0] < 180


def test_what_is_drawn_is_decided_by_seed_and_query_alone(tmp_path):
    one, two = lines([1], 90), lines([2], 90)
    path = tmp_path / "web.txt"

    def drawn(text, **options):
        path.write_text(text)
        frame = pl.concat(prepare(tmp_path, path, max_documents=10, **options).frames())
        return dict(zip(frame["request_id"], frame["f1"].to_list(), strict=True))

    found = drawn(one + two)
    assert drawn(two + one) == found
    assert drawn(one + two, seed=1) != found


@pytest.mark.parametrize("option", ["min_documents", "max_documents"])
def test_sizes_must_be_positive(tmp_path, option):
    (tmp_path / "web.txt").write_text(lines([1]))
    with pytest.raises(DataError, match="must be at least 1"):
        prepare(tmp_path, tmp_path / "web.txt", **{option: 0})


def test_features_of_any_sign_have_a_logarithm(tmp_path):
    (tmp_path / "web.txt").write_text("1 qid:1 1:-3 2:0\n0 qid:1 1:3 2:5\n")
    log = prepare(tmp_path, tmp_path / "web.txt", transform=Transform.LOG1P)
    (frame,) = log.frames()
    items = EncodedLog.of_frame(frame, fit_schema(log.schema, [frame])).items
    assert items["f1"].tolist() == pytest.approx([-log1p(3), log1p(3)])
    assert items["f2"].tolist() == pytest.approx([0.0, log1p(5)])


QUERIES = "0 qid:a 1:2 2:7\n1 qid:a 1:4 2:7\n0 qid:a 1:8 2:7\n1 qid:b 1:-3 2:1\n0 qid:b 2:1\n"


def rows_of(path):
    return [row for frame in RequestLog.open(path).frames() for row in frame.iter_rows(named=True)]


def test_numbers_are_told_relative_to_those_of_their_query(tmp_path):
    (tmp_path / "web.txt").write_text(QUERIES)
    SOURCES["letor"](tmp_path / "web.txt", tmp_path / "log", within_query="min_max")
    a, b = rows_of(tmp_path / "log")
    assert a["f1"] == pytest.approx([0, 1 / 3, 1])
    assert b["f1"] == [0, 1]
    assert a["f2"] == [0, 0, 0]  # all equal
    SOURCES["letor"](tmp_path / "web.txt", tmp_path / "other", within_query="standardise")
    a, b = rows_of(tmp_path / "other")
    logs = [log1p(2), log1p(4), log1p(8)]
    mean = sum(logs) / 3
    deviation = (sum((x - mean) ** 2 for x in logs) / 3) ** 0.5
    assert a["f1"] == pytest.approx([(x - mean) / deviation for x in logs], rel=1e-6)
    assert b["f1"] == pytest.approx([-1, 1])


def test_missing_numbers_are_left_out_of_what_is_relative_to_a_query(tmp_path):
    text = (
        QUERIES.replace("1:4", "1:nan")
        .replace("1:-3", "1:nan")
        .replace("0 qid:b 2", "0 qid:b 1:inf 2")
    )
    (tmp_path / "web.txt").write_text(text)
    SOURCES["letor"](tmp_path / "web.txt", tmp_path / "log", within_query="min_max", missing=True)
    a, b = rows_of(tmp_path / "log")
    assert a["f1"] == [0, None, 1]
    assert b["f1"] == [None, None]
