"""TOML and JSON of a user: what no setting has is an error of one line, quickly."""

import contextlib
import json
import time
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import shown
from cascaderank.settings.files import parsed_change
from cascaderank.text_files import check_nested, parsed_json, parsed_toml

LONG = "9" * 5000


def short(value):
    """The name of a case."""
    return shown(value)[:30]


MANY = 100_000


def mistake(parse, text):
    started = time.process_time()
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared by the caller
        parse(text)
    assert time.process_time() - started < 2
    return str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * MANY,
        "x = " + "[" * MANY + "]" * MANY,
        "x = " + "{a = " * MANY + "1" + "}" * MANY,
        "x = " + "[" * 101 + "]" * 101,
    ],
    ids=short,
)
def test_toml_that_is_nested_too_deeply(text):
    assert mistake(parsed_toml, text) == "tables and lists are nested more than 100 deep"


@pytest.mark.parametrize(
    "text",
    [
        "[" + "a." * MANY + "a]",
        "[[" + "a . " * MANY + "a]]",
        "a." * MANY + "a = 1",
        "x = {" + "'a'." * MANY + "a = 1}",
        "x = 1\ny = {b = 2, " + '"a".' * MANY + "a = 1}",
        "a." * 100 + "a = 1",
        "x = '\"\"\"' # '\n" + "a." * MANY + 'a = \'"""\'',
        'x = ["""\n\\""""""]\n' + "a." * MANY + "a = 1",
    ],
    ids=short,
)
def test_a_key_of_toml_with_too_many_parts(text):
    assert mistake(parsed_toml, text) == "a key has more than 100 parts"


WORDS = "a." * 1000 + "a"


@pytest.mark.parametrize(
    "string",
    [
        f"'{WORDS}'",
        f'"{WORDS}"',
        rf'"\"{WORDS}"',
        f'"""\n{WORDS}\n\\"""{WORDS}, ""{WORDS}"""""',
        f"'''\n{WORDS}\n\\''{WORDS}'''''",
        f'"" # {WORDS}',
        "['''a" + "''b" * 50 + f"{WORDS}''', '{WORDS}']",
        f"\"\" # '\nb = \"{WORDS}\" # it is 'not' a 'key",
    ],
    ids=short,
)
def test_a_string_of_toml_may_have_any_dots(string):
    text = f"{'a.' * 98}a = {string}"
    assert parsed_toml(text) == tomllib.loads(text)


@pytest.mark.parametrize(
    "text",
    ['"' * MANY, "'" * MANY, '"""' + r"\\" * MANY, "'''" + "''a" * MANY, '"a' * MANY, "'\n" * MANY],
    ids=short,
)
def test_a_string_of_toml_without_an_end_is_refused_quickly(text):
    assert "\n" not in mistake(parsed_toml, f"x = {text}")


@pytest.mark.parametrize(
    "text",
    [
        "[" * MANY,
        "[" * MANY + "]" * MANY,
        '{"a":' * MANY + "1" + "}" * MANY,
        "[" * 102 + "]" * 102,
        '{"a":' * 101 + "1" + "}" * 101,
    ],
    ids=short,
)
def test_json_that_is_nested_too_deeply(text):
    assert mistake(parsed_json, text) == "tables and lists are nested more than 100 deep"


@pytest.mark.parametrize("number", [LONG, f"-{LONG}", str(2**128)], ids=short)
def test_integers_with_more_than_128_bits(number):
    for parse, text in ((parsed_toml, f"x = [{number}]"), (parsed_json, f'{{"x": [{number}]}}')):
        assert mistake(parse, text) == "an integer has more than 128 bits"
    assert mistake(parsed_toml, f"x = 0x{LONG}") == "an integer has more than 128 bits"


def test_what_is_right_is_read():
    deep = "[" * 99 + "]" * 99
    assert parsed_toml(f"x = {deep}") == tomllib.loads(f"x = {deep}")
    assert parsed_json(deep) == json.loads(deep)
    assert parsed_toml(f"x = {2**64}\na.b.c = 0.5\n[d.e]\nf = '{'1.' * 200}'")["x"] == 2**64
    assert parsed_json(str(2**64 - 1)) == 2**64 - 1


def test_texts_that_are_no_toml_or_json_say_so():
    with pytest.raises(tomllib.TOMLDecodeError):
        parsed_toml("x = ")
    with pytest.raises(json.JSONDecodeError):
        parsed_json("{")


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=20,
    )
)
def test_any_values_come_back_as_they_were_written(values):
    check_nested(values)
    assert parsed_json(json.dumps(values)) == values


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet='ab.="[]{}\\\n 0e-', max_size=60))
def test_any_text_is_read_or_refused(text):
    for parse in (parsed_toml, parsed_json):
        with contextlib.suppress(ValueError):
            parse(text)


@pytest.mark.parametrize(
    "text", ["a." * MANY + "a=1", '"a".' * MANY + "=1", '"' * MANY, "a=" + "[" * MANY]
)
def test_a_change_of_any_length_is_split_quickly(text):
    started = time.process_time()
    with contextlib.suppress(ValueError):
        parsed_change(text)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10**5000, "an integer of about 5001 digits"),
        ([1, True, None, "a"], "[1, true, None, 'a']"),
        (float("nan"), "nan"),
        ([[[[[1]]]]], "[[[[[...]]]]]"),
        (2**128, str(2**128)),
    ],
    ids=short,
)
def test_values_in_messages_are_short(value, text):
    assert shown(value) == text
    assert len(shown([value] * 10_000)) < 2000
