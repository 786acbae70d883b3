"""Every edit of a small text file is refused in one line, or read as what it is."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.command_line import cascaderank
from tests.fuzz.cases import Case, Fuzzer
from tests.fuzz.processes import Outcome
from tests.fuzz.text_changes import NUMBERS

NAMES = ("long_csv", "letor", "trec", "options")
PIECES = (
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b"\t",
    b" ",
    b'"',
    b"#",
    b":",
    b"=",
    b"[",
    b"]",
    b"{",
    b"qid:",
)
EDITS = st.lists(
    st.tuples(
        st.integers(0, 10_000),
        st.integers(0, 12),
        st.one_of(
            st.sampled_from(
                [*PIECES, *(number.encode() for number in NUMBERS if len(number) < 99)]
            ),
            st.binary(max_size=4),
        ),
    ),
    min_size=1,
    max_size=3,
)
"""Places in a file, each with a number of bytes to remove and bytes to insert."""


def edited(content, edits):
    for place, removed, inserted in edits:
        place %= len(content) + 1
        content = content[:place] + inserted + content[place + removed :]
    return content


def here(words, folder, streams):
    """Run a command in this process, where a bug is an exception."""
    done = cascaderank(*words, cwd=folder)
    return Outcome(done.returncode, done.stdout, done.stderr, 0)


@pytest.fixture(scope="module")
def fuzzers(tmp_path_factory):
    return {name: Fuzzer(name, tmp_path_factory.mktemp(name), here) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_an_edited_file_is_refused_or_read_as_it_is(fuzzers, name):
    fuzzer = fuzzers[name]

    @given(st.integers(0, 99), EDITS)
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def check(which, edits):
        folder = fuzzer.copy("case")
        try:
            paths = fuzzer.seed.paths(folder)
            path = paths[which % len(paths)]
            path.write_bytes(edited(path.read_bytes(), edits))
            file = str(path.relative_to(folder))
            mistakes = fuzzer.mistakes(Case(folder, fuzzer.seed.commands[0], file, "edits"))
            assert not mistakes, "\n".join([path.read_text(errors="replace")[:2000], *mistakes])
        finally:
            shutil.rmtree(folder.parent)

    check()
