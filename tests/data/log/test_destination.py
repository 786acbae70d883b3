"""Only what this program wrote is replaced, and what a killed writer left is removed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cascaderank import atomic
from cascaderank.atomic import exchange, move_folder, partial_file, partial_folder
from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.errors import DataError
from tests.data.shops import LEVELS, SCHEMA, shop_frame, tree, write_shop

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX systems")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_data_set_with_other_files_is_not_replaced(tmp_path):
    write_shop(tmp_path / "shop")
    (tmp_path / "shop" / "README.md").write_text("mine")
    (tmp_path / "shop" / "requests" / "notes.txt").write_text("mine")
    (tmp_path / "shop" / "empty").mkdir()
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"do not belong to the data set: README\.md, requests/no"):
        write_shop(tmp_path / "shop", overwrite=True)
    assert tree(tmp_path) == before


MANIFESTS = {
    "web": '{"name": "app", "icons": [], "format": 1}',
    "parts": '{"format": 1, "parts": [{"path": "a", "sha256": "0"}]}',
    "list": "[1, 2]",
    "text": "not JSON",
    "deep": "[" * 100_000,
    "empty": "",
}


@pytest.mark.parametrize("content", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_of_another_program_is_no_data_set(tmp_path, content):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text(content)
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"manifest\.json that is not one of cascaderank"):
        write_shop(tmp_path / "app", overwrite=True)
    assert tree(tmp_path) == before
    assert write_shop(tmp_path / "app" / "shop").manifest.requests == 3


def _of_version_0_3(path):
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content))


def _with_another_checksum(path):
    path.write_text(path.read_text().replace('"shop"', '"shop2"', 1))


@pytest.mark.parametrize("change", [_of_version_0_3, _with_another_checksum])
def test_a_data_set_of_an_earlier_version_or_damaged_is_replaced(tmp_path, change):
    log = write_shop(tmp_path / "shop")
    expected = tree(tmp_path)
    change(tmp_path / "shop" / "manifest.json")
    (log.path / log.manifest.parts[0].path).unlink()
    write_shop(tmp_path / "shop", overwrite=True)
    assert tree(tmp_path) == expected


@pytest.mark.parametrize("inner", ["inner", "requests", "a/b", "requests/../inner"])
def test_no_data_set_is_written_inside_another(tmp_path, inner):
    write_shop(tmp_path / "shop")
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"inside the data set .*shop, whose files"):
        write_shop(tmp_path / "shop" / inner, overwrite=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("to", [".", "..", "../work", "a/.."])
def test_the_working_folder_is_not_replaced(tmp_path, monkeypatch, to):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(DataError, match="found the working folder or a folder that contains it"):
        write_shop(to, overwrite=True)
    assert names(tmp_path) == ["work"]
    assert names(tmp_path / "work") == []


def test_a_link_stands_for_its_folder(tmp_path):
    write_shop(tmp_path / "disk" / "shop")
    (tmp_path / "link").symlink_to("disk/shop")
    (tmp_path / "new").symlink_to("disk/new")
    with pytest.raises(DataError, match="a data set exists already"):
        write_shop(tmp_path / "link")
    for name in ("link", "new"):
        write_shop(tmp_path / name, name="other", overwrite=True)
        assert (tmp_path / name).is_symlink()
    assert names(tmp_path) == ["disk", "link", "new"]
    assert names(tmp_path / "disk") == ["new", "shop"]
    assert RequestLog.open(tmp_path / "disk" / "shop").manifest.name == "other"


def test_a_circle_of_links_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(DataError, match="not a path that can be written"):
        write_shop(tmp_path / "a")


def with_steps(path):
    options = {"name": "shop", "schema": SCHEMA, "level_names": LEVELS}
    with RequestLogWriter(path, **options, steps={"a": "a"}) as writer:
        writer.write(shop_frame())
        writer.finish("a", {})


@pytest.mark.parametrize("kind", ["link", "file"])
def test_an_unfinished_folder_that_is_none_is_refused(tmp_path, kind):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "part.parquet").write_bytes(b"mine")
    hidden = tmp_path / ".shop.unfinished"
    hidden.symlink_to("mine") if kind == "link" else hidden.write_bytes(b"mine")
    before = tree(tmp_path)
    with pytest.raises(DataError, match="found a link or a file; remove it"):
        with_steps(tmp_path / "shop")
    assert tree(tmp_path) == before
    assert hidden.is_symlink() == (kind == "link")


def test_an_unfinished_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / ".shop.unfinished").mkdir()
    (tmp_path / ".shop.unfinished" / "thesis.txt").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"found other files: thesis\.txt"):
        with_steps(tmp_path / "shop")
    assert tree(tmp_path) == before


KILLED = """
    import os, signal, sys
    from cascaderank import atomic
    from cascaderank.data.log.request_log import RequestLogWriter
    from tests.data.shops import LEVELS, SCHEMA, shop_frame
    def killed(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[2] == "renames":
        exchange, Path, rename = atomic.exchange, atomic.Path, atomic.Path.rename
        atomic.exchange = lambda *_: False
        Path.rename = lambda p, to: killed() if p.suffix == ".partial" else rename(p, to)
    elif sys.argv[2] == "exchange":
        atomic.shutil.rmtree = killed
    with RequestLogWriter(
        sys.argv[1], name="new", schema=SCHEMA, level_names=LEVELS, overwrite=True
    ) as writer:
        writer.write(shop_frame(2))
"""


def kill(path, where):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(path), where],
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def test_a_kill_between_two_renames_is_recovered(tmp_path):
    write_shop(tmp_path / "shop")
    before = tree(tmp_path)
    kill(tmp_path / "shop", "renames")
    assert sorted(name[-4:] for name in names(tmp_path)) == [".old", "tial"]
    with pytest.raises(DataError, match=r"no such folder; .* was moved to \S+\.old"):
        RequestLog.open(tmp_path / "shop")
    with pytest.raises(DataError, match="a data set exists already"):
        write_shop(tmp_path / "shop", name="new")
    assert tree(tmp_path) == before
    assert names(tmp_path) == ["shop"]


def test_a_kill_after_the_exchange_leaves_the_new_data_set(tmp_path):
    if not exchange(*(write_shop(tmp_path / n).path for n in "ab")):
        pytest.skip("this system cannot exchange two folders in one step")
    write_shop(tmp_path / "c" / "shop")
    kill(tmp_path / "c" / "shop", "exchange")
    assert RequestLog.open(tmp_path / "c" / "shop").manifest.name == "new"
    write_shop(tmp_path / "c" / "shop", overwrite=True)
    assert names(tmp_path / "c") == ["shop"]


def test_a_former_folder_is_removed_if_it_has_no_other_files(tmp_path):
    write_shop(tmp_path / "shop")
    write_shop(tmp_path / ".shop.0123abcd.old")
    (tmp_path / ".shop.4567abcd.old").mkdir()
    (tmp_path / ".shop.4567abcd.old" / "notes.txt").write_text("mine")
    write_shop(tmp_path / "shop", overwrite=True)
    assert names(tmp_path) == [".shop.4567abcd.old", "shop"]


@pytest.mark.parametrize("system", [True, False])
def test_folders_are_exchanged_with_and_without_the_system(tmp_path, monkeypatch, system):
    if not system:
        monkeypatch.setattr(atomic, "exchange", lambda *_: False)
    for name in ("new", "shop"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    move_folder(tmp_path / "new", tmp_path / "shop")
    assert tree(tmp_path) == {"shop/file": b"new"}


def test_a_folder_replaces_an_empty_one_where_the_system_does_not(tmp_path, monkeypatch):
    """Windows renames onto no folder, not even an empty one."""

    def rename(path, to):
        if Path(to).exists():
            raise FileExistsError(17, "Cannot create a file when that file already exists", str(to))
        os.rename(path, to)  # noqa: PTH104

    monkeypatch.setattr(atomic.Path, "rename", rename)
    monkeypatch.setattr(atomic, "exchange", lambda *_: False)
    (tmp_path / "shop").mkdir()
    assert write_shop(tmp_path / "shop").manifest.requests == 3
    assert write_shop(tmp_path / "shop", overwrite=True).manifest.requests == 3
    assert names(tmp_path) == ["shop"]


def test_partial_files_of_a_living_process_and_of_others_stay(tmp_path):
    target = tmp_path / "s[1]"
    mine = [tmp_path / name for name in (".s1.00aa.partial", ".s[1].notes.partial", "s[1].partial")]
    for path in mine:
        path.write_text("mine")
    (tmp_path / ".s[1].00ff.partial").symlink_to(mine[0])
    os.mkfifo(tmp_path / ".s[1].00fe.partial")
    left = tmp_path / ".s[1].00aa.partial", tmp_path / ".s[1].00ab.partial"
    left[0].write_text("half")
    (left[1] / "requests").mkdir(parents=True)
    with partial_folder(target) as folder, partial_file(target) as file:
        assert folder.is_dir()
        assert not any(path.exists() for path in left)
        file.write_text("whole")
        folder.rmdir()
    kept = [*mine, target, tmp_path / ".s[1].00ff.partial", tmp_path / ".s[1].00fe.partial"]
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert target.read_text() == "whole"


def test_a_partial_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    made, locked = [], atomic._locked

    def removed_once(hidden):
        made.append(hidden)
        if len(made) == 1:
            hidden.rmdir()
        return locked(hidden)

    monkeypatch.setattr(atomic, "_locked", removed_once)
    with partial_folder(tmp_path / "shop") as folder:
        assert made == [made[0], folder]
    assert names(tmp_path) == []
