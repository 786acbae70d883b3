"""Text that users write: UTF-8 with or without a byte-order mark, TOML and JSON."""

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from cascaderank.regular_files import read_file

_DEEPEST, _MOST_BITS = 100, 128
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*+"{3,5}|"(?:[^"\\\n]|\\.)*+"'
    r"|'''(?:[^']|'{1,2}(?!'))*+'{3,5}|'[^'\n]*+'"
    r"|#[^\n]*+",
    re.DOTALL,
)
"""A string or a comment of TOML."""
_LONG_KEY = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{_DEEPEST}}}")
_TOO_DEEP = f"tables and lists are nested more than {_DEEPEST} deep"
_TOO_LONG = f"an integer has more than {_MOST_BITS} bits"

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""First bytes of a UTF-8 file that Windows programs write; not a part of the text."""

_MOST_BYTES = 1 << 28


def other_encoding(start: bytes) -> str:
    """Return the encoding of a file that is not UTF-8, as far as its first bytes show it.

    Args:
        start: first bytes of the file, such as its first line.

    Returns:
        ``"UTF-16"`` or ``"UTF-32"`` if the bytes begin with a byte-order mark of one of both, or if
        every second byte is zero, as in UTF-16 text of ASCII characters; else an empty string.

    Examples:
        >>> other_encoding("q1 0 d1 1".encode("utf-16")), other_encoding(b"q1 0 d1 1")
        ('UTF-16', '')
    """
    if start.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "UTF-32"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    halves = (start[0:64:2], start[1:64:2])
    return "UTF-16" if sorted(any(half) + all(half) for half in halves) == [0, 2] else ""


def read_text(path: str | os.PathLike[str]) -> str:
    r"""Return the text of a UTF-8 file without its byte-order mark, with ``\n`` as line ends.

    Args:
        path: file to read.

    Raises:
        OSError: if the file cannot be read, is no regular file, or has more than 256 MiB.
        UnicodeError: if the file is not UTF-8; the message names the encoding or the line.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "options.toml"
        ...     _ = file.write_bytes(b"\xef\xbb\xbflabel = 'click'\r\n")
        ...     read_text(file)
        "label = 'click'\n"
    """
    content = read_file(path, _MOST_BYTES)
    if encoding := other_encoding(content[:64]):
        raise UnicodeError(f"expected UTF-8 text, found {encoding}; convert the file to UTF-8")
    content = content.removeprefix(BYTE_ORDER_MARK)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnicodeError(
            f"line {line}: expected UTF-8 text, found the byte 0x{content[error.start]:02x}; "
            "convert the file to UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parsed_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Args:
        text: a TOML document.

    Raises:
        tomllib.TOMLDecodeError: if the text is not TOML.
        ValueError: if it is nested more than 100 deep, or has a key of more than 100 parts or an
            integer of more than 128 bits.

    Examples:
        >>> parsed_toml("quota = 30")
        {'quota': 30}
        >>> parsed_toml("z = " + 101 * "[" + 101 * "]")
        Traceback (most recent call last):
        ValueError: tables and lists are nested more than 100 deep
    """
    # Time and memory of tomllib are quadratic in the parts of a key; a part may be quoted.
    if _LONG_KEY.search(_STRING.sub("_", text)):
        raise ValueError(f"a key has more than {_DEEPEST} parts")
    values: dict[str, Any] = _parsed(tomllib.loads, text)
    return values


def parsed_json(text: str) -> Any:
    """Parse JSON.

    Args:
        text: a JSON document.

    Raises:
        json.JSONDecodeError: if the text is not JSON.
        ValueError: if it is nested more than 100 deep, or has an integer of more than 128 bits.

    Examples:
        >>> parsed_json('{"quota": 30}')
        {'quota': 30}
    """
    return _parsed(json.loads, text)


def check_nested(values: object) -> None:
    """Check that nested values can be validated and printed.

    Args:
        values: mappings, lists and values in them.

    Raises:
        ValueError: if they are nested more than 100 deep, or have an integer of more than 128 bits.
    """
    inner = [values]
    for _ in range(_DEEPEST + 1):
        kinds = set(map(type, inner))  # few, also of millions of values
        integers = tuple(kind for kind in kinds if issubclass(kind, int))
        nested = tuple(kind for kind in kinds if issubclass(kind, Mapping | list | tuple))
        if integers and any(v.bit_length() > _MOST_BITS for v in inner if isinstance(v, integers)):
            raise ValueError(_TOO_LONG)
        if not nested:
            return
        of_tables = [
            v.values() if isinstance(v, Mapping) else v for v in inner if isinstance(v, nested)
        ]
        inner = list(chain.from_iterable(of_tables))
    raise ValueError(_TOO_DEEP)


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        values = parse(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError):
        raise
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError:  # Python converts no integer of more than 4,300 digits
        raise ValueError(_TOO_LONG) from None
    check_nested(values)
    return values
