import numpy as np
import pytest

from cascaderank.errors import DataError
from cascaderank.simulation.calibration import Platt, calibration_error, reliability


def test_platt_scaling_recovers_slope_and_offset():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=40_000) * 3
    probabilities = 1 / (1 + np.exp(-(0.5 * scores - 1)))
    labels = (rng.random(40_000) < probabilities).astype(float)
    platt = Platt.fit(scores, labels)
    assert abs(platt.slope - 0.5) < 0.02
    assert abs(platt.offset + 1) < 0.05
    before = calibration_error(reliability(Platt(slope=1, offset=0)(scores), labels))
    after = calibration_error(reliability(platt(scores), labels))
    assert after < 0.02 < 0.1 < before


def test_bins_have_equal_size_and_weight_the_error():
    probabilities = np.array([0.9, 0.2, 0.4, 0.6, 0.1])
    labels = np.array([1.0, 0.0, 1.0, 0.0, 0.0])
    table = reliability(probabilities, labels, bins=2)
    assert [(b.count, b.observed) for b in table] == [(3, 1 / 3), (2, 1 / 2)]
    lower, upper = (0.1 + 0.2 + 0.4) / 3, (0.6 + 0.9) / 2
    expected = 3 / 5 * abs(lower - 1 / 3) + 2 / 5 * abs(upper - 1 / 2)
    assert calibration_error(table) == pytest.approx(expected)


def test_fewer_candidates_than_bins_are_a_bin_each():
    assert [b.count for b in reliability(np.array([0.1, 0.2]), np.zeros(2))] == [1, 1]


def test_labels_of_one_class_are_rejected():
    with pytest.raises(DataError, match="all 3 labels are 1"):
        Platt.fit(np.zeros(3), np.ones(3))
