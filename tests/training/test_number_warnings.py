"""Runs warn about labels that are all equal, and about features that single values flatten."""

import numpy as np
import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.runs.data import run_data
from cascaderank.schema import Schema
from cascaderank.settings.run import check_settings
from cascaderank.training.number_warnings import number_warnings


@pytest.fixture
def warnings_of(tmp_path):
    def check(prices, *, transform="standardise", labels=(1.0, 0.0, 0.0, 2.0), learning_rate=0.01):
        price = {"name": "price", "role": "item", "kind": "numeric", "transform": transform}
        path, requests = tmp_path / f"log-{len([*tmp_path.iterdir()])}", len(prices) // 4
        frame = pl.DataFrame(
            {
                "request_id": list(range(requests)),
                "price": np.asarray(prices).reshape(-1, 4).tolist(),
                "label": [list(labels)] * requests,
            }
        )
        with RequestLogWriter(path, name="log", schema=Schema(features=(price,))) as writer:
            writer.write(frame)
        settings = check_settings(
            {
                "data": {"path": str(path), "target": "label"},
                "relevance": {"threshold": 1},
                "stages": {"first": {"model": "linear", "quota": 3}},
                "objective": {"name": "bce"},
                "train": {"learning_rate": learning_rate},
            }
        )
        with run_data(settings) as data:
            return number_warnings(settings, data)

    return check


def usual_prices():
    return np.random.default_rng(0).lognormal(3.0, 1.0, 240)


def test_usual_features_and_labels_give_no_warning(warnings_of):
    assert warnings_of(usual_prices()) == ()


def test_a_value_that_makes_a_feature_constant_for_all_others(warnings_of):
    prices = usual_prices()
    prices[1] = 1e38
    (warning,) = warnings_of(prices)
    assert warning.startswith("feature 'price': half of the values other than the median, ")
    assert 'set transform = "log1p_standardise"' in warning


def test_a_value_that_makes_the_few_values_other_than_zero_constant(warnings_of):
    prices = np.where(np.arange(240) % 4 == 0, usual_prices(), 0.0)
    assert warnings_of(prices) == ()
    prices[4] = 1e38
    (warning,) = warnings_of(prices)
    assert warning.startswith("feature 'price': half of the values other than the median, 0, are ")


@pytest.mark.parametrize(("rate", "count"), [(0.01, 0), (0.9, 0), (1.0, 1), (9.9, 1)])
def test_a_learning_rate_beyond_any_use(warnings_of, rate, count):
    found = warnings_of(usual_prices(), learning_rate=rate)
    assert len(found) == count
    assert all(f"train.learning_rate is {rate:g}" in warning for warning in found)


def test_no_warning_with_the_remedy(warnings_of):
    prices = usual_prices()
    prices[1] = 1e38
    assert warnings_of(prices, transform="log1p_standardise") == ()


@pytest.mark.parametrize("rare", [1.0, 1e38])
def test_a_rare_flag_is_no_outlier(warnings_of, rare):
    assert warnings_of(np.where(np.arange(240) == 1, rare, 0.0)) == ()


def test_labels_that_are_all_equal(warnings_of):
    (warning,) = warnings_of(usual_prices(), labels=(1.0,) * 4)
    assert "the same label in" in warning
    assert "Set data.target" in warning
