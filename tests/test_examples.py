"""Examples run as they are given, and do what they say."""

import re
import subprocess
import sys

from tests.conftest import ROOT


def test_the_own_loop_learns():
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "own_loop.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = map(float, re.findall(r"0\.\d+", done.stdout))
    assert after > before + 0.2
