import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cascaderank.data.request_log import RequestLog, RequestLogWriter
from cascaderank.errors import ConfigError, DataError
from tests.data.shops import LEVELS, SCHEMA, shop_frame, tree, write_shop


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_nothing_is_there_before_the_end_and_nothing_else_after(tmp_path):
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
        from cascaderank.data.request_log import RequestLogWriter
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
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert tree(tmp_path / "shop") == before
    assert RequestLog.open(tmp_path / "shop").manifest.name == "shop"
    # What it left does not stand in the way.
    assert write_shop(tmp_path / "shop", name="again", overwrite=True).manifest.name == "again"


def test_an_existing_data_set_is_not_replaced_without_being_told_to(tmp_path):
    write_shop(tmp_path / "shop")
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"there is a data set already; .* overwrite=True"):
        write_shop(tmp_path / "shop", name="other")
    assert tree(tmp_path) == before


def test_overwriting_replaces_all_of_it(tmp_path):
    write_shop(tmp_path / "shop", [shop_frame(9, days=3)])
    log = write_shop(tmp_path / "shop", [shop_frame(2)], name="other", overwrite=True)
    assert (log.manifest.name, log.manifest.requests) == ("other", 2)
    assert sorted(tree(tmp_path)) == ["shop/manifest.json", "shop/requests/part-00000.parquet"]


def test_a_bad_frame_leaves_the_data_set_that_was_to_be_replaced(tmp_path):
    write_shop(tmp_path / "shop")
    before = tree(tmp_path)
    with pytest.raises(DataError):
        write_shop(tmp_path / "shop", [shop_frame(), shop_frame()], overwrite=True)
    assert tree(tmp_path) == before


def test_a_swap_that_fails_puts_the_old_data_set_back(tmp_path, monkeypatch):
    write_shop(tmp_path / "shop")
    before = tree(tmp_path)
    rename = Path.rename

    def fails_for_the_new(self, target):
        if self.suffix == ".partial":
            raise OSError(28, "No space left on device")
        return rename(self, target)

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


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "shop").mkdir()
    assert write_shop(tmp_path / "shop").manifest.requests == 3


def test_folders_above_are_made(tmp_path):
    assert write_shop(tmp_path / "a" / "b" / "shop").manifest.requests == 3


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written: "):
        write_shop(tmp_path / "file" / "shop")


@pytest.mark.parametrize("frames", [[], [shop_frame(0)]])
def test_a_log_without_requests_is_told(tmp_path, frames):
    with pytest.raises(DataError, match=r"'shop': no requests were written; is the source empty"):
        write_shop(tmp_path / "shop", frames)
    assert names(tmp_path) == []


def test_what_a_source_wants_remembered_is_in_the_manifest(tmp_path):
    with RequestLogWriter(
        tmp_path / "shop", name="shop", schema=SCHEMA, level_names=LEVELS, extra={"a": 1}
    ) as writer:
        writer.write(shop_frame())
        writer.extra["planted"] = {"weights": [0.5, 1.5]}
    extra = RequestLog.open(tmp_path / "shop").manifest.extra
    assert extra == {"a": 1, "planted": {"weights": [0.5, 1.5]}}


def test_equal_requests_give_equal_files(tmp_path):
    for name in ("one", "two"):
        write_shop(tmp_path / name, [shop_frame(9, days=3)])
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_request_that_is_there_twice_is_named_over_all_frames(tmp_path):
    frames = [shop_frame(2), shop_frame(2, first=2), shop_frame(1, first=1)]
    with pytest.raises(DataError, match=r"request_id must be unique; 1 are not, first 'r0001'"):
        write_shop(tmp_path / "shop", frames, rows_per_part=1)
    assert names(tmp_path) == []


def test_a_part_of_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="must be at least 1; got 0 and 5"):
        write_shop(tmp_path / "shop", rows_per_part=0, candidates_per_part=5)


def test_what_is_in_the_way_is_told_before_any_work(tmp_path):
    write_shop(tmp_path / "shop")
    with pytest.raises(DataError, match="there is a data set already"):
        RequestLogWriter(tmp_path / "shop", name="shop", schema=SCHEMA)


def test_a_data_set_that_came_meanwhile_is_not_replaced(tmp_path):
    def frames():
        yield shop_frame()
        write_shop(tmp_path / "shop", name="quicker")

    with pytest.raises(DataError, match="there is a data set already"):
        write_shop(tmp_path / "shop", frames(), name="slower")
    assert RequestLog.open(tmp_path / "shop").manifest.name == "quicker"
    assert names(tmp_path) == ["shop"]
