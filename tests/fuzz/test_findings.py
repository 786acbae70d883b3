"""The fuzzer finds what must not happen: each outcome of a command, and what is found in it."""

import pytest

from tests.fuzz.findings import contents, mistakes_of
from tests.fuzz.processes import Outcome
from tests.fuzz.seed import Seed

REFUSED = "cascaderank prepare: rows.csv, line 2: expected 2 fields\n"


def never_right(case, intact):
    raise AssertionError("other rows")


@pytest.fixture
def found(tmp_path):
    """Function that returns what is found for an outcome of a case of one file."""
    folder = tmp_path / "files"
    (folder / "out").mkdir(parents=True)
    (tmp_path / "streams" / "tmp").mkdir(parents=True)
    (folder / "rows.csv").write_text("a,b\n1\n")

    def find(code, stderr, new=None, check=never_right):
        before = contents(folder)
        if new is not None:
            (tmp_path / new).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / new).write_text("x")
        seed = Seed(((),), ("rows.csv",), check)
        outcome = Outcome(code, "", stderr, 1.0)
        return [*mistakes_of(seed, ("prepare",), folder, outcome, before, tmp_path)]

    return find


def test_a_refusal_in_one_line_and_a_right_result_are_right(found):
    assert found(2, REFUSED) == []
    assert found(2, "temperature: 50, the default\n" + REFUSED) == []
    assert found(0, "", check=lambda case, intact: None) == []
    assert found(2, REFUSED, "files/out/.log.unfinished/day.parquet") == []


@pytest.mark.parametrize(
    ("code", "stderr", "new", "expected"),
    [
        (None, "", None, "runs for more than 60 seconds"),
        (-9, "", None, "ended by signal 9"),
        (1, "Traceback (most recent call last):", None, "ended with exit code 1"),
        (2, "Traceback (most recent call last):\n" + REFUSED, None, "expected one line"),
        (2, REFUSED * 2, None, "expected one line"),
        (2, "a.py:1: UserWarning: x\n" + REFUSED, None, "expected one line"),
        (2, "", None, "expected one line"),
        (2, "cascaderank train: rows.csv is damaged\n", None, "expected one line"),
        (2, "cascaderank prepare: no such thing there\n", None, "names no file"),
        (2, REFUSED.strip() + "x" * 9999, None, "a line of 10"),
        (0, "", None, "accepted, but AssertionError: other rows"),
        (2, REFUSED, "files/rows.csv", "changed rows.csv"),
        (2, REFUSED, "files/new", "changed new"),
        (2, REFUSED, "files/out/log/part.parquet", "left ['out/log"),
        (2, REFUSED, "files/out/.log.12ab.partial", "left ['out/.log.12ab.partial']"),
        (2, REFUSED, "streams/tmp/left", "left temporary files"),
    ],
)
def test_what_must_not_happen_is_found(found, code, stderr, new, expected):
    assert any(expected in one for one in found(code, stderr, new))
