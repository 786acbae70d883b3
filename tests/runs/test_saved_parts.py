"""A file of scores continues after a kill, and ends with the same bytes."""

import subprocess
import sys
import time

import polars as pl
import pytest

from cascaderank.errors import RunError
from cascaderank.runs import saved_parts
from cascaderank.runs.load import load_run
from cascaderank.runs.saved_parts import ScoredRows, folder_of
from cascaderank.runs.score_run import score_run
from tests.command_line import cascaderank
from tests.data.shops import shop_frame, write_shop
from tests.runs.conftest import untrained

COMMAND = """
import sys
from cascaderank.runs import saved_parts
from cascaderank.serving import score_bundle
saved_parts._ROWS, score_bundle._ROWS = {rows}, {rows}
from cascaderank.cli import main
sys.argv[0] = "cascaderank"
main()
"""


def killed(file, *words, rows, parts):
    """Start a command with small parts, and kill it with SIGKILL when some are complete."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(rows=rows), *map(str, words), "--to", str(file)],
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + 120
    while len(list(folder_of(file).glob("*.arrow"))) < parts:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < end
        time.sleep(0.001)
    process.kill()
    process.wait()
    process.stderr.close()
    assert not file.exists(), "killed too late"
    return len(list(folder_of(file).glob("*.arrow")))


def rows_of(*values, calls=None):
    def block():
        if calls is not None:
            calls.append(values)
        return ScoredRows(frame=pl.DataFrame({"rank": list(values)}), unknown=len(values))

    return block


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(saved_parts, "_ROWS", 3)


def completed(path, key, blocks):
    with saved_parts.saved_parts(path, key) as parts:
        return [(rows.frame["rank"].to_list(), rows.unknown) for rows in parts.completed(blocks)]


def failing():
    raise ZeroDivisionError


BLOCKS = [(1, 2), (3,), (None, 5, 6, 7), (), (8,), (9, 9)]
PARTS = [([1, 2, 3], 3), ([None, 5, 6, 7], 4), ([8, 9, 9], 3)]


def blocks(calls, *, before=None):
    made = [rows_of(*values, calls=calls) if values else (lambda: EMPTY) for values in BLOCKS]
    return made if before is None else [*made[:before], failing]


EMPTY = ScoredRows(frame=pl.DataFrame(schema={"rank": pl.Int64}))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("before", range(len(BLOCKS)))
def test_what_is_complete_is_not_computed_again(tmp_path, before):
    path, calls = tmp_path / "to" / "scores.parquet", []
    assert completed(path, "key", blocks(calls)) == PARTS
    assert not path.parent.exists()
    with pytest.raises(ZeroDivisionError):
        completed(path, "key", blocks([], before=before))
    assert path.parent.exists() == (before >= 2)
    calls.clear()
    assert completed(path, "key", blocks(calls)) == PARTS
    done = 0 if before < 2 else 2 if before < 3 else 3
    assert calls == [values for values in BLOCKS[done:] if values]
    assert not folder_of(path).exists()


@pytest.mark.usefixtures("small")
def test_parts_of_other_inputs_and_damaged_parts_are_computed_again(tmp_path):
    path, calls = tmp_path / "scores.parquet", []
    for key in ("key", "other"):
        with pytest.raises(ZeroDivisionError):
            completed(path, key, blocks([], before=5))
    calls.clear()
    part = next(folder_of(path).glob("00000000-*.arrow"))
    part.write_bytes(part.read_bytes()[:200])
    assert completed(path, "other", blocks(calls)) == PARTS
    assert calls == [values for values in BLOCKS if values and len(values) < 4]
    with pytest.raises(ZeroDivisionError):
        completed(path, "key", blocks([], before=5))
    (folder_of(path) / "notes.txt").touch()
    with pytest.raises(RunError, match=r"expected parts of an unfinished file, found notes.txt"):
        completed(path, "key", [])


@pytest.mark.usefixtures("small")
def test_one_process_writes_a_file(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "scores.parquet"
    with (
        saved_parts.saved_parts(path, "key"),
        pytest.raises(RunError, match="another process writes this file"),
    ):
        completed(path, "key", [])
    assert not folder_of(path).exists()


@pytest.fixture(scope="module")
def long_shop(tmp_path_factory):
    path = tmp_path_factory.mktemp("logs") / "long"
    return write_shop(path, [shop_frame(800)])


@pytest.mark.parametrize(
    "suffix", ["parquet", *(pytest.param(s, marks=pytest.mark.slow) for s in ("jsonl", "run"))]
)
def test_a_killed_score_of_a_run_ends_with_the_same_bytes(long_shop, tmp_path, monkeypatch, suffix):
    run = tmp_path / "run"
    run.mkdir()
    untrained(run, long_shop)
    words = ["score", run, long_shop.path, "--part", "all"]
    monkeypatch.setattr(saved_parts, "_ROWS", 32)
    assert cascaderank(*words, "--to", tmp_path / f"whole.{suffix}").returncode == 0
    parts = killed(tmp_path / f"killed.{suffix}", *words, rows=32, parts=4)
    computed = []

    def counted(cascade, batch, scores_of=score_run.__globals__["scores_of"]):
        computed.append(len(batch))
        return scores_of(cascade, batch)

    monkeypatch.setitem(score_run.__globals__, "scores_of", counted)
    again = cascaderank(*words, "--to", tmp_path / f"killed.{suffix}")
    assert again.returncode == 0, again.stderr
    assert sum(computed) < long_shop.manifest.requests - 32 * parts // 3
    whole = (tmp_path / f"whole.{suffix}").read_bytes()
    assert (tmp_path / f"killed.{suffix}").read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert load_run(run).settings.evaluation.batch_size == 4
