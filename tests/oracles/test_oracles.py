"""The oracles on cases with a closed form."""

from decimal import localcontext
from math import exp, log

import pytest

from tests.oracles.losses import (
    bce,
    icc,
    lambda_ndcg,
    permutation,
    rankflow,
    ranknet,
    ranks,
    relaxed_recall,
    stage_top_k,
    targets,
)
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


def test_ties_for_the_last_place_share_it():
    assert targets([1.0, 2.0, 1.0, 0.0], 2) == [0.5, 1, 0.5, 0]


def test_a_score_of_zero_has_probability_one_half():
    assert bce([0.0, 0.0], [1.0, 0.0]) == pytest.approx(log(2))


def test_one_pair_is_a_logistic_choice():
    want = log(1 + exp(-3.0))
    assert ranknet([4.0, 1.0], [1, 0]) == pytest.approx(want)
    assert ranknet([4.0, 1.0], [1, 0], balance="labels") == pytest.approx(want)
    assert ranknet([4.0, 1.0], [1, 1]) == 0


def test_balanced_labels_have_equal_weight():
    even, clear = log(2), log(1 + exp(-5.0))
    scores, labels = [5.0, 5.0, 0.0, 0.0], [2, 1, 1, 0]
    middle = (clear + even) / 2
    top = (even + 2 * clear) / 3
    assert ranknet(scores, labels, balance="labels") == pytest.approx((top + middle) / 2)


def test_the_weight_of_one_pair_is_the_difference_of_discounts():
    first, second = 1 / log(2), 1 / log(3)
    weight = (first - second) / first  # both parts of the weight, divided by the ideal DCG
    assert lambda_ndcg([4.0, 1.0], [1, 0]) == pytest.approx(weight * log(1 + exp(-3.0)))
    cut = (0.2 * (first - second) + 0.8 * first) / first
    assert lambda_ndcg([4.0, 1.0], [1, 0], m=1) == pytest.approx(cut * log(1 + exp(-3.0)))


def test_ties_are_ranked_worst_label_first():
    assert ranks([1.0, 2.0, 1.0, 1.0], [1, 0, 0, 1]) == [3.5, 1, 2, 3.5]


@pytest.mark.parametrize("operator", ["neural_sort", "soft_sort"])
def test_two_candidates_have_a_logistic_permutation(operator):
    likely = 1 / (1 + exp(-3.0 / 0.5))
    options = {"operator": operator, "temperature": 0.5}
    got = relaxed_recall([4.0, 1.0], [1, 0], 1, m=1, **options)
    assert got == pytest.approx(-log(likely) / 2)
    assert permutation([4.0, 1.0], [1, 0], **options) == pytest.approx(-2 * log(likely) / 4)


def test_the_merged_score_is_the_score_at_the_dropping_stage():
    stages = [[5.0, 4.0, 0.0], [1.0, 9.0, 99.0]]
    got = icc(stages, [0, 1, 0], quotas=(2, 1), temperature=1e-3)
    first, second = 9 / 3, 109 / 3  # scores minus the means of their stages
    middle = (4 - first + 9 - second) / 2  # at the cut-off, both stages have weight 1/2
    want = (log(1 + exp(1 - second - middle)) + log(1 + exp(-first - middle))) / 2
    assert got == pytest.approx(want)


def test_the_teacher_of_a_stage_is_the_next_stage():
    terms = rankflow([[2.0, 1.0, 0.0], [0.0, 1.0, 9.0]], [0, 1, 0], 1, quotas=(2, 1))
    assert terms["self/stage_2"] == pytest.approx((log(2) + log(1 + exp(-1))) / 2)
    assert terms["ranking/stage_1"] == pytest.approx(log(1 + exp(1)))
