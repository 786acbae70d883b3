"""Every number that a user can set has a range: in a config, as an option, on the command line."""

import math
import time
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import annotated_types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Strict

from cascaderank.cli import app
from cascaderank.cli.shell import finite
from cascaderank.components import SHELVES
from cascaderank.data.loading.candidates import CandidateSettings, CatalogueSettings
from cascaderank.errors import ConfigError
from cascaderank.experiments.scorers import TreeSettings
from cascaderank.limits import LARGEST_FLOAT32
from cascaderank.schema import Feature
from cascaderank.settings.files import check_as, flat, with_changes
from cascaderank.settings.run import RunSettings, check_settings
from cascaderank.simulation.simulation_settings import SimulationSettings

UNBOUNDED = {"TrainSettings.clip_norm": "inf disables clipping"}
"""Numbers with one limit, and why."""

MODELS = (RunSettings, SimulationSettings, TreeSettings, Feature)


def models_in(annotation: Any) -> set[type[BaseModel]]:
    """The classes of settings in a type, and in the types of their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        inner = {m for f in annotation.model_fields.values() for m in models_in(f.annotation)}
        return {annotation, *inner}
    return {model for inner in get_args(annotation) for model in models_in(inner)}


def numbers_in(annotation: Any, metadata: list[Any]) -> list[list[Any]]:
    """The constraints of each number in a type, such as of the values of a dictionary."""
    if annotation in (int, float):
        return [metadata]
    if get_origin(annotation) is Annotated:
        inner, *further = get_args(annotation)
        further = [x for f in further for x in getattr(f, "metadata", [f])]
        return numbers_in(inner, metadata + further)
    if get_origin(annotation) is Literal:
        return []
    return [number for inner in get_args(annotation) for number in numbers_in(inner, metadata)]


NUMBERS = {
    f"{model.__name__}.{name}": numbers
    for root in MODELS
    for model in models_in(root)
    for name, field in model.model_fields.items()
    if (numbers := numbers_in(field.annotation, field.metadata))
}


def test_the_table_has_the_numbers_of_all_settings():
    assert {
        "TrainSettings.seed",
        "TrainSettings.epochs",
        "RelevanceSettings.threshold",
        "FoldSplit.folds",
        "Relabelling.z",
        "CandidateSettings.levels",
        "CatalogueSettings.cutoffs",
        "TuningSettings.trials",
        "SimulatedStage.noise",
        "Phase.steps",
        "Feature.buckets",
    } <= set(NUMBERS)
    assert len(NUMBERS) > 60


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_every_number_of_the_settings_has_a_range_and_is_strict(name):
    for metadata in NUMBERS[name]:
        assert any(isinstance(x, Strict) for x in metadata), "true, 1e3 and '3' would be accepted"
        low = any(isinstance(x, annotated_types.Ge | annotated_types.Gt) for x in metadata)
        high = any(isinstance(x, annotated_types.Le | annotated_types.Lt) for x in metadata)
        assert low
        assert high or name in UNBOUNDED


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_no_limit_of_an_annotation_replaces_one_of_the_field(name):
    """Pydantic applies only the last limit of a kind; a second one is without effect."""
    for metadata in NUMBERS[name]:
        kinds = [type(x) for x in metadata]
        assert all(kinds.count(kind) == 1 for kind in kinds)


GOOD = {
    "data": {
        "path": "log",
        "target": {"by": "level", "z": [0, 1, 2]},
        "split": {"by": "request", "test": 0.1},
        "history_length": 50,
    },
    "relevance": {"top": 5, "threshold": 0.5},
    "stages": {
        "retrieval": {"model": "mlp", "quota": 30, "dim": 4, "hidden": [8], "dropout": 0.1},
        "ranking": {"model": "fscd", "quota": 20, "temperature": 0.1, "per_length": 0.1},
    },
    "objective": {"name": "lcron", "temperature": 50.0, "end_to_end": 1.0, "weights": [1, 1]},
    "train": {
        "epochs": 3,
        "batch_size": 8,
        "prefetch": 1,
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "clip_norm": 1.0,
        "patience": 3,
        "seed": 0,
        "checkpoint_every": 200,
        "candidates": {"levels": {"shown": 3}, "pool": 2},
        "schedule": {"phases": [{"epochs": 2}]},
    },
    "evaluation": {"batch_size": 8, "bootstrap": 100, "seed": 0},
    "catalogue": {"item": "video", "user": "user", "leaves_out": 1.0, "cutoffs": [5]},
    "compare": {
        "seeds": 3,
        "streaming": 2,
        "jobs": 1,
        "tuning": {"trials": 3, "seeds": 1, "seed": 0, "extend": 2},
    },
}
SPLITS = (
    {"by": "fold", "folds": 5, "fold": 0, "seed": 0},
    {"by": "day", "validation_days": 1, "test_days": 1, "skip_last": 0},
    {"by": "given", "fold": 0, "validation": 0.1, "seed": 0},
)
EXTREME = (
    0,
    -1,
    2**31,
    2**63,
    10**18,
    10**400,
    10**5000,
    math.nan,
    math.inf,
    -math.inf,
    1e300,
    5e-324,
    True,
    1e3,
    "x",
    "3",
    [1] * 2000,
    [[]],
    {},
    None,
)


def is_number(value: object) -> bool:
    of_list = isinstance(value, list) and all(map(is_number, value))
    return (isinstance(value, int | float) and not isinstance(value, bool)) or of_list


def accepted(values: dict[str, Any]) -> str:
    """Check settings; return the message of the error, an empty string if there is none."""
    started = time.process_time()
    try:
        check_settings(values)
        message = ""
    except ConfigError as error:
        message = str(error)
    assert time.process_time() - started < 1
    assert len(message) < 3000
    assert "\n" not in message
    return message


def test_the_settings_that_the_cases_start_from_are_good():
    assert not accepted(GOOD)
    for split in SPLITS:
        assert not accepted(with_changes(GOOD, {"data.split": split}))


NAMES = sorted(name for name, value in flat(GOOD).items() if is_number(value))
OF_SPLITS = [(s, name) for s in SPLITS for name, value in s.items() if is_number(value)]


@pytest.mark.parametrize("name", NAMES)
def test_extreme_values_of_a_setting_are_accepted_or_refused_and_nothing_else(name):
    for value in EXTREME:
        for given_value in (value, [value]):
            message = accepted(with_changes(GOOD, {name: given_value}))
            if value is True or (isinstance(value, float) and not math.isfinite(value)):
                disables = name == "train.clip_norm" and given_value == math.inf
                assert message or disables, f"{name} = {given_value} was accepted"


@pytest.mark.parametrize(("split", "name"), OF_SPLITS)
def test_extreme_values_of_a_split_are_accepted_or_refused_and_nothing_else(split, name):
    for value in EXTREME:
        accepted(with_changes(GOOD, {"data.split": {**split, name: value}}))


@settings(max_examples=60, deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from(NAMES),
        st.one_of(st.sampled_from(EXTREME), st.integers(), st.floats()),
        max_size=4,
    )
)
def test_any_numbers_in_settings_are_accepted_or_refused(changes):
    accepted(with_changes(GOOD, changes))


@pytest.mark.parametrize("kind", [CandidateSettings, CatalogueSettings, TreeSettings, Feature])
def test_booleans_and_strings_are_no_numbers(kind):
    required = {"item": "video", "name": "x", "role": "item", "kind": "categorical"}
    required = {k: v for k, v in required.items() if k in kind.model_fields}
    check_as(kind, required)
    for name in kind.model_fields:
        if f"{kind.__name__}.{name}" in NUMBERS:
            for value in (True, "3", math.nan):
                with pytest.raises(ConfigError):
                    check_as(kind, {**required, name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.epochs": True}, "train.epochs: Input should be a valid integer; got true"),
        ({"train.epochs": 1e3}, "train.epochs: Input should be a valid integer; got 1000.0"),
        ({"train.learning_rate": math.nan}, "train.learning_rate: Input should be a finite number"),
        ({"train.learning_rate": 10}, "train.learning_rate: Input should be less than 10; got 10"),
        ({"relevance.threshold": math.nan}, "relevance.threshold: Input should be a finite number"),
        ({"relevance.threshold": 1e39}, "relevance.threshold: Input should be less than or equal"),
        ({"train.seed": 10**5000}, "an integer has more than 128 bits"),
        ({"train.seed": 2**63}, "train.seed: Input should be less than or equal to 92233720368547"),
        ({"evaluation.bootstrap": 10**9}, "less than or equal to 10000000; got 1000000000"),
        ({"train.prefetch": 10**9}, "less than or equal to 10000; got 1000000000"),
        ({"train.candidates.levels": {"a": True}}, "train.candidates.levels.a: Input should be a"),
        (
            {"stages.ranking.dim": 2**63},
            "dim=9223372036854775808: expected integers from -922337203",
        ),
        ({"stages.ranking.dim": True}, "dim=true: expected an integer; got true"),
        ({"objective.end_to_end": 1e300}, "expected numbers in the range of float32, at most 3.4e"),
        ({"objective.temperature": {"start": 1e300, "end": 1}}, "in the range of float32"),
    ],
)
def test_messages_name_the_number_and_its_range(change, message):
    assert message in accepted(with_changes(GOOD, change))


def test_there_are_at_most_a_hundred_stages():
    stage = {"model": "mlp", "quota": 5}
    many = {f"stage {t}": stage for t in range(50_000)}
    assert "stages: Dictionary should have at most 100 items" in accepted({**GOOD, "stages": many})


def test_settings_that_are_nested_10_000_deep_are_refused():
    deep: Any = 1
    for _ in range(10_000):
        deep = {"a": deep}
    assert "nested more than 100 deep" in accepted({**GOOD, "x": deep})
    with pytest.raises(ConfigError, match="nested more than 100 deep"):
        check_as(RunSettings, with_changes(GOOD, {".".join("a" * 10_000): 1}))


# Options of components.


def options_with_numbers() -> list[tuple[str, str, str]]:
    found = []
    for shelf in ("metrics", "stages", "objectives", "operators", "sources"):
        registry = SHELVES[shelf]
        for name in registry:
            for option, parameter in registry.options(name).items():
                text = str(parameter.annotation)
                numeric = "int" in text or "float" in text or "Temperature" in text
                if numeric and not text.startswith("Progress") and option != "progress":
                    found.append((shelf, name, option))
    return found


OPTIONS = options_with_numbers()


def test_the_table_has_the_options_of_all_kinds_of_components():
    assert {("stages", "mlp", "hidden"), ("objectives", "lcron", "temperature")} <= {*OPTIONS}
    assert {("sources", "synthetic", "requests"), ("metrics", "recall", "m")} <= {*OPTIONS}
    assert len(OPTIONS) > 100


@pytest.mark.parametrize(("shelf", "name", "option"), OPTIONS)
def test_extreme_values_of_an_option_are_accepted_or_refused_and_nothing_else(shelf, name, option):
    registry = SHELVES[shelf]
    for value in EXTREME:
        for given_value in (value, [value], {"a": value}):
            started = time.process_time()
            mistakes = registry.option_mistakes(name, {option: given_value})
            assert time.process_time() - started < 1
            too_large = isinstance(value, int) and abs(value) > 2**63
            too_large |= isinstance(value, float) and not abs(value) <= LARGEST_FLOAT32
            if too_large or value is True:
                assert mistakes, f"{option} = {given_value} was accepted"
                assert len(mistakes[0]) < 1000


# Options of commands.


def options_of_commands() -> dict[str, Any]:
    """The number options of all commands: what typer knows of them, by command and name."""
    found = {}
    for registered in app.registered_commands:
        command = registered.callback
        for name, annotation in get_type_hints(command, include_extras=True).items():
            parts = get_args(annotation)
            if parts and {int, float} & {parts[0], *get_args(parts[0])}:
                found[f"{command.__name__} --{name}"] = parts[1]
    return found


COMMAND_NUMBERS = options_of_commands()


def test_the_table_has_the_number_options_of_the_commands():
    expected = {
        "compare": ("seeds", "streaming", "jobs"),
        "profile": ("batch", "history", "seconds"),
        "heatmap": ("seeds",),
        "importance": ("repeats", "seed"),
        "evaluate": ("threshold",),
        "demo": ("requests",),
        "fields": ("keep",),
    }
    names = {f"{command} --{option}" for command, found in expected.items() for option in found}
    assert names <= set(COMMAND_NUMBERS)


@pytest.mark.parametrize("name", COMMAND_NUMBERS)
def test_every_number_option_of_a_command_has_a_range(name):
    option = COMMAND_NUMBERS[name]
    assert option.callback is finite or None not in (option.min, option.max)
