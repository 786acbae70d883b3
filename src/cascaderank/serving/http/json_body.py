"""Strict JSON: no number that is not finite, no name twice, limited nesting and lengths."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from pydantic_core import from_json

from cascaderank.errors import shown
from cascaderank.serving.http.problems import ProblemError, invalid

_LOWEST, _HIGHEST = -(2**63), 2**64
_SCALARS: Final = {str, int, float, bool, type(None)}
_NUMBERS: Final = {int, float}


def parsed_object(body: bytes) -> dict[str, Any]:
    """Parse a body that must be one JSON object.

    Args:
        body: UTF-8 without a byte-order mark.

    Raises:
        ProblemError: if it is no JSON, is nested more than 200 deep, has a name twice in one
            object, NaN or an infinity, or is no object.

    Examples:
        >>> parsed_object(b'{"top": 3}')
        {'top': 3}
        >>> parsed_object(b'{"top": 3, "top": 4}')
        Traceback (most recent call last):
        cascaderank.serving.http.problems.ProblemError: body: expected each name once in an ...
    """
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _malformed("JSON in UTF-8", str(error)) from None
    if not isinstance(content, dict):
        raise _malformed("an object", shown(content))
    # Each name is followed by a colon. Texts can have colons, too: then names are compared.
    if body.count(b":") != _names(content):
        json.loads(body, object_pairs_hook=_unique)
    return content


def _malformed(expected: str, found: str) -> ProblemError:
    return invalid("body", expected=expected, found=found, name="malformed-body")


def _names(value: Any) -> int:
    """Return the number of names in all objects.

    A list that begins with a scalar is skipped: an object in it would be refused later, and
    missing names only make the caller compare them all.
    """
    if type(value) is dict:
        return len(value) + sum(_names(v) for v in value.values() if type(v) in (dict, list))
    if not value or type(value[0]) not in (dict, list):
        return 0
    if set(map(type, value)) == {dict}:  # rows: no loop in Python over each
        rows = sum(map(len, value))
        nested = {dict, list} & set(map(type, chain.from_iterable(map(dict.values, value))))
        return rows + (sum(_names(list(row.values())) for row in value) if nested else 0)
    return sum(_names(v) for v in value if type(v) in (dict, list))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _malformed("each name once in an object", f"{shown(twice)} twice")
    return found


def check_list(values: Sequence[Any], field: str, *, longest: int) -> None:
    """Check a list of scalars, or of lists of scalars.

    Args:
        values: parsed list.
        field: its name, for the message.
        longest: maximum length of it and of the lists in it.

    Raises:
        ProblemError: if it is longer, nested deeper, or has a number that is not finite or an
            integer of more than 64 bits.

    Examples:
        >>> check_list([1, "a", None, [2.5]], "history", longest=4)
    """
    _check_length(values, field, longest)
    kinds = set(map(type, values))
    if list in kinds:
        inner = [value for value in values if type(value) is list]
        _check_length(max(inner, key=len), field, longest)
        flat = list(chain.from_iterable(inner))
        _check_scalars(flat, set(map(type, flat)), field)
        values = [value for value in values if type(value) is not list]
        kinds.remove(list)
    _check_scalars(values, kinds, field)


def check_scalar(value: Any, field: str) -> None:
    """Check one value.

    Raises:
        ProblemError: as :func:`check_list`.
    """
    _check_scalars([value], {type(value)}, field)


def check_values(values: Mapping[str, Any], field: str, *, longest: int) -> None:
    """Check values by name: scalars, lists of scalars, or lists of such lists.

    Raises:
        ProblemError: as :func:`check_list`.
    """
    for name, value in values.items():
        if type(value) is list:
            check_list(value, f"{field}.{name}", longest=longest)
        else:
            check_scalar(value, f"{field}.{name}")


def check_rows(rows: Sequence[Mapping[str, Any]], field: str, *, longest: int) -> None:
    """Check rows of values by name, scalars or lists of them; much faster than each row alone.

    Raises:
        ProblemError: as :func:`check_list`; the field names the first wrong row.
    """
    flat = list(chain.from_iterable(row.values() for row in rows))
    try:
        check_list(flat, field, longest=max(longest, len(flat)))
        inner = max((len(v) for v in flat if type(v) is list), default=0)
        if inner <= longest:
            return
    except ProblemError:
        pass
    for place, row in enumerate(rows):
        for name, value in row.items():
            at = f"{field}[{place}].{name}"
            values = value if type(value) is list else [value]
            _check_length(values, at, longest)
            _check_scalars(values, set(map(type, values)), at)


def check_keys(keys: Iterable[Any], field: str) -> None:
    """Check keys of items: texts, or integers of 64 bits.

    Raises:
        ProblemError: if another value is among them.
    """
    keys = keys if type(keys) is list else list(keys)
    kinds = set(map(type, keys))
    if kinds <= {str, int}:
        _check_scalars(keys, kinds, field)
        return
    wrong = next(key for key in keys if type(key) not in (str, int))
    raise invalid(field, expected="keys of items, texts or integers", found=shown(wrong))


def _check_length(values: Sequence[Any], field: str, longest: int) -> None:
    if len(values) > longest:
        raise invalid(
            field, expected=f"at most {longest:,} values in a list", found=f"{len(values):,}"
        )


def _check_scalars(values: Sequence[Any], kinds: set[type], field: str) -> None:
    strange = kinds - _SCALARS
    if strange:
        wrong = next(value for value in values if type(value) in strange)
        kind = "an object" if type(wrong) is dict else "a list"
        raise invalid(field, expected="a number, a text, true, false or null", found=kind)
    if not kinds & _NUMBERS:
        return
    if kinds - _NUMBERS:
        values = [value for value in values if type(value) in _NUMBERS]
    low, high = min(values), max(values)
    if low == -math.inf or high == math.inf:  # `isinf` does not take large integers
        raise invalid(field, expected="finite numbers", found="a number beyond float64")
    if int in kinds and (low < _LOWEST or high >= _HIGHEST):
        wrong = [v for v in values if type(v) is int and not _LOWEST <= v < _HIGHEST]
        if wrong:
            raise invalid(field, expected="integers of 64 bits", found=shown(wrong[0]))
