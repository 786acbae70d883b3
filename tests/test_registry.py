"""A registry finds things by folder and says what it does not know."""

import pytest

from cascaderank.errors import ConfigError
from cascaderank.registry import Registry
from cascaderank.stages import STAGES


def test_modules_of_the_package_are_found_without_being_named():
    assert {"linear", "mlp", "two_tower"} <= set(STAGES)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"no stage called 'liner' \(did you mean 'linear'\?\)"):
        STAGES["liner"]


def test_options_are_the_keyword_only_parameters():
    assert list(STAGES.options("mlp")) == ["dim", "hidden", "dropout", "norm"]


def test_all_wrong_options_are_told_at_once():
    told = STAGES.option_mistakes("mlp", {"hiden": [3], "dim": "many", "dropout": 0.5})
    assert len(told) == 2
    assert "no option 'hiden' (did you mean 'hidden'?)" in told[0]
    assert "dim='many'" in told[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [0.5, float("nan")]])
def test_an_option_that_is_no_finite_number_is_told(value):
    (told,) = STAGES.option_mistakes("mlp", {"dropout": value})
    assert "stage 'mlp': dropout takes finite numbers; got" in told


def test_lists_become_the_declared_tuples():
    assert STAGES.checked_options("mlp", {"hidden": [3, 2]}) == {"hidden": (3, 2)}


def test_a_name_can_be_taken_once():
    registry = Registry("dish", "cascaderank.stages", suffix="_dish")

    def soup_dish():
        pass

    registry.register(soup_dish)
    registry.register(soup_dish)  # the same thing again is no conflict
    other = type(soup_dish)(soup_dish.__code__, {}, "soup_dish")
    with pytest.raises(ConfigError, match="a dish called 'soup' already"):
        registry.register(other)


def test_a_function_must_say_what_it_is():
    registry = Registry("dish", "cascaderank.stages", suffix="_dish")

    def soup():
        pass

    with pytest.raises(ConfigError, match="called something_dish; got soup"):
        registry.register(soup)
