"""Run commands in processes that are forked after the imports, so that a test can start many.

A process per command would spend seconds on imports, and most kills would hit them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Commands:
    """Starts commands of ``cascaderank``; the context manager ends the server.

    Args:
        folder: folder for the output of the commands and their TMPDIR.
    """

    def __init__(self, folder):
        self.folder, self.tmp = folder, folder / "tmp"
        self.tmp.mkdir(parents=True)
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self.tmp), "OMP_NUM_THREADS": "1"},
        )
        self._numbers = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait()

    def start(self, *words, tmp=None):
        """Start a command, optionally with another TMPDIR; it is a session of its own."""
        self._numbers += 1
        log = self.folder / f"{self._numbers}.log"
        pid = self._ask(
            {"words": list(map(str, words)), "log": str(log), "tmp": str(tmp or self.tmp)}
        )
        return Command(pid, log, self._ask)

    def run(self, *words, code=0):
        """Run a command to its end, and return it."""
        command = self.start(*words)
        found = command.wait()
        assert found == code, command.output()
        return command

    def _ask(self, request):
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


class Command:
    """A command that runs, or has ended."""

    def __init__(self, pid, log, ask):
        self.pid, self._log, self._ask = pid, log, ask
        self.seconds = None

    def cpu(self):
        """Seconds of CPU time so far, of the process and its children; it must not be waited for."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK"), fields[0] == "Z"

    def signal_after(self, seconds, number):
        """Send a signal after some CPU time, and return the exit code."""
        while True:
            used, ended = self.cpu()
            if ended or (used >= seconds and self._handles_signals()):
                break
            time.sleep(0.001)
        os.kill(self.pid, number)
        return self.wait()

    def _handles_signals(self):
        """Whether the command has begun; before that, it is the server."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    def wait(self):
        """Return the exit code when the command and its children have ended."""
        while not (found := self.cpu())[1]:
            time.sleep(0.002)
        self.seconds = found[0]
        code = os.waitstatus_to_exitcode(self._ask({"wait": self.pid}))
        with suppress(ProcessLookupError):
            while True:
                os.killpg(self.pid, 0)
                time.sleep(0.002)
        return code

    def output(self):
        """Return stdout and stderr."""
        return self._log.read_text()


def _serve():
    # What the commands import; nothing may start threads before the fork.
    import matplotlib.pyplot as plt  # noqa: F401
    import polars as pl  # noqa: F401
    import torch  # noqa: F401

    import cascaderank.experiments.compare
    import cascaderank.reports.comparison_files
    import cascaderank.runs.score_run
    import cascaderank.simulation.simulate
    import cascaderank.training.evaluate_run  # noqa: F401
    from cascaderank.cli import main

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitpid(request["wait"], 0)[1], flush=True)
            continue
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        os.setsid()
        log = os.open(request["log"], os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["cascaderank", *request["words"]]
        os.environ["TMPDIR"] = request["tmp"]
        code = 1
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


if __name__ == "__main__":
    _serve()
