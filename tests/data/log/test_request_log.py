import hashlib
import json
import re
import shutil
from collections import Counter
from datetime import UTC, date, datetime
from random import Random

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Feature, Schema
from tests.data.shops import SCHEMA, shop_frame, write_shop


def edit_manifest(path, **changes):
    """Change entries and remove the checksum, as in a data set of version 0.3."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["checksum"]
    (path / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def test_a_written_log_is_read_back(tmp_path):
    log = write_shop(tmp_path / "shop")
    (frame,) = log.frames()
    assert_frame_equal(frame, shop_frame(), check_dtypes=False, check_column_order=False)
    assert frame.schema["level"] == pl.List(pl.Int8)
    assert frame.schema["position"] == pl.List(pl.Int16)
    assert frame.schema["label"] == frame.schema["feedback"] == pl.List(pl.Float32)
    assert log.schema == SCHEMA
    assert (log.manifest.requests, log.manifest.candidates) == (3, 6)
    assert tuple(frame.columns) == log.manifest.columns
    assert log.manifest.time_range is None


def test_only_the_given_columns_are_read_in_their_order(tmp_path):
    log = write_shop(tmp_path / "shop")
    (frame,) = log.frames(["level", "request_id"])
    assert frame.columns == ["level", "request_id"]


def test_an_unknown_column_is_reported_with_the_nearest_one(tmp_path):
    log = write_shop(tmp_path / "shop")
    with pytest.raises(DataError, match=r"no column 'vdeo' \(did you mean 'video'\?\); there are"):
        list(log.frames(["vdeo"]))


def test_days_are_folders_in_order_and_the_time_range_is_utc(tmp_path):
    frames = [shop_frame(20, days=3), shop_frame(20, first=20, days=3)]
    log = write_shop(tmp_path / "shop", frames)
    assert [p.path for p in log.manifest.parts] == [
        f"requests/day=2024-05-0{day}/part-00000.parquet" for day in (1, 2, 3)
    ]
    assert [p.day for p in log.manifest.parts] == [date(2024, 5, day) for day in (1, 2, 3)]
    times = pl.concat(frames)["timestamp"]
    assert log.manifest.time_range == (times.min(), times.max())
    assert log.manifest.time_range[0] == datetime(2024, 5, 1, 23, tzinfo=UTC)
    for part in log.manifest.parts:
        assert set(log.read(part)["timestamp"].dt.date()) == {part.day}
    back = pl.concat(log.frames()).sort("request_id")
    expected = pl.concat(frames).sort("request_id")
    assert_frame_equal(back, expected, check_dtypes=False, check_column_order=False)


def test_days_are_in_utc_for_all_zones_of_timestamps(tmp_path):
    frame = shop_frame(1, days=1).with_columns(
        pl.col("timestamp").dt.convert_time_zone("Asia/Tokyo")  # 08:00 of the next day there
    )
    log = write_shop(tmp_path / "shop", [frame])
    assert log.manifest.parts[0].day == date(2024, 5, 1)


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [
        ({"rows_per_part": 4}, [4, 4, 2]),
        ({"candidates_per_part": 5}, [3, 3, 3, 1]),  # requests have 1, 2, 3, 1, ...
        ({"rows_per_part": 2, "candidates_per_part": 3}, [2, 1, 2, 1, 2, 1, 1]),
    ],
)
def test_parts_are_bounded_by_requests_and_by_candidates(tmp_path, limit, sizes):
    log = write_shop(tmp_path / "shop", [shop_frame(10)], **limit)
    assert [p.requests for p in log.manifest.parts] == sizes
    assert [f.height for f in log.frames()] == sizes
    assert pl.concat(log.frames())["request_id"].to_list() == shop_frame(10)["request_id"].to_list()


@pytest.mark.parametrize("size", [1, 3, 5, 10])
def test_part_sizes_do_not_depend_on_the_sizes_of_frames(tmp_path, size):
    frames = [shop_frame(min(size, 10 - r), first=r) for r in range(0, 10, size)]
    log = write_shop(tmp_path / "shop", frames, rows_per_part=4)
    assert [p.requests for p in log.manifest.parts] == [4, 4, 2]


def test_a_missing_folder_is_reported_with_the_command_that_prepares_one(tmp_path):
    with pytest.raises(DataError, match=r"none: no such folder; make a data set .* prepare"):
        RequestLog.open(tmp_path / "none")


def test_a_folder_or_file_that_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"not a data set: it has no manifest\.json"):
        RequestLog.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="not a data set"):
        RequestLog.open(tmp_path / "file")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_an_unreadable_manifest_is_refused(tmp_path, content):
    write_shop(tmp_path / "shop")
    (tmp_path / "shop" / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read as JSON: .*prepare"):
        RequestLog.open(tmp_path / "shop")


@pytest.mark.parametrize("version", [2, None, "1"])
def test_another_format_is_refused_with_both_versions(tmp_path, version):
    write_shop(tmp_path / "shop")
    edit_manifest(tmp_path / "shop", format=version)
    with pytest.raises(DataError, match=rf"expected a data set of format 1, found {version!r}"):
        RequestLog.open(tmp_path / "shop")


def test_a_manifest_that_is_a_list_is_refused(tmp_path):
    write_shop(tmp_path / "shop")
    (tmp_path / "shop" / "manifest.json").write_text("[]")
    with pytest.raises(DataError, match="expected a data set of format 1, found None"):
        RequestLog.open(tmp_path / "shop")


def test_all_mistakes_of_a_manifest_are_reported_at_once(tmp_path):
    write_shop(tmp_path / "shop")
    edit_manifest(tmp_path / "shop", requests="many", colour="red")
    with pytest.raises(DataError, match=r"not a manifest: .*requests: .*colour: "):
        RequestLog.open(tmp_path / "shop")


def test_a_part_outside_the_folder_is_refused(tmp_path):
    log = write_shop(tmp_path / "shop")
    part = json.loads(log.manifest.parts[0].model_dump_json())
    edit_manifest(tmp_path / "shop", parts=[{**part, "path": "../other.parquet"}])
    with pytest.raises(DataError, match="must be a path inside the folder"):
        RequestLog.open(tmp_path / "shop")


def test_counts_that_do_not_add_up_are_refused(tmp_path):
    write_shop(tmp_path / "shop")
    edit_manifest(tmp_path / "shop", candidates=7)
    with pytest.raises(DataError, match="expected 7 candidates, found 6 in its parts"):
        RequestLog.open(tmp_path / "shop")


def test_an_empty_data_set_is_refused(tmp_path):
    write_shop(tmp_path / "shop")
    edit_manifest(tmp_path / "shop", requests=0, candidates=0, parts=[])
    with pytest.raises(DataError, match="the data set is empty"):
        RequestLog.open(tmp_path / "shop")


def test_a_missing_part_is_named(tmp_path):
    log = write_shop(tmp_path / "shop")
    (log.path / log.manifest.parts[0].path).unlink()
    with pytest.raises(DataError, match=r"part-00000\.parquet: missing, though manifest\.json"):
        RequestLog.open(tmp_path / "shop")
    with pytest.raises(DataError, match=r"part-00000\.parquet: cannot be read: No such file"):
        list(log.frames())


def test_a_truncated_parquet_file_is_named_with_both_sizes(tmp_path):
    log = write_shop(tmp_path / "shop")
    file = log.path / log.manifest.parts[0].path
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:100])
    message = rf"part-00000\.parquet: truncated: expected {size} bytes, found 100; copy"
    with pytest.raises(DataError, match=message):
        RequestLog.open(tmp_path / "shop")
    with pytest.raises(DataError, match=r"part-00000\.parquet: checksum does not match"):
        list(log.frames())


def test_one_flipped_bit_changes_the_checksum(tmp_path):
    log = write_shop(tmp_path / "shop")
    part = log.manifest.parts[0]
    content = bytearray((log.path / part.path).read_bytes())
    content[len(content) // 2] ^= 1
    (log.path / part.path).write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    message = rf"checksum does not match: expected sha256 {part.sha256}, found {found}; copy"
    with pytest.raises(DataError, match=message):
        list(RequestLog.open(tmp_path / "shop").frames())


def test_bytes_that_are_not_parquet_are_refused_even_with_a_matching_checksum(tmp_path):
    log = write_shop(tmp_path / "shop")
    content = (log.path / log.manifest.parts[0].path).read_bytes()[:100]
    part = log.manifest.parts[0].model_copy(
        update={"bytes": 100, "sha256": hashlib.sha256(content).hexdigest()}
    )
    (log.path / part.path).write_bytes(content)
    edit_manifest(log.path, parts=[json.loads(part.model_dump_json())])
    with pytest.raises(DataError, match=r"part-00000\.parquet: not a Parquet file with columns"):
        list(RequestLog.open(log.path).frames())


def test_a_part_with_another_number_of_requests_is_refused(tmp_path):
    log = write_shop(tmp_path / "shop")
    part = log.manifest.parts[0].model_copy(update={"requests": 4})
    with pytest.raises(DataError, match="expected 4 requests, found 3"):
        log.read(part)


def test_without_a_limit_parts_are_bounded_by_feature_values(tmp_path, monkeypatch):
    monkeypatch.setattr("cascaderank.data.log.writer._VALUES_PER_PART", 10)  # of 2 item features
    log = write_shop(tmp_path / "shop", [shop_frame(10)])
    assert [p.requests for p in log.manifest.parts] == [3, 3, 3, 1]


def listed_twice(manifest):
    manifest["parts"] *= 2
    for unit in ("requests", "candidates"):
        manifest[unit] *= 2


def copied_under_another_name(manifest):
    listed_twice(manifest)
    manifest["parts"][1] = {**manifest["parts"][1], "path": "requests/copy.parquet"}


def with_vocabulary(manifest):
    manifest["schema"]["features"][0]["vocabulary"] = "nosuch"


def with_buckets(manifest):
    manifest["schema"]["features"][-1]["buckets"] = 10**18


CONTRADICTIONS = {
    "parts 0 and 1 are the same file, requests/part-00000": listed_twice,
    "copy.parquet has the same content as requests/part-00000": copied_under_another_name,
    "level_names: expected names of the levels, found none": lambda m: m.pop("level_names"),
    "level_names: expected different names": lambda m: m.update(level_names=["a", "a", "b"]),
    "level_names: expected no levels": lambda m: m["columns"].remove("level"),
    "feature 'user': expected the vocabulary of a feature, found 'nosuch'": with_vocabulary,
    "buckets: Input should be less than or equal to": with_buckets,
    "columns: 'level' is listed twice": lambda m: m["columns"].append("level"),
    "columns: expected all features of the schema, found no 'hour'": lambda m: m["columns"].remove(
        "hour"
    ),
    "columns: expected features of the schema, found hours": lambda m: m["columns"].append("hours"),
    "time_range: expected one if": lambda m: m["columns"].append("timestamp"),
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path, message):
    """With and without a checksum: those of version 0.3 and earlier have none."""
    path = write_shop(tmp_path / "shop").path / "manifest.json"
    manifest = json.loads(path.read_text())
    CONTRADICTIONS[message](manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"manifest\.json: checksum does not match: .*; copy the"):
        RequestLog.open(tmp_path / "shop")
    shutil.copyfile(
        tmp_path / "shop/requests/part-00000.parquet", tmp_path / "shop/requests/copy.parquet"
    )
    del manifest["checksum"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=rf"manifest\.json: .*{re.escape(message)}.*prepare"):
        RequestLog.open(tmp_path / "shop")


def test_parts_in_another_order_change_the_checksum(tmp_path):
    path = write_shop(tmp_path / "shop", [shop_frame(10)], rows_per_part=4).path / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest))
    RequestLog.open(tmp_path / "shop")  # white space does not matter
    manifest["parts"].reverse()
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="checksum does not match: expected sha256"):
        RequestLog.open(tmp_path / "shop")


def test_a_data_set_without_checksum_has_the_same_fingerprint(tmp_path):
    log = write_shop(tmp_path / "shop")
    assert log.manifest.checksum is not None
    edit_manifest(tmp_path / "shop")
    old = RequestLog.open(tmp_path / "shop")
    assert (old.manifest.checksum, old.fingerprint) == (None, log.fingerprint)


def rewritten(log, frame, **counts):
    """Replace the only part of a log, with its checksum, and open the log again."""
    part = json.loads(log.manifest.parts[0].model_dump_json()) | counts
    frame.write_parquet(log.path / part["path"])
    content = (log.path / part["path"]).read_bytes()
    part |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit_manifest(log.path, parts=[part], **counts)
    return RequestLog.open(log.path)


def test_a_request_twice_is_refused_when_it_is_encoded(tmp_path):
    log = write_shop(tmp_path / "shop")
    (frame,) = log.frames()
    log = rewritten(log, pl.concat([frame, frame[1:2]]), requests=4, candidates=8)
    fitted = fit_schema(log.schema, log.frames())
    message = r"shop: request_id must be unique; 1 are not, first 'r0001'"
    with pytest.raises(DataError, match=message):
        EncodedLog.build(log, fitted, target=None, folder=tmp_path / "columns")


def test_a_part_with_another_number_of_candidates_is_refused(tmp_path):
    log = write_shop(tmp_path / "shop")
    (frame,) = log.frames()
    log = rewritten(log, frame, candidates=7)
    with pytest.raises(DataError, match=r"part-00000\.parquet: expected 7 candidates, found 6"):
        list(log.frames(["video"]))
    assert list(log.frames(["user"]))


def test_a_vocabulary_of_no_feature_cannot_be_written(tmp_path):
    seen = Feature(name="seen", role="history", kind="categorical", vocabulary="vdeo")
    with pytest.raises(ConfigError, match="feature 'seen': expected the vocabulary of"):
        write_shop(tmp_path / "shop", schema=Schema(features=(seen,)))
    assert not list(tmp_path.iterdir())


def test_any_flipped_bit_of_a_data_set_is_refused_or_harmless(tmp_path):
    log = write_shop(tmp_path / "shop", [shop_frame(10, days=2)])
    rows, random = [frame.to_dicts() for frame in log.frames()], Random(0)
    refused = Counter()
    for file in sorted(p for p in log.path.rglob("*") if p.is_file()):
        good = file.read_bytes()
        flips = [(random.randrange(len(good)), 1 << random.randrange(8)) for _ in range(60)]
        cuts = [good[: random.randrange(len(good))] for _ in range(6)]
        for content in (*(good[:p] + bytes([good[p] ^ bit]) + good[p + 1 :] for p, bit in flips),
                        *cuts, good * 2):  # fmt: skip
            file.write_bytes(content)
            try:
                found = RequestLog.open(log.path)
                assert [frame.to_dicts() for frame in found.frames()] == rows
                assert found.manifest == log.manifest
                assert json.loads(content) == json.loads(good)  # only white space differs
            except DataError as error:
                refused[file.name] += file.name in str(error)
        file.write_bytes(good)
    assert refused["part-00000.parquet"] == 2 * 67
    assert 50 <= refused["manifest.json"] <= 67
