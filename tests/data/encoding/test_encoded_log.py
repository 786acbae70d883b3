from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from cascaderank.data.encoding.column_files import mapping_of
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.encoder import Encoder
from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.labels import TARGETS, Relabelling
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import RequestSplit, split_requests
from cascaderank.errors import ConfigError, DataError, SchemaError
from cascaderank.schema import Feature, FittedSchema, Schema
from tests.data.shops import LEVELS, SCHEMA, shop_frame, write_shop

PLAIN = Schema(features=(Feature(name="x", role="item", kind="numeric", transform="none"),))


def plain_frame(lists, **more):
    return pl.DataFrame({"request_id": range(len(lists)), "x": lists, **more})


def built(log, folder, *, fitted=None, target=None, **options):
    fitted = fitted or fit_schema(log.schema, log.frames())
    return EncodedLog.build(log, fitted, target=target, folder=folder, **options)


def lists_of(flat, offsets):
    return [flat[a:b].tolist() for a, b in pairwise(offsets)]


def same(one, other):
    for name in ("items", "request", "history", "history_offsets"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert set(ours) == set(theirs)
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key])
    for name in ("offsets", "labels", "levels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_encoding_does_not_depend_on_the_parts_of_a_log(tmp_path):
    one = write_shop(tmp_path / "one", [shop_frame(10)])
    many = write_shop(tmp_path / "many", [shop_frame(10)], rows_per_part=3)
    assert len(many.manifest.parts) == 4
    same(
        built(one, tmp_path / "a", target="funnel", seed=5),
        built(many, tmp_path / "b", target="funnel", seed=5),
    )


def test_vocabularies_and_moments_depend_on_training_rows_only(tmp_path):
    frame = shop_frame(40)
    log = write_shop(tmp_path / "shop", [frame], rows_per_part=7)
    train = split_requests(log, RequestSplit(seed=1)).train
    fitted = fit_schema(log.schema, log.frames(rows=train))

    held_out = ~pl.Series(range(40)).is_in(train.tolist())
    shifted = frame.with_columns(
        pl.when(held_out).then(pl.col("price").list.eval(pl.element() * 1e6)).otherwise("price"),
        pl.when(held_out).then(pl.col("video").list.eval(pl.element() + 7_777)).otherwise("video"),
        pl.when(held_out).then(pl.lit("somebody new")).otherwise("user").alias("user"),
    )
    other = write_shop(tmp_path / "other", [shifted], rows_per_part=7)
    assert fit_schema(other.schema, other.frames(rows=train)) == fitted
    assert fit_schema(other.schema, other.frames()) != fit_schema(log.schema, log.frames())

    numbers = [p for r in train.tolist() for p in frame["price"][r] if p is not None]
    assert fitted.moments["price"].mean == pytest.approx(np.mean(numbers))
    assert fitted.moments["price"].deviation == pytest.approx(np.std(numbers))


def test_rows_of_a_log_are_read_part_by_part_and_parts_without_any_are_not(tmp_path):
    log = write_shop(tmp_path / "shop", [shop_frame(10)], rows_per_part=3)
    (log.path / log.manifest.parts[1].path).unlink()
    frames = list(log.frames(["request_id"], rows=np.array([0, 2, 7, 9])))
    assert [f["request_id"].to_list() for f in frames] == [["r0000", "r0002"], ["r0007"], ["r0009"]]


def test_candidates_are_shuffled_by_the_seed(tmp_path):
    frame = plain_frame([list(np.arange(30.0) + 100 * r) for r in range(20)])
    log = write_shop(tmp_path / "log", [frame], schema=PLAIN, level_names=())
    orders = [
        lists_of((e := built(log, tmp_path / str(s), seed=s)).items["x"], e.offsets)
        for s in (0, 0, 1)
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    for order in orders:
        assert [sorted(values) for values in order] == frame["x"].to_list()
        places = {tuple(v - 100 * r for v in values) for r, values in enumerate(order)}
        assert len(places) == 20  # each request has another order


def test_the_position_of_the_best_candidate_is_uniform(tmp_path):
    frame = plain_frame([[float(i) for i in range(4)]] * 4000)
    log = write_shop(tmp_path / "log", [frame], schema=PLAIN, level_names=())
    places = built(log, tmp_path / "e").items["x"].reshape(-1, 4)
    for place in range(4):
        counts = np.bincount(places[:, place].astype(int), minlength=4)
        assert abs(counts - 1000).max() < 140  # five standard deviations


def test_all_candidate_columns_are_shuffled_alike(tmp_path):
    fields = ("video", "price", "level", "label")
    log = write_shop(tmp_path / "shop", [shop_frame(9)])
    fitted = fit_schema(log.schema, log.frames())
    encoded = EncodedLog.build(log, fitted, target="label", folder=tmp_path / "e")
    encoder = Encoder(fitted)
    expected = {
        (
            int(encoder(fitted["video"], pl.Series([video]))[0]),
            float(encoder(fitted["price"], pl.Series([price], dtype=pl.Float64)).item()),
            level,
            label,
        )
        for row in shop_frame(9).select(fields).rows()
        for video, price, level, label in zip(*row, strict=True)
    }
    columns = (*encoded.items.values(), encoded.levels, encoded.labels)
    found = set(zip(*(c.tolist() for c in columns), strict=True))
    assert {tuple(map(str, t)) for t in found} == {tuple(map(str, t)) for t in expected}


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_a_history_keeps_its_latest_entries(tmp_path, length):
    log = write_shop(tmp_path / "shop", [shop_frame(8)])
    encoded = built(log, tmp_path / "e", history_length=length)
    seconds = lists_of(encoded.history["seconds"], encoded.history_offsets["history"])
    expected = [np.log1p(values[-length:]) for values in shop_frame(8)["seconds"].to_list()]
    assert len(seconds) == 8
    for found, wanted in zip(seconds, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert encoded.sequences == {"watched": "history", "seconds": "history", "query": "search"}
    assert np.diff(encoded.history_offsets["search"]).tolist() == [r % 2 for r in range(8)]


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "released"])
def test_labels_are_those_of_the_target(tmp_path, target):
    log = write_shop(tmp_path / "shop", [shop_frame(6)])
    encoded = built(log, tmp_path / "e", target=target)
    of_request = {
        "funnel": lambda i: (2 - i) * 32768 + 32767,
        "level": lambda i: 2 - i,
        "label": lambda i: 1 - i / 2,
        "feedback": lambda i: float(i == 0),
    }[target]
    for r, values in enumerate(lists_of(encoded.labels, encoded.offsets)):
        assert sorted(values) == sorted(of_request(i) for i in range(r % 3 + 1))


def test_released_labels_depend_on_the_number_of_levels_of_the_manifest(tmp_path):
    for names, below in (("abcd", [7.0, 6.0]), ("abcde", [7.0, 7.0])):
        frame = plain_frame([[1.0, 2.0, 3.0]]).with_columns(
            level=pl.Series(
                [[len(names) - 1, len(names) - 2, len(names) - 3]], dtype=pl.List(pl.Int8)
            ),
            position=pl.Series([[3, 1, 0]], dtype=pl.List(pl.Int16)),
        )
        log = write_shop(tmp_path / names, [frame], schema=PLAIN, level_names=tuple(names))
        encoded = built(log, tmp_path / f"encoded_{names}", target="released")
        assert sorted(encoded.labels.tolist(), reverse=True) == [27.0, *below]
    log = write_shop(tmp_path / "shop", [shop_frame(6)])
    with pytest.raises(ConfigError, match="target 'released' is defined for the 4 or 5 levels"):
        built(log, tmp_path / "e", target="released")


def test_levels_and_labels_are_absent_where_the_log_or_the_caller_has_none(tmp_path):
    log = write_shop(tmp_path / "a", [plain_frame([[1.0]])], schema=PLAIN, level_names=())
    encoded = built(log, tmp_path / "e")
    assert encoded.levels is None
    assert encoded.labels is None
    log = write_shop(tmp_path / "b")
    assert built(log, tmp_path / "f").labels is None
    assert built(log, tmp_path / "f").levels.dtype == np.int8


def test_request_ids_are_in_the_order_of_rows(tmp_path):
    log = write_shop(tmp_path / "shop", [shop_frame(9, days=3)], rows_per_part=2)
    encoded = built(log, tmp_path / "e")
    assert encoded.requests == 9
    assert encoded.request_ids.to_list() == [i for f in log.frames() for i in f["request_id"]]


def test_progress_adds_up_to_the_requests(tmp_path):
    calls = []
    log = write_shop(tmp_path / "shop", [shop_frame(10)], rows_per_part=4)
    built(log, tmp_path / "e", progress=calls.append)
    assert calls == [4, 4, 2]


def test_columns_of_a_log_are_mapped_from_files(tmp_path):
    encoded = built(write_shop(tmp_path / "shop"), tmp_path / "e", target="level")
    columns = [*encoded.items.values(), *encoded.request.values(), *encoded.history.values()]
    columns += [encoded.labels, encoded.levels, encoded.feedback]
    assert all(mapping_of(column) is not None for column in columns)
    assert not any(column.flags.writeable for column in columns)
    assert encoded.mapped_bytes == sum(f.stat().st_size for f in (tmp_path / "e").iterdir()) - (
        3 * 3 * 8  # lengths of candidates and of two sequences, of three requests
    )
    before = [column.tolist() for column in columns]
    encoded.release()
    np.testing.assert_equal([column.tolist() for column in columns], before)


def test_columns_of_a_frame_are_in_memory():
    log = EncodedLog.of_frame(shop_frame(), fit_schema(SCHEMA, [shop_frame()]))
    assert log.mapped_bytes == 0
    assert mapping_of(log.offsets) is None
    log.release()


def test_columns_of_one_dtype_share_a_block(tmp_path):
    encoded = built(write_shop(tmp_path / "shop"), tmp_path / "e", target="level")
    assert encoded.items["video"].dtype == np.int32
    assert encoded.items["price"].dtype == np.float32
    assert set(encoded.items.blocks) == {("video",), ("price",)}
    assert set(encoded.history.blocks) == {("watched",), ("seconds",), ("query",)}
    names = [f"x{i}" for i in range(5)]
    frame = pl.DataFrame({"request_id": [1, 2], **{n: [[1.0], [2.0, 3.0]] for n in names}})
    schema = Schema(features=tuple(Feature(name=n, role="item", kind="numeric") for n in names))
    log = write_shop(tmp_path / "wide", [frame], schema=schema, level_names=())
    (block,) = built(log, tmp_path / "w").items.blocks.values()
    assert block.shape == (3, 5)
    assert block.flags.c_contiguous


def test_feedback_stays_aligned_with_its_candidate(tmp_path):
    encoded = built(write_shop(tmp_path / "shop", [shop_frame(9)]), tmp_path / "e", target="label")
    # In the test logs, the label of candidate i is 1 - i / 2; only candidate 0 has feedback 1.
    assert encoded.feedback.dtype == np.float32
    assert (encoded.feedback == (encoded.labels == 1)).all()
    assert 0 < encoded.feedback.sum() < len(encoded.feedback)
    without = write_shop(tmp_path / "without", [shop_frame().drop("feedback")])
    assert built(without, tmp_path / "f").feedback is None


def test_a_log_without_the_columns_of_the_target_is_refused(tmp_path):
    log = write_shop(tmp_path / "shop", [shop_frame().drop("label", "feedback")])
    with pytest.raises(DataError, match=r"shop has no column 'label', .* computed: funnel, level"):
        built(log, tmp_path / "e", target="label")
    with pytest.raises(ConfigError, match=r"no target called 'lable' \(did you mean 'label'\?\)"):
        built(log, tmp_path / "e", target="lable")


def test_a_log_of_another_schema_is_refused_before_any_part_is_read(tmp_path):
    log = write_shop(tmp_path / "shop")
    (log.path / log.manifest.parts[0].path).unlink()
    more = Feature(name="colour", role="item", kind="categorical")
    fitted = FittedSchema(features=(*SCHEMA.features, more))
    with pytest.raises(SchemaError, match=r"shop: the schema differs .*: no 'colour'"):
        built(log, tmp_path / "e", fitted=fitted)


def test_values_of_another_type_are_refused_with_the_file_name(tmp_path):
    fitted = fit_schema(SCHEMA, [shop_frame()])
    frame = shop_frame().with_columns(pl.Series("user", [1, 2, 3]))
    log = write_shop(tmp_path / "shop", [frame])
    message = r"part-00000\.parquet: .*'user': the schema was fitted to strings; found Int64"
    with pytest.raises(SchemaError, match=message):
        built(log, tmp_path / "e", fitted=fitted)


def test_a_damaged_part_is_refused_and_not_changed(tmp_path):
    log = write_shop(tmp_path / "shop", [shop_frame(4)], rows_per_part=2)
    fitted = fit_schema(log.schema, log.frames())
    file = log.path / log.manifest.parts[1].path
    content = bytearray(file.read_bytes())
    content[50] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="checksum does not match"):
        built(RequestLog.open(log.path), tmp_path / "e", fitted=fitted)
    assert file.read_bytes() == content


def test_a_history_length_of_0_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="history_length must be at least 1; got 0"):
        built(write_shop(tmp_path / "shop"), tmp_path / "e", history_length=0)


class TestOfFrame:
    FITTED = fit_schema(SCHEMA, [shop_frame(6)])

    def test_candidates_keep_their_order_and_only_features_are_needed(self):
        frame = shop_frame(6).drop("request_id", "level", "position", "label", "feedback")
        log = EncodedLog.of_frame(frame, self.FITTED)
        codes = Encoder(self.FITTED)(
            self.FITTED["video"], pl.Series([v for vs in frame["video"] for v in vs])
        )
        assert log.items["video"].tolist() == codes.tolist()
        assert log.request_ids.to_list() == list(range(6))
        assert log.labels is None
        assert log.levels is None

    def test_an_encoder_can_be_kept_for_many_frames(self):
        encoder = Encoder(self.FITTED)
        one = EncodedLog.of_frame(shop_frame(6), encoder, target="level")
        same(one, EncodedLog.of_frame(shop_frame(6), self.FITTED, target="level"))

    @pytest.mark.parametrize(
        ("frame", "error", "message"),
        [
            (shop_frame().drop("price"), SchemaError, "features are missing: price; found"),
            (
                shop_frame().with_columns(pl.Series("price", [[1.0], [1.0], [1.0]])),
                DataError,
                r"candidates: lists of unequal length in 2 requests, first in row 1: video 2, "
                r"price 1; expected",
            ),
            (
                shop_frame().with_columns(pl.Series("seconds", [[], [], []])),
                DataError,
                r"history: lists of unequal length in 2 requests, first in row 1",
            ),
            (shop_frame().with_columns(price=1.0), SchemaError, "'price' must be a list per"),
            (
                shop_frame().with_columns(pl.Series("watched", [[], None, [1, 2]])),
                SchemaError,
                "'watched' must be a list per request; found .* with nulls",
            ),
            (
                shop_frame().with_columns(pl.Series("label", [[None], [1, 2], [1, 2, 3]])),
                DataError,
                "column 'label' has 1 null values; fill them",
            ),
        ],
    )
    def test_a_frame_of_another_schema_is_refused(self, frame, error, message):
        with pytest.raises(error, match=message):
            EncodedLog.of_frame(frame, self.FITTED)

    def test_a_frame_without_candidate_columns_is_refused(self):
        fitted = FittedSchema(
            features=(Feature(name="user", role="request", kind="categorical", buckets=3),)
        )
        with pytest.raises(SchemaError, match="found no column of candidates; add"):
            EncodedLog.of_frame(pl.DataFrame({"user": [1]}), fitted)


def test_level_names_reach_the_levels(tmp_path):
    encoded = built(write_shop(tmp_path / "shop", [shop_frame(6)]), tmp_path / "e")
    assert int(encoded.levels.max()) == len(LEVELS) - 1


def test_a_relabelling_has_a_value_for_each_level_of_the_log(tmp_path):
    log = write_shop(tmp_path / "shop")
    encoded = built(log, tmp_path / "e", target=Relabelling(z=(0, 5, 6)))
    assert dict(zip(encoded.levels, encoded.labels, strict=True)) == {0: 0.0, 1: 5.0, 2: 6.0}
    with pytest.raises(ConfigError, match="has 3 levels, so z of the target must have 3 values"):
        built(log, tmp_path / "f", target=Relabelling(z=(0, 1, 2, 3)))
