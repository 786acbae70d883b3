"""Two ways to run a command: in this process, which is fast, and in a process of its own."""

import contextlib
import io
import os
import subprocess
import sys

import pytest

from cascaderank.cli import main

ENVIRONMENT = {"COLUMNS": "80", "TERM": "dumb"}


def cascaderank(*words, cwd=None):
    """Run a command in this process: a process of its own spends seconds on imports."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["cascaderank", *map(str, words)])
        patch.setattr(sys, "excepthook", sys.excepthook)  # typer replaces it
        if cwd is not None:
            patch.chdir(cwd)
        with pytest.raises(SystemExit) as end:
            main()
    return subprocess.CompletedProcess(
        sys.argv, end.value.code or 0, output.getvalue(), errors.getvalue()
    )


def cascaderank_process(*words, cwd=None, timeout=240):
    """Run a command in a process of its own, as a shell does."""
    done = subprocess.run(
        [sys.executable, "-m", "cascaderank.cli", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1", **ENVIRONMENT},
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done
