"""Damaged and hostile input is refused in one line, or read as what it is.

A case is a seed, a small valid input of :mod:`tests.fuzz.seeds`, with one file that
:mod:`tests.fuzz.mutations` or :mod:`tests.fuzz.places` has changed, and one command.
:mod:`tests.fuzz.findings` has what must hold after it. ``python -m tests.fuzz SEED NUMBER`` repeats
a case.
"""

import pytest

from tests.fuzz.cases import Fuzzer
from tests.fuzz.processes import forked
from tests.fuzz.seeds import SEEDS


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_no_mutated_input_breaks_a_command(name, tmp_path):
    fuzzer = Fuzzer(name, tmp_path, forked)
    found = [one for number in range(fuzzer.seed.cases) for one in fuzzer.findings(number)]
    assert not found, f"{len(found)} mistakes:\n" + "\n".join(found[:20])
