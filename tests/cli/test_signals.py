"""A command that a signal ends leaves nothing half made; repeated, it ends with the same bytes."""

import random
import re
import shutil
import signal
import sys

import pytest
from tests.cli.writing_commands import COMMANDS, contents

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}
NAMES = {number: number.name for number in CODES}


def leftovers(folder):
    """Hidden files and folders other than locks and finished steps."""
    hidden = [p.name for p in folder.rglob(".*") if p.name != ".lock"]
    return [name for name in hidden if not re.fullmatch(r"\.log\.unfinished(\.json)?", name)]


def in_tmp(commands):
    """Files in TMPDIR, without the cache that torch keeps there."""
    return [p.name for p in commands.tmp.iterdir() if not p.name.startswith("torchinductor")]


def check_interrupted(example, folder, commands, number, fraction):
    """Send a signal at a fraction of the time, check what is left, and repeat the command.

    Returns whether the command was interrupted.
    """
    example.begin(folder)
    command = example.start(folder)
    code = command.signal_after(fraction * example.seconds, number)
    output = command.output()
    where = f"{example.name}, {NAMES[number]} at {fraction:.4f}\n{output}"
    assert code in (0, CODES[number]), where
    assert "Traceback" not in output, where
    example.check_former(folder)
    ended = False
    if code > 0:
        last = output.splitlines()[-1] if output else ""
        ended = last.startswith("wrote the ")  # all that is left to do is to end the process
        assert not output or ended or "interrupted; " in last, where
        assert not leftovers(folder), where
        assert not in_tmp(commands), where
        done = [p.name for p in folder.rglob("*")]
        some = {
            "report.json",
            "checkpoint.pt",
            "checkpoint-previous.pt",
            ".log.unfinished.json",
        } & set(done)
        if "manifest.json" in done and not example.name.endswith("overwrite"):
            some.add("log")
        assert ended or bool(some) == ("kept: " in last), where
    again = example.start(folder)
    again_ended = again.wait()
    if again_ended == 2 and (code == 0 or ended or "which is complete" in output):
        assert "already has a data set" in again.output(), where
    else:
        assert again_ended == 0, where + again.output()
    assert contents(folder) == example.expected, where
    assert not in_tmp(commands), where
    shutil.rmtree(folder)
    return code != 0


QUICK = [
    ("prepare", signal.SIGTERM),
    ("prepare-overwrite", signal.SIGKILL),
    ("prepare-steps", signal.SIGKILL),
    ("train", signal.SIGTERM),
]


@pytest.mark.parametrize(("example", "number"), QUICK, indirect=["example"])
def test_a_command_that_a_signal_ended_can_be_repeated(example, commands, tmp_path, number):
    check_interrupted(example, tmp_path / "x", commands, number, 0.6)


@pytest.mark.slow
@pytest.mark.parametrize("example", [*COMMANDS, "compare-jobs"], indirect=True)
@pytest.mark.parametrize("number", CODES, ids=NAMES.get)
def test_signals_at_random_points(example, commands, tmp_path, number):
    rng = random.Random(f"{example.name} {number}")
    points = 5 if example.name == "compare-jobs" or number == signal.SIGHUP else 20
    ended, wrong = 0, []
    for i, fraction in enumerate(sorted(rng.random() for _ in range(points))):
        try:
            ended += check_interrupted(example, tmp_path / f"{i}", commands, number, fraction)
        except AssertionError as error:
            wrong.append(str(error))
    print(f"{example.name}, {NAMES[number]}: {ended} of {points} interrupted, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)
    assert ended > points / 4
