"""Bodies are strict JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascaderank.serving.http.json_body import check_list, check_rows, parsed_object
from cascaderank.serving.http.problems import ProblemError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(-9, 9)
    | st.text('ab:"\\é{', max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab:", max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text("ab:", max_size=2), VALUES, max_size=4))
def test_objects_are_parsed_as_by_the_standard_library(value):
    body = json.dumps(value).encode()
    assert parsed_object(body) == json.loads(body)


@given(
    st.dictionaries(st.text("ab", min_size=1, max_size=2), VALUES, min_size=1, max_size=3),
    st.data(),
)
def test_a_name_that_occurs_twice_is_found_at_any_depth(value, data):
    """The name is doubled in the text, in an object in a list in an object."""
    text = json.dumps(value)
    name = data.draw(st.sampled_from(sorted(value)))
    doubled = f"{text[:-1]}, {json.dumps(name)}: 1}}"
    for body in (
        doubled,
        f'{{"x": {doubled}}}',
        f'{{"x": [{doubled}]}}',
        f'{{"x": [{{"y": {doubled}}}]}}',
    ):
        with pytest.raises(ProblemError, match="each name once"):
            parsed_object(body.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"7", b"null", b'"x"', b"{", b"{}{}", b'{"a": NaN}', b'{"a": Infinity}',
        b'{"a": -Infinity}', b'{"a": 01}', b'{"a": 1,}', b"{'a': 1}", b'\xef\xbb\xbf{}',
        '{"a": 1}'.encode("utf-16"), b'{"a": "\xff"}', b'{"a": "\\ud800"}', b'{"a": "\x01"}',
        b'{"a":' * 300 + b"1" + b"}" * 300, b"[" * 100_000, b'{"a": 1, "a": 1}',
    ],
)  # fmt: skip
def test_what_is_no_strict_json_object_is_refused(body):
    with pytest.raises(ProblemError) as error:
        parsed_object(body)
    assert error.value.status == 400
    assert error.value.members["expected"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1e400], "finite numbers"),
        ([-1e400, "a"], "finite numbers"),
        ([2**64], "64 bits"),
        ([1, "a", -(2**63) - 1], "64 bits"),
        ([0.5, 2**64], "64 bits"),
        ([1] * 6, "at most 5 values"),
        ([[1] * 6], "at most 5 values"),
        ([[[1]]], "found a list"),
        ([{"a": 1}], "found an object"),
        ([[1e400], 3], "finite numbers"),
    ],
)
def test_lists_with_impossible_values_are_refused(values, message):
    with pytest.raises(ProblemError, match=message):
        check_list(values, "x", longest=5)
    rows = [
        {"a": 1},
        {"a": values if message.startswith("at most") else values[-1], "b": values[0]},
    ]
    if message != "at most 5 values":
        with pytest.raises(ProblemError, match=r"x\[1\]"):
            check_rows(rows, "x", longest=5)


def test_numbers_up_to_the_limits_are_taken():
    check_list([2**64 - 1, -(2**63), 1e308, -1e308, True, None, "x", [1], []], "x", longest=9)
