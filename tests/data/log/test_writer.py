import json
import signal
import subprocess
import sys
import textwrap
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.errors import ConfigError, DataError
from tests.data.shops import LEVELS, SCHEMA, shop_frame, tree, write_shop


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_the_folder_appears_at_the_end_and_nothing_else_is_left(tmp_path):
    with RequestLogWriter(
        tmp_path / "shop", name="shop", schema=SCHEMA, level_names=LEVELS, rows_per_part=1
    ) as writer:
        writer.write(shop_frame())
        assert not (tmp_path / "shop").exists()
    assert names(tmp_path) == ["shop"]


def test_an_error_in_the_block_leaves_nothing(tmp_path):
    def frames():
        yield shop_frame()
        raise KeyError

    with pytest.raises(KeyError):
        write_shop(tmp_path / "shop", frames(), rows_per_part=1)
    assert names(tmp_path) == []


def test_a_killed_writer_leaves_the_old_data_set_as_it_was(tmp_path):
    write_shop(tmp_path / "shop")
    before = tree(tmp_path / "shop")
    script = """
        import os, signal, sys
        from cascaderank.data.log.request_log import RequestLogWriter
        from tests.data.shops import LEVELS, SCHEMA, shop_frame
        writer = RequestLogWriter(
            sys.argv[1], name="new", schema=SCHEMA, level_names=LEVELS, overwrite=True,
            rows_per_part=1,
        )
        with writer:
            writer.write(shop_frame(2))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "shop")],
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert tree(tmp_path / "shop") == before
    assert RequestLog.open(tmp_path / "shop").manifest.name == "shop"
    # Files left by the killed writer do not prevent a new data set.
    assert write_shop(tmp_path / "shop", name="again", overwrite=True).manifest.name == "again"


def test_an_existing_data_set_is_not_replaced_without_overwrite(tmp_path):
    write_shop(tmp_path / "shop")
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"a data set exists already; .* overwrite=True"):
        write_shop(tmp_path / "shop", name="other")
    assert tree(tmp_path) == before


def test_overwriting_replaces_all_of_it(tmp_path):
    write_shop(tmp_path / "shop", [shop_frame(9, days=3)])
    log = write_shop(tmp_path / "shop", [shop_frame(2)], name="other", overwrite=True)
    assert (log.manifest.name, log.manifest.requests) == ("other", 2)
    assert sorted(tree(tmp_path)) == ["shop/manifest.json", "shop/requests/part-00000.parquet"]


def test_a_bad_frame_leaves_the_existing_data_set(tmp_path):
    write_shop(tmp_path / "shop")
    before = tree(tmp_path)
    with pytest.raises(DataError):
        write_shop(tmp_path / "shop", [shop_frame(), shop_frame()], overwrite=True)
    assert tree(tmp_path) == before


def test_a_failed_swap_restores_the_old_data_set(tmp_path, monkeypatch):
    write_shop(tmp_path / "shop")
    before = tree(tmp_path)
    rename = Path.rename

    def fails_for_the_new(self, target):
        if self.suffix == ".partial":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr("cascaderank.atomic.exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", fails_for_the_new)
    with pytest.raises(DataError, match="No space left on device"):
        write_shop(tmp_path / "shop", name="other", overwrite=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_files_are_never_replaced(tmp_path, overwrite):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "love.txt").write_text("dear")
    with pytest.raises(DataError, match="exists and is not a data set"):
        write_shop(tmp_path / "letters", overwrite=overwrite)
    with pytest.raises(DataError, match="exists and is not a data set"):
        write_shop(tmp_path / "letters" / "love.txt", overwrite=overwrite)
    assert tree(tmp_path) == {"letters/love.txt": b"dear"}


def test_a_writer_can_be_closed_in_and_without_its_block(tmp_path):
    options = {"name": "shop", "schema": SCHEMA, "level_names": LEVELS}
    with RequestLogWriter(tmp_path / "in", **options, overwrite=True) as writer:
        writer.write(shop_frame())
        writer.close()
    writer = RequestLogWriter(tmp_path / "without", **options)
    writer.write(shop_frame())
    assert not (tmp_path / "without").exists()
    writer.close()
    assert tree(tmp_path / "in") == tree(tmp_path / "without")
    assert sorted(names(tmp_path)) == ["in", "without"]


def test_an_empty_folder_is_accepted(tmp_path):
    (tmp_path / "shop").mkdir()
    assert write_shop(tmp_path / "shop").manifest.requests == 3


def test_parent_folders_are_created(tmp_path):
    assert write_shop(tmp_path / "a" / "b" / "shop").manifest.requests == 3


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written: "):
        write_shop(tmp_path / "file" / "shop")


@pytest.mark.parametrize("frames", [[], [shop_frame(0)]])
def test_a_log_without_requests_is_refused(tmp_path, frames):
    with pytest.raises(DataError, match=r"'shop': no requests were written; is the source empty"):
        write_shop(tmp_path / "shop", frames)
    assert names(tmp_path) == []


def test_extra_facts_are_in_the_manifest(tmp_path):
    with RequestLogWriter(
        tmp_path / "shop", name="shop", schema=SCHEMA, level_names=LEVELS, extra={"a": 1}
    ) as writer:
        writer.write(shop_frame())
        writer.extra["planted"] = {"weights": [0.5, 1.5]}
    extra = RequestLog.open(tmp_path / "shop").manifest.extra
    assert extra == {"a": 1, "planted": {"weights": [0.5, 1.5]}}


def test_equal_requests_result_in_equal_files(tmp_path):
    for name in ("one", "two"):
        write_shop(tmp_path / name, [shop_frame(9, days=3)])
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_repeated_request_is_found_across_frames(tmp_path):
    frames = [shop_frame(2), shop_frame(2, first=2), shop_frame(1, first=1)]
    with pytest.raises(DataError, match=r"request_id must be unique; 1 are not, first 'r0001'"):
        write_shop(tmp_path / "shop", frames, rows_per_part=1)
    assert names(tmp_path) == []


def test_a_part_size_of_0_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be at least 1; got 0 and 5"):
        write_shop(tmp_path / "shop", rows_per_part=0, candidates_per_part=5)


def test_an_existing_data_set_is_refused_before_any_work(tmp_path):
    write_shop(tmp_path / "shop")
    with pytest.raises(DataError, match="a data set exists already"):
        RequestLogWriter(tmp_path / "shop", name="shop", schema=SCHEMA)


def test_a_data_set_written_in_the_meantime_is_not_replaced(tmp_path):
    def frames():
        yield shop_frame()
        write_shop(tmp_path / "shop", name="quicker")

    with pytest.raises(DataError, match="a data set exists already"):
        write_shop(tmp_path / "shop", frames(), name="slower")
    assert RequestLog.open(tmp_path / "shop").manifest.name == "quicker"
    assert names(tmp_path) == ["shop"]


def write_steps(path, frames, *, keys=None, stop_after=None, **options):
    """Write each frame as a step; return the steps finished by earlier writers."""
    keys = keys or {name: name for name in frames}
    options = {"name": "shop", "schema": SCHEMA, "level_names": LEVELS, **options}
    with RequestLogWriter(path, steps=keys, **options) as writer:
        before = dict(writer.finished)
        for count, (name, frame) in enumerate(frames.items()):
            if count == stop_after:
                raise KeyError
            if name not in writer.finished:
                writer.write(frame)
                writer.finish(name, {"requests": frame.height})
    return before


STEPS = {name: shop_frame(4, first=4 * i, days=2) for i, name in enumerate("abc")}


def test_finished_steps_survive_an_error(tmp_path):
    assert write_steps(tmp_path / "whole", STEPS) == {}
    with pytest.raises(KeyError):
        write_steps(tmp_path / "shop", STEPS, stop_after=2)
    assert sorted(names(tmp_path)) == [".shop.unfinished", ".shop.unfinished.json", "whole"]
    before = write_steps(tmp_path / "shop", STEPS)
    assert before == {"a": {"requests": 4}, "b": {"requests": 4}}
    assert tree(tmp_path / "shop") == tree(tmp_path / "whole")
    assert sorted(names(tmp_path)) == ["shop", "whole"]


def test_an_error_before_the_first_step_leaves_nothing(tmp_path):
    with pytest.raises(KeyError):
        write_steps(tmp_path / "shop", STEPS, stop_after=0)
    assert names(tmp_path) == []


def test_steps_with_a_changed_key_are_written_again(tmp_path):
    with pytest.raises(KeyError):
        write_steps(tmp_path / "shop", STEPS, stop_after=2)
    before = write_steps(tmp_path / "shop", STEPS, keys={"a": "changed", "b": "b", "c": "c"})
    assert list(before) == ["b"]
    write_steps(tmp_path / "whole", STEPS)
    frames = [pl.concat(RequestLog.open(tmp_path / n).frames()) for n in ("shop", "whole")]
    assert frames[0].sort("request_id").equals(frames[1].sort("request_id"))


def test_an_unfinished_data_set_of_an_earlier_version_is_resumed(tmp_path):
    """Its record names the key of a step ``mark``, and the notes ``told``."""
    with pytest.raises(KeyError):
        write_steps(tmp_path / "shop", STEPS, stop_after=1)
    record = json.loads((tmp_path / ".shop.unfinished.json").read_text())
    assert record["steps"]["a"].keys() == {"mark", "parts", "told"}
    assert write_steps(tmp_path / "shop", STEPS) == {"a": {"requests": 4}}


def test_files_of_no_finished_step_are_removed(tmp_path):
    with pytest.raises(KeyError):
        write_steps(tmp_path / "shop", STEPS, stop_after=1)
    (tmp_path / ".shop.unfinished" / "requests" / "stray.parquet").write_bytes(b"half")
    write_steps(tmp_path / "shop", STEPS)
    assert not [name for name in tree(tmp_path / "shop") if "stray" in name]


def test_two_processes_do_not_write_the_same_steps(tmp_path):
    pytest.importorskip("fcntl")
    options = {"name": "shop", "schema": SCHEMA, "level_names": LEVELS, "steps": {"a": "a"}}
    with RequestLogWriter(tmp_path / "shop", **options) as writer:
        with (
            pytest.raises(DataError, match="another process writes this data set"),
            RequestLogWriter(tmp_path / "shop", **options),
        ):
            pass
        writer.write(STEPS["a"])
        writer.finish("a", {})
    assert RequestLog.open(tmp_path / "shop").manifest.requests == 4


def test_requests_since_the_last_step_can_be_discarded(tmp_path):
    options = {"name": "shop", "schema": SCHEMA, "level_names": LEVELS, "steps": {"a": "", "b": ""}}
    with RequestLogWriter(tmp_path / "shop", rows_per_part=1, **options) as writer:
        writer.write(shop_frame(2, first=20).with_columns(user=pl.lit(7)))
        writer.discard()  # the column types are discarded, too
        writer.write(STEPS["a"])
        writer.finish("a", {})
        writer.write(shop_frame(6, first=50, days=3))
        writer.discard()
        writer.write(STEPS["b"])
        writer.finish("b", {})
    with RequestLogWriter(tmp_path / "whole", rows_per_part=1, **options) as writer:
        for step in "ab":
            writer.write(STEPS[step])
            writer.finish(step, {})
    assert tree(tmp_path / "shop") == tree(tmp_path / "whole")


def test_each_declared_step_can_be_finished_once(tmp_path):
    options = {"name": "shop", "schema": SCHEMA, "level_names": LEVELS}
    with RequestLogWriter(tmp_path / "shop", steps={"a": ""}, **options) as writer:
        writer.write(STEPS["a"])
        with pytest.raises(ConfigError, match="step 'b' is not one of the steps"):
            writer.finish("b", {})
        writer.finish("a", {})
        with pytest.raises(ConfigError, match="step 'a' is already finished"):
            writer.finish("a", {})
    with (
        pytest.raises(ConfigError, match="the writer has no steps"),
        RequestLogWriter(tmp_path / "other", **options) as writer,
    ):
        writer.finish("a", {})


def test_a_repeated_request_is_refused_at_the_end_of_its_step(tmp_path):
    frames = {"a": STEPS["a"], "b": STEPS["a"][:1], "c": STEPS["c"]}
    with pytest.raises(DataError, match="request_id must be unique; 1 are not"):
        write_steps(tmp_path / "shop", frames)
    assert list(write_steps(tmp_path / "shop", STEPS)) == ["a"]


def test_a_source_can_define_the_day_of_requests(tmp_path):
    with RequestLogWriter(
        tmp_path / "shop", name="shop", schema=SCHEMA, level_names=LEVELS
    ) as writer:
        writer.write(shop_frame(6, days=3), day=date(2024, 5, 9))
    log = RequestLog.open(tmp_path / "shop")
    assert [p.day for p in log.manifest.parts] == [date(2024, 5, 9)]
    assert [t.day for t in log.manifest.time_range] == [1, 3]
