"""The oracles themselves, on cases that can be done by hand."""

from decimal import localcontext
from math import exp, log

import pytest

from tests.oracles.losses import bce, marks, stage_top_k
from tests.oracles.sorting import DIGITS, top_k


@pytest.mark.parametrize("operator", ["neural_sort", "soft_sort"])
def test_two_candidates_are_a_logistic_choice(operator):
    likely = 1 / (1 + exp(-3.0 / 0.5))
    with localcontext() as context:
        context.prec = DIGITS
        got = [float(p) for p in top_k(operator, [4.0, 1.0], 1, 0.5)]
    assert got == pytest.approx([likely, 1 - likely])
    want = -log(likely)
    loss = stage_top_k([4.0, 1.0], [1, 0], 1, operator=operator, temperature=0.5)
    assert loss == pytest.approx(want)


def test_those_that_tie_for_the_last_place_share_it():
    assert marks([1.0, 2.0, 1.0, 0.0], 2) == [0.5, 1, 0.5, 0]


def test_a_score_of_zero_is_a_coin():
    assert bce([0.0, 0.0], [1.0, 0.0]) == pytest.approx(log(2))
