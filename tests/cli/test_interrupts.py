"""Signals interrupt a command once, and its message says what is kept."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
import typer
from tests.data.shops import write_shop
from typer.testing import CliRunner

from cascaderank.cli.interrupts import (
    after_interrupt,
    forget,
    interrupted_by,
    interruptible,
    kept_data_set,
    kept_runs,
    outcome,
)
from cascaderank.cli.shell import user_errors
from cascaderank.errors import DataError

NUMBERS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX systems")


@pytest.fixture(autouse=True)
def _signals_are_not_ignored():
    """The tests themselves may run under nohup."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler == signal.SIG_IGN else handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number):
    signal.raise_signal(number)
    pytest.fail(f"signal {number} has not interrupted the test")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_interrupts_a_block_once(number):
    before, cleaned = signal.getsignal(number), []
    with interruptible():
        try:
            with pytest.raises(KeyboardInterrupt) as caught:
                send(number)
        finally:
            os.kill(os.getpid(), number)  # a tool such as timeout(1) sends it twice
            cleaned.append(number)
        assert interrupted_by(caught.value) == number
        assert interrupted_by(DataError("raised in its place")) == number
    assert cleaned == [number]
    assert interrupted_by(DataError("of the next command")) is None
    assert signal.getsignal(number) == before


def test_a_later_signal_interrupts_again(monkeypatch):
    monkeypatch.setattr("cascaderank.cli.interrupts._SECONDS", 0.0)
    with interruptible():
        for number in (signal.SIGTERM, signal.SIGINT):
            with pytest.raises(KeyboardInterrupt):
                send(number)
        assert interrupted_by(KeyboardInterrupt()) == signal.SIGTERM


def test_an_ignored_signal_remains_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_has_no_signals():
    done = []

    def work():
        with interruptible():
            done.append(interrupted_by(DataError("none")))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [None]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("error", [None, DataError("a library raised it"), RuntimeError("panic")])
def test_the_exit_code_is_that_of_the_signal(number, error):
    commands = typer.Typer()

    @commands.command()
    @user_errors
    def work() -> None:
        after_interrupt(lambda: "")
        try:
            send(number)
        except KeyboardInterrupt:
            if error is not None:
                raise error from None
            raise

    with interruptible():
        found = CliRunner().invoke(commands, [])
    assert found.exit_code == 128 + number
    assert found.stderr == "cascaderank work: interrupted; nothing is kept\n"


IMPORT = """
    import os, signal, sys, time
    from cascaderank.cli.interrupts import interruptible, received
    with interruptible():
        try:
            import slow_module
            print("imported")
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted", received())
"""


def test_a_signal_during_an_import_interrupts_after_it(tmp_path):
    (tmp_path / "slow_module.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(0.2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(IMPORT)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "imported\ninterrupted 15\n"


ALARM = """
    import signal
    from cascaderank.cli.interrupts import interruptible, received
    with interruptible():
        try:
            signal.raise_signal(signal.SIGALRM)
        except KeyboardInterrupt:
            print("interrupted", received())
"""


def test_an_alarm_from_outside_interrupts():
    # In another process, because the limit of time of this one is an alarm, too.
    words = [sys.executable, "-c", textwrap.dedent(ALARM)]
    assert subprocess.run(words, capture_output=True, text=True).stdout == "interrupted 14\n"


def test_the_message_says_what_is_kept(tmp_path):
    forget()
    assert outcome() == "no incomplete file is left"
    runs, path = tmp_path / "runs", tmp_path / "shop"
    after_interrupt(lambda: kept_runs(runs))
    after_interrupt(kept_data_set(path))
    assert outcome() == "nothing is kept"
    for name in ("a/report.json", "b/report.json", "b/checkpoint.pt", "c/checkpoint-previous.pt"):
        (runs / name).parent.mkdir(parents=True, exist_ok=True)
        (runs / name).touch()
    kept = f"kept: 2 complete runs and the checkpoint of 1 run in {runs}; repeat the command to"
    assert outcome() == f"{kept} resume"
    (tmp_path / ".shop.unfinished.json").touch()
    steps = f"the finished steps in {tmp_path / '.shop.unfinished'}; repeat the command to resume"
    assert outcome() == f"{kept} resume; {steps}"
    write_shop(path)
    assert outcome() == f"{kept} resume; the data set in {path}, which is complete"
    forget()
    after_interrupt(kept_data_set(path))
    (tmp_path / ".shop.unfinished.json").unlink()
    assert outcome() == "nothing is kept", "the data set was there before"
    forget()


def test_a_link_stands_for_the_data_set_that_it_points_to(tmp_path):
    forget()
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    after_interrupt(kept_data_set(tmp_path / "link"))
    assert outcome() == "nothing is kept"
    (tmp_path / ".disk.unfinished.json").touch()
    assert f"the finished steps in {tmp_path / '.disk.unfinished'}; repeat" in outcome()
    write_shop(tmp_path / "link")
    assert outcome() == f"kept: the data set in {tmp_path / 'link'}, which is complete"
    forget()


@pytest.mark.parametrize("path", [".", "/"])
def test_a_folder_without_a_name_can_be_interrupted(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    forget()
    after_interrupt(kept_data_set(path))
    assert outcome() == "nothing is kept"
    forget()
