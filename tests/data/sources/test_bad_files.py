"""What is no regular file, is far larger inside than outside, or cannot be looked up, is refused."""

import errno
import gzip
import os
import resource
import shutil
import subprocess
import sys
import zlib

import numpy as np
import polars as pl
import pytest

from cascaderank import expansion
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES, propose
from cascaderank.data.sources._shared import input_files
from cascaderank.data.sources._shared.input_files import read_lines
from cascaderank.errors import ConfigError, DataError
from cascaderank.expansion import VARIABLE
from cascaderank.regular_files import check_path, read_file, system_errors
from cascaderank.settings.base import GivenPath, Settings
from cascaderank.text_files import read_text
from tests.bad_paths import (
    IMPOSSIBLE,
    IMPOSSIBLE_MESSAGE,
    NOT_REGULAR,
    NOT_REGULAR_MESSAGE,
)
from tests.data.sources.recflow_files import made_day, write_day
from tests.data.sources.short_videos import histories, write_rand, write_rec

pytestmark = pytest.mark.timeout(60)

ROWS = "request_id,item,label\n1,5,1\n1,6,0\n"
LETOR = "2 qid:1 1:0.5\n0 qid:1 1:0.25\n"


def long_folder(folder):
    folder.mkdir()
    (folder / "a.csv").write_text(ROWS)
    (folder / "b.csv").write_text(ROWS.replace("\n1", "\n2"))
    return folder


def letor_folder(folder):
    folder.mkdir()
    (folder / "a.txt").write_text("2 1:1\n0 1:2\n")
    (folder / "a.txt.query").write_text("2\n")
    (folder / "b.txt").write_text(LETOR)
    return folder


def trec_folder(folder):
    folder.mkdir()
    (folder / "a.run").write_text("q1 Q0 d1 1 3.0 bm25\nq1 Q0 d2 2 2.0 bm25\n")
    (folder / "b.run").write_text("q1 Q0 d1 1 3.0 other\n")
    (folder / "qrels").write_text("q1 0 d1 1\n")
    return folder


def recflow_folder(folder):
    return write_day(folder, "2024-01-13", *made_day("2024-01-13", 3))


MADE = {
    "long": (long_folder, ["a.csv", "b.csv"]),
    "letor": (letor_folder, ["a.txt", "a.txt.query", "b.txt"]),
    "trec": (trec_folder, ["a.run", "b.run", "qrels"]),
    "recflow": (
        recflow_folder,
        ["all_stage/2024-01-13.feather", "seq_effective_50_dict/2024-01-13.pkl"],
    ),
    "kuairand": (
        lambda folder: write_rand(folder, before=histories()),
        ["exposures.parquet", "user_features.parquet", "video_features_basic.parquet",
         "user_histories.parquet"],
    ),
    "kuairec": (
        write_rec,
        ["big_matrix.csv", "user_features.csv", "item_categories.csv", "item_daily_features.csv"],
    ),
}  # fmt: skip
"""Function that writes small files of a source into a folder, and their names."""


def prepare(source, path, to, **options):
    if source == "long":
        options.setdefault("item_features", ("item",))
    SOURCES[source](path, to, overwrite=True, **options)
    return pl.concat(RequestLog.open(to).frames())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One folder of valid files for each source."""
    root = tmp_path_factory.mktemp("made")
    return {name: write(root / name) for name, (write, _) in MADE.items()}


@pytest.mark.parametrize("kind", NOT_REGULAR)
@pytest.mark.parametrize(
    ("source", "name"), [(source, name) for source, (_, names) in MADE.items() for name in names]
)
def test_only_regular_files_of_a_folder_are_read(made, tmp_path, source, name, kind):
    folder = tmp_path / "files"
    shutil.copytree(made[source], folder)
    path = folder / name
    path.unlink()
    NOT_REGULAR[kind](path)
    if source in ("long", "letor") and kind == "folder" and ".query" not in name:
        assert prepare(source, folder, tmp_path / "log").height == 1, "from the other file"
        return
    if source == "trec" and kind == "folder" and name != "qrels":  # named in the notes
        prepare(source, folder, tmp_path / "log")
        notes = RequestLog.open(tmp_path / "log").manifest.extra["notes"]
        assert "a folder inside the folder" in notes["skipped_files"][str(path)]
        return
    with pytest.raises(DataError, match=NOT_REGULAR_MESSAGE + "|expected at least one qrels"):
        prepare(source, folder, tmp_path / "log")
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("kind", NOT_REGULAR)
@pytest.mark.parametrize("source", MADE)
def test_what_is_given_itself_must_be_regular(tmp_path, source, kind):
    path = tmp_path / "given"
    NOT_REGULAR[kind](path)
    with pytest.raises(DataError, match=rf"given: .*({NOT_REGULAR_MESSAGE}|expected .*folder)"):
        prepare(source, path, tmp_path / "log")


@pytest.mark.parametrize("kind", IMPOSSIBLE)
@pytest.mark.parametrize("source", MADE)
def test_paths_that_cannot_be_looked_up_are_refused(made, tmp_path, source, kind):
    path = IMPOSSIBLE[kind](tmp_path)
    with pytest.raises(DataError, match=IMPOSSIBLE_MESSAGE) as error:
        prepare(source, path, tmp_path / "log")
    str(error.value).encode()  # can be printed
    with pytest.raises(DataError, match=IMPOSSIBLE_MESSAGE):
        prepare(source, made[source], path)


@pytest.mark.parametrize("kind", ["pipe", "endless device", "folder"])
def test_options_and_schemas_are_regular_files(made, tmp_path, kind):
    path = tmp_path / "schema.json"
    NOT_REGULAR[kind](path)
    with pytest.raises(DataError, match=r"schema\.json: cannot be read: expected a"):
        prepare("long", made["long"], tmp_path / "log", schema=path, item_features=())
    NOT_REGULAR[kind](tmp_path / "rows.csv")
    with pytest.raises(DataError, match=NOT_REGULAR_MESSAGE):
        propose("long", tmp_path / "rows.csv")


def test_a_file_of_a_folder_has_a_name_in_utf8(made, tmp_path):
    shutil.copytree(made["long"], tmp_path / "files")
    (tmp_path / "files" / os.fsdecode(b"\xff.csv")).write_text(ROWS)
    with pytest.raises(DataError, match=r"\\xff.csv: expected a path in UTF-8"):
        prepare("long", tmp_path / "files", tmp_path / "log")


@pytest.mark.parametrize("source", MADE)
def test_a_refusal_of_the_system_is_an_error_of_the_data(made, tmp_path, monkeypatch, source):
    """Folders without permission, which the tests cannot make: they may run as root."""

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", os.fspath(path))

    for name in ("iterdir", "glob", "rglob"):
        monkeypatch.setattr(f"pathlib.Path.{name}", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        prepare(source, made[source], tmp_path / "log")


def test_a_folder_inside_that_cannot_be_read_is_not_left_out(made, tmp_path, monkeypatch):
    shutil.copytree(made["long"], tmp_path / "files")
    shutil.copytree(made["long"], tmp_path / "files" / "closed")
    scan = os.scandir

    def closed(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match=r"closed: Permission denied"):
        prepare("long", tmp_path / "files", tmp_path / "log")


@pytest.mark.parametrize("source", ["long", "recflow", "kuairand", "kuairec"])
def test_a_working_folder_has_a_name_in_utf8(made, tmp_path, monkeypatch, source):
    folder = tmp_path / os.fsdecode(b"\xff")
    shutil.copytree(made[source], folder / "files")
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match=r"\\xff/files.*: expected a path in UTF-8"):
        prepare(source, "files", tmp_path / "log")


def test_the_error_names_the_file_and_others_are_not_changed():
    with pytest.raises(DataError, match=r"^a\.csv: Permission denied$"), system_errors(DataError):
        raise PermissionError(13, "Permission denied", "a.csv")
    with pytest.raises(OSError, match="a worker"), system_errors(DataError):
        raise OSError("a worker")


def test_a_path_in_settings_is_not_empty(tmp_path):
    class Own(Settings):
        path: GivenPath

    assert Own(path="a").path.name == "a"
    with pytest.raises(ValueError, match="found an empty text"):
        Own(path="")
    assert check_path(tmp_path / "absent", ConfigError) == tmp_path / "absent"


# Copies of files


def test_a_file_is_read_once_under_all_its_names(made, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text(ROWS)
    (tmp_path / "hard.csv").hardlink_to(rows)
    (tmp_path / "soft.csv").symlink_to(rows)
    for other in ("rows.csv", "hard.csv", "soft.csv"):
        with pytest.raises(DataError, match=f"{other}: this file was given twice"):
            prepare("long", [rows, tmp_path / other], tmp_path / "log")


@pytest.mark.parametrize("code", [123, 1920])
def test_a_glob_is_no_path_of_windows(made, tmp_path, monkeypatch, code):
    """There, the system refuses a name with a ``*`` before it looks for it."""
    stat = type(tmp_path).stat

    def of_windows(path, **options):
        if "*" in path.name:
            error = OSError(
                errno.EINVAL, "The filename, directory name, or volume label is incorrect"
            )
            error.winerror = code
            raise error
        return stat(path, **options)

    monkeypatch.setattr(type(tmp_path), "stat", of_windows)
    glob = made["long"] / "*.csv"
    if code == 123:
        monkeypatch.setattr(type(tmp_path), "exists", lambda path: os.path.exists(path))  # noqa: PTH110
        assert prepare("long", glob, tmp_path / "log").height == 2
    else:
        with pytest.raises(
            DataError, match=r"\*.csv: cannot be used: The filename, directory name"
        ):
            prepare("long", glob, tmp_path / "log")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_copy_of_a_file_is_refused(made, tmp_path, suffix):
    paths = [tmp_path / f"{name}.{suffix}" for name in ("rows", "other", "copy")]
    for path in paths:
        table = pl.DataFrame({"request_id": 1, "item": [7 if path == paths[1] else 5], "label": 1})
        table.write_csv(path) if suffix == "csv" else table.write_parquet(path)
    with pytest.raises(DataError, match=rf"copy.{suffix}: expected rows of its own.*rows.{suffix}"):
        prepare("long", paths, tmp_path / "log")
    assert prepare("long", paths[:2], tmp_path / "log")["item"].to_list() == [[5, 7]]
    kept = prepare("long", paths, tmp_path / "log", repeated="keep")
    assert kept["item"].to_list() == [[5, 7, 5]]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_several_files_may_have_no_rows(tmp_path, suffix):
    table = pl.DataFrame({"request_id": 1, "item": [5, 6], "label": [1, 0]})
    files = [tmp_path / f"{name}.{suffix}" for name in "abc"]
    for path, part in zip(files, (table, table[:0], table[:0]), strict=True):
        part.write_csv(path) if suffix == "csv" else part.write_parquet(path)
    assert prepare("long", files, tmp_path / "log")["item"].to_list() == [[5, 6]]
    with pytest.raises(DataError, match=r"expected candidates, found no rows"):
        prepare("long", files[1:], tmp_path / "log")
    shutil.copy(files[0], files[2])
    with pytest.raises(DataError, match=rf"c.{suffix}: expected rows of its own"):
        prepare("long", files, tmp_path / "log")


FOLDERS = {
    "long": ["day.parquet", "day.csv"],
    "letor": ["old.txt"],
    "kuairand": ["log_standard_9.csv", "user_features_old", "video_features_basic_parts.csv"],
    "recflow": ["all_stage/old.feather", "seq_effective_50_dict/2024-01-12.pkl"],
}


@pytest.mark.parametrize("source", FOLDERS)
def test_a_folder_may_have_the_name_of_a_data_file(made, tmp_path, source):
    folder = tmp_path / "files"
    if source == "kuairand":
        write_rand(folder, official=True)
    else:
        shutil.copytree(made[source], folder)
    expected = prepare(source, folder, tmp_path / "log")
    for name in FOLDERS[source]:
        (folder / name).mkdir()
    assert prepare(source, folder, tmp_path / "log").equals(expected)


def test_equal_files_in_folders_with_other_values_are_no_copies(tmp_path):
    for day in (1, 2):
        (tmp_path / f"files/day={day}").mkdir(parents=True)
        (tmp_path / f"files/day={day}/a.csv").write_text(ROWS)
    frame = prepare("long", tmp_path / "files", tmp_path / "log", item_features=("item", "day"))
    assert frame["day"].to_list() == [[1, 1, 2, 2]]


def test_a_copy_of_an_official_file_is_refused(tmp_path):
    folder = write_rand(tmp_path / "files", official=True)
    shutil.copy(folder / "log_standard_4_08_to_4_21_pure.csv", folder / "log_standard_copy.csv")
    with pytest.raises(DataError, match=r"log_standard_copy.csv: expected rows of its own"):
        prepare("kuairand", folder, tmp_path / "log")


# Size: what a file may grow to, and how long a line may be


def text_bomb(unit, size, head=b""):
    """A gzip file of a head and a repeated unit."""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = unit * (2**16 // len(unit))
    content = pack.compress(head)
    for _ in range(size // len(block) + 1):
        content += pack.compress(block)
    return content + pack.flush()


BOMBS = {
    "long": [("a.csv", b"1,5,1\n", b"request_id,item,label\n")],
    "letor": [("a.txt", b"1 qid:1 1:1\n", b"")],
    "trec": [("a.run", b"q Q0 d 1 1 t\n", b""), ("qrels", b"q 0 d 1\n", b"")],
    "kuairec": [("big_matrix.csv", b"\n", b"user_id,video_id,timestamp\n")],
}


@pytest.mark.parametrize(
    ("source", "name", "unit", "head"), [(s, *bomb) for s, bombs in BOMBS.items() for bomb in bombs]
)
def test_text_may_not_be_far_larger_than_its_gzip_file(
    made, tmp_path, monkeypatch, source, name, unit, head
):
    monkeypatch.setattr(expansion, "_ALWAYS_ALLOWED_TEXT", 2**17)
    folder = tmp_path / "files"
    shutil.copytree(made[source], folder)
    (folder / name).write_bytes(text_bomb(unit, 2**19, head))
    told = rf"{name}: cannot be read: its content is [0-9,]+ bytes, more than 100 times"
    with pytest.raises(DataError, match=told):
        prepare(source, folder, tmp_path / "log")


def test_the_ratio_of_sizes_can_be_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(expansion, "_ALWAYS_ALLOWED_TEXT", 2**17)
    path = tmp_path / "a.gz"
    path.write_bytes(text_bomb(b"0\n", 2**18))
    monkeypatch.setenv(VARIABLE, "2000")
    assert sum(map(len, read_lines(path))) > 2**18
    monkeypatch.setenv(VARIABLE, "50")
    with pytest.raises(DataError, match=rf"more than 50 times .* {VARIABLE}"):
        list(read_lines(path))
    for wrong in ("", "0.5", "-1", "many", "9" * 5000):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ConfigError, match=f"{VARIABLE}: expected a ratio"):
            list(read_lines(path))


def test_text_that_is_hard_to_compress_may_have_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr(expansion, "_ALWAYS_ALLOWED_TEXT", 2**10)
    content = b"".join(b"%d\n" % i for i in np.random.default_rng(0).integers(0, 10**9, 30_000))
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    assert b"".join(read_lines(tmp_path / "a.gz")) == content


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("source", "name"), [("long", "b.csv"), ("letor", "b.txt"), ("trec", "b.run")]
)
def test_a_line_has_a_largest_size(made, tmp_path, monkeypatch, source, name, packed):
    monkeypatch.setattr(input_files, "_MOST_BYTES", 1000)
    folder = tmp_path / "files"
    shutil.copytree(made[source], folder)
    content = (folder / name).read_bytes() + b"x" * 1001
    (folder / name).write_bytes(gzip.compress(content) if packed else content)
    line = content.count(b"\n") + 1
    with pytest.raises(DataError, match=rf"{name}, line {line}: expected a line of at most 1,000"):
        prepare(source, folder, tmp_path / "log")


def test_text_that_users_write_has_a_largest_size(tmp_path):
    with (tmp_path / "sparse.toml").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="expected at most 268,435,456 bytes, found 1,099,511,627,"):
        read_text(tmp_path / "sparse.toml")
    assert read_file(__file__, 10**6).startswith(b'"""')


TABLES = {
    "equal rows": lambda _: {"item": 5},
    "long text": lambda i: {"item": f"{i}" + "x" * 1000},
    "long lists": lambda _: {"item": [7] * 1000},
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_parquet_file_may_not_hold_far_more_than_its_size(tmp_path, monkeypatch, kind):
    table = pl.DataFrame({"request_id": 1, "label": 1, **TABLES[kind](i)} for i in range(9000))
    table.write_parquet(tmp_path / "a.parquet", compression="zstd")
    monkeypatch.setattr(expansion, "_ALWAYS_ALLOWED_TABLE", 2**16)
    monkeypatch.setenv(VARIABLE, "10")
    with pytest.raises(DataError, match=r"a.parquet: cannot be read: its content is .* 10 times"):
        prepare("long", tmp_path / "a.parquet", tmp_path / "log")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(expansion, "_ALWAYS_ALLOWED_TABLE", 2**40)
    if kind == "equal rows":
        assert prepare("long", tmp_path / "a.parquet", tmp_path / "log").height == 1


def test_a_feather_file_may_not_hold_far_more_than_its_size(tmp_path, monkeypatch):
    rows, read = made_day("2024-01-13", 3)
    folder = write_day(
        tmp_path / "files", "2024-01-13", pl.concat([rows[:1]] * 5000), read, batch=5000
    )
    monkeypatch.setattr(expansion, "_ALWAYS_ALLOWED_TABLE", 2**16)
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(DataError, match=r"13.feather: cannot be read: its content is .* 1 times"):
        prepare("recflow", folder, tmp_path / "log")


@pytest.mark.parametrize("kind", NOT_REGULAR)
@pytest.mark.parametrize("name", ["manifest.json", "part"])
def test_a_data_set_is_read_from_regular_files(made, tmp_path, name, kind):
    prepare("long", made["long"], tmp_path / "log")
    path = tmp_path / "log" / name
    if name == "part":
        (path,) = tmp_path.glob("log/requests/*.parquet")
    path.unlink()
    NOT_REGULAR[kind](path)
    with pytest.raises(DataError, match=r"cannot be read|missing|has no manifest|Too many levels"):
        list(RequestLog.open(tmp_path / "log").frames())


def test_a_part_that_became_a_pipe_does_not_block(made, tmp_path):
    """The size of a pipe is 0, and its name in a manifest can be that of any file."""
    prepare("long", made["long"], tmp_path / "log")
    log = RequestLog.open(tmp_path / "log")
    path = log.path / log.manifest.parts[0].path
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="expected a regular file, found a pipe"):
        log.read(log.manifest.parts[0])


@pytest.mark.slow
@pytest.mark.parametrize("source", ["long", "letor", "trec", "parquet"])
def test_a_bomb_takes_little_memory(made, tmp_path, source):
    """Some hundred kilobytes that hold a gigabyte, read in a process with 4 GB of addresses."""
    folder = tmp_path / "files"
    if source == "parquet":
        folder.mkdir()
        zeros = pl.repeat(0, 4 * 10**7, eager=True)
        table = pl.DataFrame({"request_id": zeros, "item": zeros, "label": zeros})
        table.write_parquet(folder / "a.parquet", row_group_size=4 * 10**7)
    else:
        shutil.copytree(made[source], folder)
        name, unit, _ = BOMBS[source][0]
        path = folder / name
        path.write_bytes(text_bomb(unit, 2**28, path.read_bytes()))
    done = subprocess.run(
        [sys.executable, "-c", READ, source.replace("parquet", "long"), folder, tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32)),
    )
    assert "DataError" in done.stderr.splitlines()[-1], done.stderr
    assert "its content is" in done.stderr


READ = """
import sys
from cascaderank.data.sources import SOURCES
source, folder, to = sys.argv[1:]
SOURCES[source](folder, to, **({"item_features": ("item",)} if source == "long" else {}))
"""
