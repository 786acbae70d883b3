import tempfile
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.batch import RequestBatch
from cascaderank.data.encoding.column_blocks import Table
from cascaderank.data.encoding.column_files import ColumnFiles, resident_of_files
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Feature, FittedSchema, Schema
from tests.data.shops import SCHEMA, shop_frame, write_shop

FITTED = fit_schema(SCHEMA, [shop_frame(12)])
LOG = EncodedLog.of_frame(shop_frame(12), FITTED, target="label")


def loader(rows=None, *, batch_size=5, seed=0, log=LOG):
    rows = np.arange(log.requests) if rows is None else rows
    return RequestLoader(log, rows, batch_size=batch_size, seed=seed)


def rows_of(batches):
    return [batch.rows.tolist() for batch in batches]


def assert_same(one, other):
    for name in ("mask", "labels", "levels", "feedback", "rows"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    for name in ("items", "request", "history", "history_mask"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert set(ours) == set(theirs)
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=0, equal_nan=True)


def unpadded(log, row, name):
    """Return one list of one request, in plain Python."""
    offsets = log.history_offsets[log.sequences[name]] if name in log.history else log.offsets
    own = {"labels": log.labels, "levels": log.levels, "feedback": log.feedback}
    column = {**own, **log.items, **log.history}[name]
    return [column[i] for i in range(offsets[row], offsets[row + 1])]


rows_strategy = st.lists(st.integers(0, 11), min_size=1, max_size=8)


@settings(deadline=None)
@given(rows_strategy)
def test_a_batch_is_its_requests_padded_with_zeros_to_the_longest(rows):
    batch = loader().collate(np.array(rows))
    own = {"labels": batch.labels, "levels": batch.levels, "feedback": batch.feedback}
    padded = {**own, **batch.items, **batch.history}
    for name, tensor in padded.items():
        lists = [unpadded(LOG, row, name) for row in rows]
        least = 1 if name in LOG.history else 0
        longest = max(least, *map(len, lists))
        expected = [values + [0] * (longest - len(values)) for values in lists]
        np.testing.assert_array_equal(tensor.numpy(), np.array(expected))
        mask = batch.history_mask[LOG.sequences[name]] if name in LOG.history else batch.mask
        assert mask.tolist() == [[i < len(values) for i in range(longest)] for values in lists]
    for name, values in LOG.request.items():
        np.testing.assert_array_equal(batch.request[name].numpy(), values[rows])
    assert batch.rows.tolist() == rows


@settings(deadline=None)
@given(rows_strategy, st.integers(0, 11))
def test_a_request_does_not_depend_on_the_rest_of_its_batch(rows, row):
    alone = loader().collate(np.array([row]))
    among = loader().collate(np.array([*rows, row]))
    length = int(alone.mask.sum())
    assert int(among.mask[-1].sum()) == length
    for name, tensor in alone.items.items():
        torch.testing.assert_close(
            among.items[name][-1, :length], tensor[0], rtol=0, atol=0, equal_nan=True
        )
        assert not among.items[name][-1, length:].any()  # NaN would be true


def test_padding_is_0_even_if_the_first_value_of_the_column_is_missing():
    feature = Feature(name="x", role="item", kind="numeric", transform="none", missing=True)
    log = EncodedLog.of_frame(
        pl.DataFrame({"x": [[None, 1.0, 2.0], [3.0]]}), FittedSchema(features=(feature,))
    )
    batch = loader(log=log, seed=None).collate(np.arange(2))
    assert batch.items["x"].nan_to_num(nan=-1).tolist() == [[-1, 1, 2], [3, 0, 0]]


def test_dtypes_are_those_of_a_request_batch():
    batch = loader().collate(np.arange(5))
    assert batch.mask.dtype == torch.bool
    assert batch.labels.dtype == batch.feedback.dtype == torch.float32
    assert batch.levels.dtype == batch.rows.dtype == torch.int64
    for feature in SCHEMA.features:
        tensor = {**batch.items, **batch.request, **batch.history}[feature.name]
        expected = torch.int64 if feature.kind.value == "categorical" else torch.float32
        assert tensor.dtype == expected
    assert set(batch.history_mask) == {"history", "search"}


def test_a_batch_of_empty_histories_has_one_masked_entry():
    batch = loader().collate(np.array([0, 4, 8]))  # r % 4 == 0
    assert batch.history["watched"].tolist() == [[0], [0], [0]]
    assert not batch.history_mask["history"].any()


def test_a_log_whose_histories_are_all_empty_can_be_batched(tmp_path):
    frame = shop_frame().with_columns(
        pl.Series(name, [[], [], []], dtype=pl.List(pl.Int64))
        for name in ("watched", "seconds", "query")
    )
    log = write_shop(tmp_path / "shop", [frame])
    fitted = fit_schema(log.schema, log.frames())
    encoded = EncodedLog.build(log, fitted, target=None, folder=tmp_path / "e")
    batch = RequestLoader(encoded, np.arange(3), batch_size=3).collate(np.arange(3))
    assert batch.history["watched"].tolist() == [[0], [0], [0]]
    assert batch.history["seconds"].dtype == torch.float32
    assert not batch.history_mask["search"].any()


def test_a_batch_shares_no_memory_with_the_log():
    before = loader().collate(np.arange(5))
    batch = loader().collate(np.arange(5))
    for tensor in (*batch.items.values(), *batch.request.values(), batch.labels, batch.rows):
        tensor.fill_(7)
    assert_same(loader().collate(np.arange(5)), before)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 11), unique=True, max_size=12),
    st.integers(1, 13),
    st.none() | st.integers(0, 2**40),
    st.integers(0, 5),
)
def test_an_epoch_has_each_row_once_and_can_start_anywhere(rows, batch_size, seed, epoch):
    batches = loader(np.array(rows, dtype=np.int64), batch_size=batch_size, seed=seed)
    whole = list(batches.epoch(epoch))
    assert len(whole) == batches.batches_per_epoch
    assert sorted(r for batch in rows_of(whole) for r in batch) == sorted(rows)
    assert all(len(batch) == batch_size for batch in whole[:-1])
    for start in range(len(whole) + 1):
        tail = list(batches.epoch(epoch, start=start))
        assert len(tail) == len(whole) - start
        for one, other in zip(tail, whole[start:], strict=True):
            assert_same(one, other)


def test_the_order_depends_on_seed_and_epoch_only():
    one, other = loader(seed=3), loader(seed=3)
    list(one.epoch(0))  # earlier epochs have no influence
    torch.manual_seed(5)
    assert rows_of(one.epoch(1)) == rows_of(other.epoch(1))
    orders = {
        str(rows_of(loader(seed=seed).epoch(epoch))) for seed in range(4) for epoch in range(4)
    }
    assert len(orders) == 16


def test_without_a_seed_the_order_is_that_of_the_rows():
    rows = np.array([5, 1, 9])
    batches = loader(rows, batch_size=2, seed=None)
    assert rows_of(batches.epoch(0)) == rows_of(batches.epoch(1)) == [[5, 1], [9]]


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    """Return 60 requests of 4 days; the rows of a day are in several parts."""
    folder = tmp_path_factory.mktemp("week")
    log = write_shop(folder / "log", [shop_frame(60, days=4)], rows_per_part=7)
    fitted = fit_schema(log.schema, log.frames())
    return log, EncodedLog.build(log, fitted, target="label", folder=folder / "e")


def by_days(log, **options):
    rows = np.random.default_rng(0).permutation(60)[:50]
    return RequestLoader(log, rows, batch_size=8, order="days", **options), rows


def test_days_of_requests_are_those_of_their_timestamps(week):
    log, encoded = week
    since = pl.concat(log.frames(["timestamp"]))["timestamp"].dt.date().to_physical()
    assert encoded.days.tolist() == since.to_list()
    assert len(set(since)) > 3


def test_days_come_in_order_and_are_shuffled_inside(week):
    _, encoded = week
    batches, rows = by_days(encoded, seed=5)
    epochs = [np.concatenate(rows_of(batches.epoch(epoch))) for epoch in (0, 1, 0)]
    for seen in epochs:
        assert sorted(seen) == sorted(rows)
        assert (np.diff(encoded.days[seen]) >= 0).all()
    assert epochs[0].tolist() == epochs[2].tolist()
    first = encoded.days == encoded.days.min()
    assert epochs[0][first[epochs[0]]].tolist() != epochs[1][first[epochs[1]]].tolist()
    other, _ = by_days(encoded, seed=6)
    assert rows_of(other.epoch(0)) != rows_of(batches.epoch(0))


def test_days_in_order_can_start_anywhere(week):
    batches, _ = by_days(week[1], seed=2)
    whole = rows_of(batches.epoch(3))
    for start in range(len(whole) + 1):
        assert rows_of(batches.epoch(3, start=start)) == whole[start:]


def test_without_a_seed_days_keep_the_order_of_the_rows(week):
    batches, rows = by_days(week[1])
    expected = sorted(rows.tolist(), key=lambda row: week[1].days[row])  # stable
    assert np.concatenate(rows_of(batches.epoch(0))).tolist() == expected


def test_order_by_days_without_timestamps_is_refused():
    with pytest.raises(DataError, match=r"needs timestamps .* or set train.order = \"shuffled\""):
        by_days(LOG)


@pytest.mark.parametrize("options", [{}, {"bucketing": True}, {"pin_memory": True}])
@pytest.mark.parametrize("order", ["shuffled", "days"])
def test_prefetched_batches_are_the_same(week, options, order):
    arguments = {"batch_size": 7, "seed": 3, "order": order, **options}
    now, ahead = (
        RequestLoader(week[1], np.arange(60), prefetch=prefetch, **arguments) for prefetch in (0, 3)
    )
    for start in (0, 4, 9):
        batches = zip(now.epoch(1, start=start), ahead.epoch(1, start=start), strict=True)
        for one, other in batches:
            assert_same(one, other)


def test_an_abandoned_epoch_leaves_no_thread(week):
    batches = RequestLoader(week[1], np.arange(60), batch_size=2, seed=0, prefetch=4).epoch(0)
    next(batches)
    assert [t for t in threading.enumerate() if t.name.startswith("cascaderank-prefetch")]
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("cascaderank-prefetch")]


@pytest.mark.parametrize("order", ["shuffled", "days"])
def test_bucketing_keeps_rows_and_days_and_can_start_anywhere(week, order):
    _, log = week
    arguments = {"batch_size": 4, "seed": 1, "order": order}
    batches = RequestLoader(log, np.arange(60), bucketing=True, **arguments)
    plain = RequestLoader(log, np.arange(60), **arguments)
    whole = rows_of(batches.epoch(2))
    assert sorted(np.concatenate(whole)) == list(range(60))
    for start in (0, 3, 15):
        assert rows_of(batches.epoch(2, start=start)) == whole[start:]
    if order == "days":
        assert (np.diff(log.days[np.concatenate(whole)]) >= 0).all()
    places, before = (sum(b.mask.numel() for b in of.epoch(0)) for of in (batches, plain))
    assert places < before


def test_without_cuda_pinned_batches_are_the_same(week):
    batch = next(RequestLoader(week[1], np.arange(9), batch_size=9, pin_memory=True).epoch(0))
    assert batch.mask.is_pinned() == torch.cuda.is_available()
    if not torch.cuda.is_available():
        assert batch.pin_memory() is batch
    assert_same(batch.to("cpu"), batch)


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_every_batch_is_pinned_if_and_only_if_that_is_set(week, monkeypatch, pinned, prefetch):
    seen = []
    monkeypatch.setattr(RequestBatch, "pin_memory", lambda batch: seen.append(batch) or batch)
    options = {"batch_size": 25, "prefetch": prefetch, "pin_memory": pinned}
    batches = list(RequestLoader(week[1], np.arange(60), **options).epoch(0))
    assert len(batches) == 3
    assert list(map(id, seen)) == (list(map(id, batches)) if pinned else [])


@pytest.mark.parametrize(
    ("seed", "limit"), [(0, "_MOST_RESIDENT"), (None, "_MOST_RESIDENT_IN_ORDER")]
)
def test_a_log_larger_than_the_resident_limit_is_released(week, monkeypatch, seed, limit):
    released = []
    monkeypatch.setattr(EncodedLog, "release", lambda log: released.append(log.requests))
    batches = RequestLoader(week[1], np.arange(60), batch_size=8, seed=seed)
    list(batches.epoch(0))
    assert released == []
    monkeypatch.setattr(f"cascaderank.data.loading.loader.{limit}", 1)
    list(batches.epoch(0))
    assert released == [60] * 8  # after each batch


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="needs /proc, which only Linux has"
)
def test_resident_memory_is_bounded(tmp_path, monkeypatch):
    requests, size = 16_384, 2**27
    with ColumnFiles(tmp_path) as files:
        for _ in range(16):
            files.append("block", np.zeros((size // 16 // 32, 8), dtype=np.float32))
        block = files.mapped("block")
    log = EncodedLog(
        request_ids=pl.Series(range(requests)),
        offsets=np.arange(requests + 1) * (len(block) // requests),
        items=Table({tuple("abcdefgh"): block}),
    )
    assert log.mapped_bytes == size
    most = {}
    for bound in (2**30, 2**24):
        log.release()
        before = resident_of_files()
        monkeypatch.setattr("cascaderank.data.loading.loader._MOST_RESIDENT", before + bound)
        monkeypatch.setattr(EncodedLog, "mapped_bytes", before + bound + 1)
        batches = RequestLoader(log, np.arange(requests)[::8], batch_size=16, seed=0)
        most[bound] = max(resident_of_files() - before for _ in batches.epoch(0))
    assert most[2**30] > 0.9 * size, "vacuous: the file was not resident"
    assert most[2**24] < 0.7 * size


def test_without_rows_there_are_no_batches():
    empty = loader(np.array([], dtype=np.int64))
    assert empty.batches_per_epoch == 0
    assert list(empty.epoch(0)) == []


def test_narrow_integers_are_rows_too():
    assert rows_of(loader(np.array([3, 4], dtype=np.uint8), seed=None).epoch(0)) == [[3, 4]]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: loader(batch_size=0), "batch_size must be at least 1; got 0"),
        (lambda: loader(seed=-1), "seed must be at least 0; got -1"),
        (
            lambda: RequestLoader(LOG, np.arange(2), batch_size=1, order="day"),
            "order must be one of shuffled, days; got 'day'",
        ),
        (
            lambda: RequestLoader(LOG, np.arange(2), batch_size=1, prefetch=-1),
            "prefetch must be at least 0; got -1",
        ),
        (
            lambda: RequestLoader(LOG, np.arange(2), batch_size=1, bucketing=True),
            "bucketing shuffles batches and needs a seed",
        ),
        (lambda: loader(np.array([12])), "rows must be 0 to 11; got 12 to 12"),
        (lambda: loader(np.array([-1, 3])), "rows must be 0 to 11; got -1 to 3"),
        (lambda: loader().collate(np.array([99])), "rows must be 0 to 11; got 99 to 99"),
        (lambda: loader(np.array([1.0])), r"rows must be integers \[rows\]; got float64 \[1\]"),
        (lambda: loader(np.zeros((2, 2), int)), r"rows must be integers \[rows\]; got int64"),
        (lambda: loader().epoch(0, start=4), "a start of 0 to 3; got epoch 0 and start 4"),
        (lambda: loader().epoch(0, start=-1), "got epoch 0 and start -1"),
        (lambda: loader().epoch(-1), "an epoch of at least 0"),
    ],
)
def test_arguments_out_of_range_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


# ---- end to end, against plain Python ----------------------------------------------------------

eighths = st.integers(-8000, 8000).map(lambda n: n / 8)
END_TO_END = Schema(
    features=(
        Feature(name="who", role="request", kind="categorical", missing=True, min_count=2),
        Feature(name="what", role="item", kind="categorical"),
        Feature(
            name="size", role="item", kind="numeric", missing=True, transform="log1p_standardise"
        ),
        Feature(name="before", role="history", kind="categorical", vocabulary="what"),
    )
)


@st.composite
def requests(draw):
    candidate = st.fixed_dictionaries(
        {
            "what": st.sampled_from("abcdef"),
            "size": st.none() | eighths,
            "level": st.integers(0, 2),
            "position": st.integers(0, 3),
        }
    )
    request = st.fixed_dictionaries(
        {
            "who": st.none() | st.integers(0, 4),
            "before": st.lists(st.sampled_from("abcdefg"), max_size=5),
            "candidates": st.lists(candidate, min_size=1, max_size=5),
        }
    )
    return draw(st.lists(request, min_size=2, max_size=9))


@settings(max_examples=40, deadline=None)
@given(requests(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.data())
def test_batches_of_a_ragged_log_equal_those_of_plain_python(
    log, rows_per_part, batch_size, history_length, data
):
    train = data.draw(st.lists(st.sampled_from(range(len(log))), min_size=1, unique=True))
    lists = {
        name: [[c[name] for c in request["candidates"]] for request in log]
        for name in ("what", "size", "level", "position")
    }
    frame = pl.DataFrame(
        {
            "request_id": range(len(log)),
            "who": [r["who"] for r in log],
            "before": [r["before"] for r in log],
            **lists,
        },
        schema_overrides={
            "who": pl.Int64,
            "before": pl.List(pl.String),
            "size": pl.List(pl.Float64),
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        written = write_shop(
            Path(folder) / "log", [frame], schema=END_TO_END, rows_per_part=rows_per_part
        )
        fitted = fit_schema(END_TO_END, written.frames(rows=np.sort(train)))
        encoded = EncodedLog.build(
            written,
            fitted,
            target="funnel",
            folder=Path(folder) / "e",
            history_length=history_length,
        )
        batches = list(
            RequestLoader(encoded, np.arange(len(log)), batch_size=batch_size, seed=1).epoch(0)
        )

    training = [log[r] for r in train]
    seen = [r["who"] for r in training if r["who"] is not None]
    who_vocabulary = sorted({w for w in seen if seen.count(w) >= 2})
    what_vocabulary = sorted(
        {c["what"] for r in training for c in r["candidates"]}
        | {b for r in training for b in r["before"]}
    )
    logs = [
        signed_log(c["size"]) for r in training for c in r["candidates"] if c["size"] is not None
    ]
    mean = np.mean(logs) if logs else 0.0
    deviation = np.std(logs) if len(set(logs)) > 1 else 1.0

    def code(known, value):
        return known.index(value) + 1 if value in known else 0

    loaded = []
    for batch in batches:
        for i, row in enumerate(batch.rows.tolist()):
            request = log[row]
            loaded.append(row)
            assert batch.request["who"][i] == code(who_vocabulary, request["who"])
            kept = request["before"][-history_length:]
            history = batch.history["before"][i][batch.history_mask["history"][i]]
            assert history.tolist() == [code(what_vocabulary, b) for b in kept]
            real = batch.mask[i]
            found = sorted(
                zip(
                    batch.items["what"][i][real].tolist(),
                    batch.items["size"][i][real].nan_to_num(nan=-1e9).tolist(),
                    batch.levels[i][real].tolist(),
                    batch.labels[i][real].tolist(),
                    strict=True,
                ),
                key=lambda c: (c[3], c[0], c[1]),
            )
            expected = sorted(
                (
                    (
                        code(what_vocabulary, c["what"]),
                        -1e9 if c["size"] is None else (signed_log(c["size"]) - mean) / deviation,
                        c["level"],
                        c["level"] * 32768 + 32768 - (c["position"] or 32768),
                    )
                    for c in request["candidates"]
                ),
                key=lambda c: (c[3], c[0], c[1]),
            )
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
            assert not batch.items["size"][i][~real].any()
            assert not batch.items["what"][i][~real].any()
    assert sorted(loaded) == list(range(len(log)))


def signed_log(x):
    return np.sign(x) * np.log(1 + abs(x))
