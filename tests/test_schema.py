"""A schema lists the features of a data set and refuses inconsistent ones."""

import pytest
from pydantic import ValidationError

from cascaderank.errors import DataError, SchemaError
from cascaderank.schema import Feature, FittedSchema, Kind, Role, Schema, abridged


def feature(name, role="item", kind="numeric", **more):
    return Feature(name=name, role=role, kind=kind, **more)


SCHEMA = Schema(features=(feature("user", "request"), feature("a1"), feature("a2"), feature("b")))


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["*"], ["user", "a1", "a2", "b"]),
        (["a?"], ["a1", "a2"]),
        (["b", "a1"], ["a1", "b"]),
        (["*", "!a*"], ["user", "b"]),
        (["!b", "*"], ["user", "a1", "a2"]),
    ],
)
def test_patterns_choose_in_the_order_of_the_schema(patterns, chosen):
    assert [f.name for f in SCHEMA.select(patterns)] == chosen


@pytest.mark.parametrize("pattern", ["usr", "!usr"])
def test_a_pattern_without_a_match_is_refused(pattern):
    with pytest.raises(SchemaError, match=r"no feature 'usr' \(did you mean 'user'\?\)"):
        SCHEMA.select(["*", pattern])


def test_names_are_unique():
    with pytest.raises(ValidationError, match="features named twice: a"):
        Schema(features=(feature("a"), feature("a", "request")))


@pytest.mark.parametrize("name", ["request_id", "level", "label"])
def test_names_of_other_columns_are_refused(name):
    with pytest.raises(ValidationError, match="reserved column name"):
        feature(name)


def test_features_of_one_vocabulary_agree():
    one = feature("video", kind="categorical", buckets=10)
    other = feature("seen", "history", "categorical", vocabulary="video", buckets=20)
    with pytest.raises(ValidationError, match="must agree on buckets"):
        Schema(features=(one, other))


def test_a_category_has_its_own_vocabulary_unless_another_is_given():
    assert feature("video", kind="categorical").vocabulary == "video"
    assert feature("video", kind="numeric").vocabulary == ""


def test_a_fitted_schema_survives_writing_and_reading(tmp_path):
    fitted = FittedSchema(
        features=(feature("video", kind="categorical"), feature("price")),
        vocabularies={"video": ("a", "b")},
        moments={"price": {"mean": 1.5, "deviation": 2.0}},
    )
    fitted.save(tmp_path / "schema.json")
    assert FittedSchema.load(tmp_path / "schema.json") == fitted
    assert fitted.codes(fitted["video"]) == 3
    assert fitted.plain() == Schema(features=fitted.features)


@pytest.mark.parametrize("content", [None, "", "{}", "[1]"])
def test_a_file_that_is_not_a_schema_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "schema.json").write_text(content)
    with pytest.raises(DataError, match=r"schema\.json: not a fitted schema"):
        FittedSchema.load(tmp_path / "schema.json")


@pytest.mark.parametrize(
    ("value", "message"),
    [("[" * 200 + "]" * 200, "nested more than 100 deep"), ("9" * 50, "more than 128 bits")],
)
def test_a_fitted_schema_has_the_bounds_of_any_json(tmp_path, value, message):
    (tmp_path / "schema.json").write_text(f'{{"features": [], "moments": {value}}}')
    with pytest.raises(DataError, match=rf"schema\.json: not a fitted schema: .* {message}"):
        FittedSchema.load(tmp_path / "schema.json")


def test_features_by_role_and_kind():
    assert [f.name for f in SCHEMA.of(Role.ITEM)] == ["a1", "a2", "b"]
    assert SCHEMA.of(Role.ITEM, Kind.CATEGORICAL) == ()


def test_long_lists_of_names_are_cut():
    assert abridged(["a", "b", "c"], most=2) == "a, b and 1 more"
    assert abridged([]) == "none"
