"""Damaged and hostile input is refused in one line, or read as what it is; see README.md."""

import pytest

from tests.fuzz.cases import Fuzzer
from tests.fuzz.seeds import SEEDS


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_no_mutated_input_breaks_a_command(name, tmp_path):
    fuzzer = Fuzzer(name, tmp_path)
    found = [mistake for number in range(fuzzer.seed.cases) for mistake in fuzzer.mistakes(number)]
    assert not found, f"{len(found)} mistakes:\n" + "\n".join(found[:20])
