import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cascaderank.data.split import (
    DaySplit,
    FoldSplit,
    RequestSplit,
    SplitSettings,
    split_requests,
)
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Schema
from tests.data.shops import shop_frame, write_shop

SCHEMA = Schema(features=(Feature(name="x", role="item", kind="numeric"),))

splits = st.one_of(
    st.builds(
        RequestSplit,
        validation=st.floats(0.01, 0.4),
        test=st.floats(0.01, 0.4),
        seed=st.integers(-5, 5),
    ),
    st.builds(FoldSplit, folds=st.just(5), fold=st.integers(0, 4), seed=st.integers(-5, 5)),
)
ids = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=5, max_size=40, unique=True),
    st.lists(st.text(max_size=5), min_size=5, max_size=40, unique=True),
)


def log_of(folder, request_ids, **options):
    frame = pl.DataFrame({"request_id": request_ids, "x": [[1.0]] * len(request_ids)})
    return write_shop(Path(folder) / "log", [frame], schema=SCHEMA, level_names=(), **options)


def parts_of(split):
    return {"train": split.train, "validation": split.validation, "test": split.test}


def ids_of(log, split):
    names = pl.concat(log.frames(["request_id"]))["request_id"]
    return {part: set(names.gather(rows)) for part, rows in parts_of(split).items()}


@settings(max_examples=25, deadline=None)
@given(ids, splits, st.randoms(use_true_random=False), st.integers(1, 7))
def test_splits_are_disjoint_and_complete_and_do_not_depend_on_the_order_of_files(
    request_ids, how, random, rows_per_part
):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        log = log_of(one, request_ids)
        split = split_requests(log, how)
        for rows in parts_of(split).values():
            assert len(rows) > 0
            assert rows.dtype == np.int64
            assert (np.diff(rows) > 0).all()
        together = np.sort(np.concatenate(list(parts_of(split).values())))
        np.testing.assert_array_equal(together, np.arange(len(request_ids)))

        shuffled = random.sample(request_ids, len(request_ids))
        other = log_of(two, shuffled, rows_per_part=rows_per_part)
        assert ids_of(log, split) == ids_of(other, split_requests(other, how))


def test_fractions_are_rounded_and_other_seeds_draw_others(tmp_path):
    log = log_of(tmp_path, list(range(1000)))
    split = split_requests(log, RequestSplit(validation=0.1004, test=0.25, seed=0))
    assert [len(rows) for rows in parts_of(split).values()] == [650, 100, 250]
    others = [split_requests(log, RequestSplit(seed=s)).test for s in range(5)]
    shared = [len(np.intersect1d(others[0], other)) for other in others[1:]]
    assert max(shared) < 30  # 10 expected of 100


def test_a_small_fraction_is_at_least_one_request(tmp_path):
    log = log_of(tmp_path, list(range(5)))
    split = split_requests(log, RequestSplit(validation=0.01, test=0.01))
    assert [len(rows) for rows in parts_of(split).values()] == [3, 1, 1]


def test_the_split_of_given_ids_never_changes(tmp_path):
    log = log_of(tmp_path, [f"q{i}" for i in range(20)])
    assert split_requests(log, RequestSplit()).test.tolist() == [17, 18]
    assert split_requests(log, FoldSplit()).test.tolist() == [11, 15, 17, 19]


@pytest.mark.parametrize("requests", [5, 23])
def test_folds_test_each_request_once_and_the_next_fold_validates(tmp_path, requests):
    log = log_of(tmp_path, list(range(requests)))
    folds = [split_requests(log, FoldSplit(folds=5, fold=i, seed=3)) for i in range(5)]
    tested = np.concatenate([f.test for f in folds])
    np.testing.assert_array_equal(np.sort(tested), np.arange(requests))
    sizes = [len(f.test) for f in folds]
    assert max(sizes) - min(sizes) <= 1
    for i, fold in enumerate(folds):
        np.testing.assert_array_equal(fold.validation, folds[(i + 1) % 5].test)


def test_the_last_days_are_for_the_test_and_those_before_for_validation(tmp_path):
    log = write_shop(tmp_path / "shop", [shop_frame(20, days=5)], rows_per_part=2)
    split = split_requests(log, DaySplit(validation_days=2, test_days=1))
    days = pl.concat(log.frames(["timestamp"]))["timestamp"].dt.day().to_numpy()
    assert set(days[split.train]) == {1, 2}
    assert set(days[split.validation]) == {3, 4}
    assert set(days[split.test]) == {5}
    assert sum(len(rows) for rows in parts_of(split).values()) == 20


def test_too_few_requests_days_or_folds_are_reported_with_the_settings_to_change(tmp_path):
    log = write_shop(tmp_path / "shop", [shop_frame(2, days=2)])
    with pytest.raises(DataError, match=r"2 requests are too few for 1 validation .*lower"):
        split_requests(log, RequestSplit())
    with pytest.raises(DataError, match=r"2 requests are too few for 5 folds; lower split\.folds"):
        split_requests(log, FoldSplit())
    with pytest.raises(
        DataError, match=r"requests of 2 days; 1 validation day and 1 test day leave"
    ):
        split_requests(log, DaySplit())


def test_a_split_by_day_without_timestamps_is_refused(tmp_path):
    log = log_of(tmp_path, list(range(5)))
    with pytest.raises(DataError, match=r'needs timestamps; .* none; set split\.by = "request"'):
        split_requests(log, DaySplit())


@pytest.mark.parametrize(
    "bad",
    [
        {"by": "request", "validation": 0.5, "test": 0.5},
        {"by": "request", "test": 0.0},
        {"by": "fold", "folds": 2},
        {"by": "fold", "folds": 5, "fold": 5},
        {"by": "day", "test_days": 0},
        {"by": "row"},
        {"by": "request", "folds": 5},
    ],
)
def test_invalid_settings_are_refused(bad):
    with pytest.raises(ValidationError):
        TypeAdapter(SplitSettings).validate_python(bad)


@pytest.mark.parametrize("how", [RequestSplit(), FoldSplit(), DaySplit()])
def test_settings_are_discriminated_by_the_kind_of_split(how):
    assert TypeAdapter(SplitSettings).validate_python(how.model_dump()) == how
