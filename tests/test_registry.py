"""A registry finds entries by package and reports unknown names and options."""

import subprocess
import sys
from inspect import Parameter

import pytest

from cascaderank.errors import ConfigError
from cascaderank.losses import LOSSES
from cascaderank.registry import Registry
from cascaderank.stages import STAGES


def test_modules_of_the_package_are_found_without_being_named():
    assert {"linear", "mlp", "two_tower"} <= set(STAGES)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r"no stage called 'liner' \(did you mean 'linear'\?\)"):
        STAGES["liner"]


def test_options_are_the_keyword_only_parameters():
    own = ["dim", "hidden", "dropout", "norm", "embedding_deviation", "linear_skip", "prior"]
    assert list(STAGES.options("mlp")) == own


def test_all_wrong_options_are_reported_at_once():
    mistakes = STAGES.option_mistakes("mlp", {"hiden": [3], "dim": "many", "dropout": 0.5})
    assert len(mistakes) == 2
    assert "no option 'hiden' (did you mean 'hidden'?)" in mistakes[0]
    assert "dim='many'" in mistakes[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [0.5, float("nan")]])
def test_an_option_that_is_not_a_finite_number_is_reported(value):
    (mistake,) = STAGES.option_mistakes("mlp", {"dropout": value})
    assert "stage 'mlp': dropout takes finite numbers; got" in mistake


def test_lists_become_the_declared_tuples():
    assert STAGES.checked_options("mlp", {"hidden": [3, 2]}) == {"hidden": (3, 2)}


def test_a_name_can_be_taken_once():
    registry = Registry("dish", "cascaderank.stages", suffix="_dish")

    def soup_dish():
        pass

    registry.register(soup_dish)
    registry.register(soup_dish)  # the same thing again is no conflict
    other = type(soup_dish)(soup_dish.__code__, {}, "soup_dish")
    with pytest.raises(ConfigError, match="a dish called 'soup' is already registered"):
        registry.register(other)


def test_the_name_of_a_function_must_have_the_suffix():
    registry = Registry("dish", "cascaderank.stages", suffix="_dish")

    def soup():
        pass

    with pytest.raises(ConfigError, match="dish function must end with _dish; got soup"):
        registry.register(soup)


def in_main(name="Popularity"):
    """A class as a script or a notebook would define it."""
    return type(name, (), {"__module__": "__main__"})


def test_a_class_of_a_script_is_registered_under_the_given_name():
    registry = Registry("dish", "cascaderank.stages")
    soup = in_main("Soup")
    assert registry.register("broth")(soup) is soup
    assert registry["broth"] is soup
    assert "__main__" not in registry


def test_a_class_of_a_script_needs_a_name():
    registry = Registry("dish", "cascaderank.stages")
    with pytest.raises(
        ConfigError, match=r'PeaSoup is defined in __main__.*register\("pea_soup"\)'
    ):
        registry.register(in_main("PeaSoup"))


def test_a_given_name_needs_no_suffix_and_must_be_an_identifier():
    registry = Registry("dish", "cascaderank.stages", suffix="_dish")

    @registry.register("soup")
    def broth():
        pass

    assert registry["soup"] is broth
    with pytest.raises(ConfigError, match=r"must be an identifier.*got 'pea soup'"):
        registry.register("pea soup")(broth)


def test_running_a_cell_again_replaces_its_class_and_no_other():
    registry = Registry("dish", "cascaderank.stages")
    registry.register("soup")(in_main("Soup"))
    again = registry.register("soup")(in_main("Soup"))
    assert registry["soup"] is again
    with pytest.raises(ConfigError, match="a dish called 'soup' is already registered"):
        registry.register("soup")(in_main("Stew"))


def test_a_counterpart_follows_the_entry_that_it_is_derived_from():
    origins = Registry("dish", "cascaderank.stages")
    origins.register("soup")(in_main("Soup"))
    menus = Registry(
        "menu", "cascaderank.objectives", derived=(origins, lambda name: lambda: origins[name])
    )
    first = menus["soup"]
    assert menus["soup"] is first, "built once"
    again = origins.register("soup")(in_main("Soup"))
    assert menus["soup"]() is again
    assert menus["soup"] is not first
    assert "soup" in list(menus)


def test_parameters_that_the_caller_sets_are_no_options():
    registry = Registry("dish", "cascaderank.stages", given=("guests",))

    @registry.register("soup")
    def soup(*, guests: int, salt: float = 1.0):
        pass

    assert registry.checked_options("soup", {"salt": 2}) == {"salt": 2.0}
    (mistake,) = registry.option_mistakes("soup", {"guests": 3})
    assert mistake == "dish 'soup' has no option 'guests'; it takes salt"


def test_shared_options_have_the_type_of_the_registry_or_a_reason():
    salty = Parameter("salt", Parameter.KEYWORD_ONLY, annotation=float, default=1.0)

    def shared(name, parameters):
        return {"salt": "it has pepper" if "pepper" in parameters else salty}

    registry = Registry("dish", "cascaderank.stages", shared=shared)

    @registry.register("soup")
    def soup(*, guests: int = 1):
        pass

    @registry.register("stew")
    def stew(*, pepper: float = 1.0):
        pass

    assert list(registry.options("soup")) == ["guests", "salt"]
    assert registry.checked_options("soup", {"salt": 2}) == {"salt": 2.0}
    (mistake,) = registry.option_mistakes("soup", {"salt": "a lot"})
    assert mistake.startswith("dish 'soup': salt='a lot': Input should be a valid number")
    assert list(registry.options("stew")) == ["pepper"]
    (mistake,) = registry.option_mistakes("stew", {"salt": 2.0})
    assert mistake == "dish 'stew' has no option 'salt': it has pepper"
    (mistake,) = registry.option_mistakes("stew", {"pepr": 2.0})
    assert mistake.endswith("it takes pepper")


SCRIPT = """
from cascaderank.stages import STAGES

@STAGES.register("popularity")
class Popularity:
    def __init__(self, schema, features, *, power: float = 1.0) -> None:
        pass

print("popularity" in STAGES, STAGES.checked_options("popularity", {"power": 2}))
"""


def test_options_of_a_class_of_a_script_are_checked(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["True", "{'power':", "2.0}"]


def test_a_name_of_the_library_is_refused_where_it_is_taken():
    def bce_loss(scores, labels):
        return scores

    with pytest.raises(ConfigError, match="a loss called 'bce' is already registered"):
        LOSSES.register(bce_loss)


def test_an_entry_point_that_cannot_be_loaded_is_named(monkeypatch):
    from importlib.metadata import EntryPoint

    broken = EntryPoint("mine", "no_such_module_of_mine", "cascaderank.losses")
    monkeypatch.setattr("cascaderank.registry.entry_points", lambda group: [broken])
    registry = Registry("loss", "cascaderank.losses", suffix="_loss")
    for _ in range(2):  # it is not forgotten after the first error
        with pytest.raises(ConfigError, match=r"entry point 'mine'.*No module named"):
            list(registry)
