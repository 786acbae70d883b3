"""Output that is closed, full, or a pipe without a reader; and the two names of the command."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cascaderank.cli.output import checked_output

ENVIRONMENT = {**os.environ, "COLUMNS": "80", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
FULL = Path("/dev/full")


def run(*words, module="cascaderank", **streams):
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        text=True,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
    )


def test_the_package_runs_as_the_command_and_has_its_name_in_the_usage():
    done = run("ls", "--nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("python -m cascaderank ls: No such option: --nothing; see ")


@pytest.mark.parametrize("words", [["ls"], ["--help"]])
def test_a_closed_pipe_ends_the_command_quietly(words):
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*words, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_output_that_cannot_be_written_is_reported_in_one_line():
    with FULL.open("w") as full:
        done = run("--version", stdout=full)
        assert done.returncode == 2
        assert done.stderr == (
            "cascaderank: the output is incomplete: stdout cannot be written: "
            "No space left on device\n"
        )


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_a_message_that_cannot_be_written_is_an_error():
    with FULL.open("w") as full:
        assert run("ls", "--nothing", stdout=full, stderr=full).returncode == 2


def test_closed_streams_receive_nothing():
    closed = f"{sys.executable} -m cascaderank --version >&- 2>&-"
    assert subprocess.run(closed, shell=True, env=ENVIRONMENT, check=False).returncode == 0


def test_errors_of_files_and_processes_are_not_those_of_the_output():
    def fails():
        raise BrokenPipeError(errno.EPIPE, "a worker")

    before = sys.stdout
    with pytest.raises(BrokenPipeError, match="a worker"):
        checked_output(fails)
    assert sys.stdout is before
