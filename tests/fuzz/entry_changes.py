"""Mutations of the entries of a TOML or JSON file."""

import json
import re
from random import Random

from tests.fuzz.text_changes import delete_a_line, repeat_a_line, swap_lines

VALUES = (
    "nan", "inf", "-inf", "-1", "0", "1", "2", "1e400", "1e-320", "1000000000000000000", "9" * 30, "9" * 5000,
    "true", "false", '""', '"x"', '"*"', '"!*"', '"../../etc/passwd"', '"\\u0000"', '"/dev/zero"', '"."',
    '"auto"', '"nosuch"', '"\\uD800"', "[]", "[1]", "[-1]", "[0]", '["a", "a"]', '["*"]', "[[1]]", "{}",
    "{ a = 1 }", "[" * 3000 + "]" * 3000, "{a=" * 500 + "1" + "}" * 500, "2024-01-01", "1e3", "0.5", "0x7f",
    "[1000000000000]", "'" + "x" * 5000 + "'", '"[" ', "=", "",
)  # fmt: skip
"""Text in place of a value in TOML; most is valid TOML."""

ENTRIES = (
    None, True, False, 0, 1, -1, 1.5, 10**18, 10**30, float("nan"), float("inf"), -1e308, "", "x", "*",
    "../../etc/passwd", "\x00", "\ud800", [], [None], {}, {"a": 1}, [[]], "9" * 64,
)  # fmt: skip
"""Values in place of an entry in JSON."""


def replace_a_value(random: Random, content: bytes, other: bytes) -> bytes:
    """Replace what follows an equals sign, by other TOML or what is none."""
    places = [*re.finditer(rb"(?<== )[^\n,}]+", content)]
    if not places:
        return content
    place = random.choice(places)
    value = random.choice(VALUES).encode()
    return content[: place.start()] + value + content[place.end() :]


def rename_a_setting(random: Random, content: bytes, other: bytes) -> bytes:
    names = [*re.finditer(rb"[\w.]+(?= =|\])", content)]
    if not names:
        return content
    name = random.choice(names)
    new = random.choice(
        [name[0] + b"s", name[0][:-1], b"a.b", b'""', b'"."', b"x" * 2000, random.choice(names)[0]]
    )
    return content[: name.start()] + new + content[name.end() :]


def add_a_setting(random: Random, content: bytes, other: bytes) -> bytes:
    lines = content.split(b"\n")
    new = random.choice(
        [b"[a]", b"a = 1", b"[[stages]]", b"[train]", b'"" = 1', b"a.b.c.d = 1", b"[stages.x]"]
    )
    lines.insert(random.randint(0, len(lines)), new)
    return b"\n".join(lines)


TOML = (
    *[replace_a_value] * 4,
    rename_a_setting,
    add_a_setting,
    delete_a_line,
    repeat_a_line,
    swap_lines,
)


def change_an_entry(random: Random, content: bytes, other: bytes) -> bytes:
    """Replace, remove or repeat an entry of a JSON object or list."""
    try:
        value = json.loads(content)
    except ValueError:
        return content
    inner = [v for v in _all_of(value) if isinstance(v, (dict, list)) and v]
    if not inner:
        return content
    place = random.choice(inner)
    keys = list(place) if isinstance(place, dict) else range(len(place))
    key, act = (
        random.choice(keys),
        random.choice(["replace", "replace", "remove", "rename", "repeat"]),
    )
    if act == "replace":
        place[key] = random.choice(ENTRIES)
    elif act == "remove":
        del place[key]
    elif isinstance(place, dict):
        place[f"{key}s"] = place[key] if act == "repeat" else place.pop(key)
    else:
        place.insert(random.randint(0, len(place)), place[key])
    return json.dumps(value, indent=1).encode("utf-8", "surrogatepass")


def _all_of(value: object) -> list[object]:
    """Return a value and all values in it."""
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(inner for one in values for inner in _all_of(one))]


def repeat_a_key(random: Random, content: bytes, other: bytes) -> bytes:
    """Write a key twice, with two values; parsers of JSON use the last."""
    keys = [*re.finditer(rb'"[^"\n]*": ', content)]
    if not keys:
        return content
    key = random.choice(keys)
    return content[: key.start()] + key[0] + b"1, " + content[key.start() :]


def nest_deeply(random: Random, content: bytes, other: bytes) -> bytes:
    places = [*re.finditer(rb'(?<=": )(\d+|"[^"]*")', content)]
    if not places:
        return b"[" * 100_000
    place = random.choice(places)
    depth = random.choice([10, 10_000])
    return content[: place.start()] + b"[" * depth + b"]" * depth + content[place.end() :]


JSON = (*[change_an_entry] * 4, repeat_a_key, nest_deeply)
