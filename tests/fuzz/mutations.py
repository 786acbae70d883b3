"""Mutations of the bytes, lines, cells and entries of a file; each is a function of its own.

A mutation takes a random generator, the content, and the content of another file. Text mutations
leave content that is no text as it is, and table mutations content that is no table.
"""

import io
import json
import re
from random import Random

import polars as pl

NUMBERS = (
    "nan", "NaN", "inf", "-inf", "1e400", "-1e400", "1e308", "1e38", "3.5e38", "1e-320", "-0", "-1",
    "0", "1", "007", "12e5", "1e3", "9223372036854775807", "9223372036854775808",
    "18446744073709551616", "-9223372036854775809", "16777217", "1" * 400, "1" * 5000, "0x10", "1_000",
    "1,5", "0.1.2", "1.", ".5", "+5", "--5", " 5", "5 ", "١٢", "½", "", "null", "NULL", "None", "NA",
    "true", "False", "1e", "1900-01-01", "9999-12-31", "0001-01-01T00:00:00Z", "31-01-24",
    "2024-02-30", "1700000000", "1700000000000", '"', '""', "'", "a\tb", "x" * 70_000,
)  # fmt: skip
"""Text in place of a cell of a table."""

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


def flip_a_bit(random: Random, content: bytes, other: bytes) -> bytes:
    return _flipped(random, content, 1)


def flip_bits(random: Random, content: bytes, other: bytes) -> bytes:
    return _flipped(random, content, random.randint(2, 30))


def _flipped(random: Random, content: bytes, count: int) -> bytes:
    changed = bytearray(content)
    for _ in range(count if content else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _span(random: Random, content: bytes) -> tuple[int, int]:
    first = random.randint(0, len(content))
    return first, min(len(content), first + random.choice([1, 1, 2, 8, 100, 1000]))


def delete_bytes(random: Random, content: bytes, other: bytes) -> bytes:
    first, end = _span(random, content)
    return content[:first] + content[end:]


def insert_bytes(random: Random, content: bytes, other: bytes) -> bytes:
    first, end = _span(random, content)
    return content[:first] + random.randbytes(end - first) + content[first:]


def clear_bytes(random: Random, content: bytes, other: bytes) -> bytes:
    first, end = _span(random, content)
    return content[:first] + bytes(end - first) + content[end:]


def repeat_bytes(random: Random, content: bytes, other: bytes) -> bytes:
    first, end = _span(random, content)
    return content[:end] + content[first:]


def truncate(random: Random, content: bytes, other: bytes) -> bytes:
    return content[: random.randint(0, len(content))]


def cut_the_start(random: Random, content: bytes, other: bytes) -> bytes:
    return content[random.randint(0, len(content)) :]


def remove_everything(random: Random, content: bytes, other: bytes) -> bytes:
    return b""


def double(random: Random, content: bytes, other: bytes) -> bytes:
    return content * 2


def splice(random: Random, content: bytes, other: bytes) -> bytes:
    return content[: random.randint(0, len(content))] + other[random.randint(0, len(other)) :]


def another_file(random: Random, content: bytes, other: bytes) -> bytes:
    return other


def random_bytes(random: Random, content: bytes, other: bytes) -> bytes:
    return random.randbytes(random.choice([1, 10, 1000]))


BYTES = (
    flip_a_bit, flip_bits, delete_bytes, insert_bytes, clear_bytes, repeat_bytes, truncate,
    cut_the_start, remove_everything, double, splice, another_file, random_bytes,
)  # fmt: skip


def mark_the_byte_order(random: Random, content: bytes, other: bytes) -> bytes:
    return random.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xef\xbb\xbf" * 2]) + content


def other_encoding(random: Random, content: bytes, other: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    name = random.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp037"])
    return text.encode(name, "replace")


def latin_letters(random: Random, content: bytes, other: bytes) -> bytes:
    first, _ = _span(random, content)
    inserted = random.choice(
        ["é".encode("latin-1"), "é".encode(), "\u2028".encode(), b"\xed\xa0\x80"]
    )
    return content[:first] + inserted + content[first:]


def control_characters(random: Random, content: bytes, other: bytes) -> bytes:
    first, _ = _span(random, content)
    return (
        content[:first]
        + bytes([random.choice([0, 1, 8, 9, 11, 12, 26, 27, 127])])
        + content[first:]
    )


def line_ends(random: Random, content: bytes, other: bytes) -> bytes:
    end = random.choice([b"\r\n", b"\r", b"\r\r\n", b"\n\n", b"\n \n", b"\x0b", b""])
    lines = content.split(b"\n")
    if random.random() < 0.5:
        return end.join(lines)
    place = random.randrange(len(lines))
    return b"\n".join(lines[:place]) + end + b"\n".join(lines[place:])


def repeat_a_line(random: Random, content: bytes, other: bytes) -> bytes:
    lines = content.split(b"\n")
    line = random.choice(lines)
    lines.insert(random.randint(0, len(lines)), line)
    return b"\n".join(lines)


def delete_a_line(random: Random, content: bytes, other: bytes) -> bytes:
    lines = content.split(b"\n")
    del lines[random.randrange(len(lines))]
    return b"\n".join(lines)


def swap_lines(random: Random, content: bytes, other: bytes) -> bytes:
    lines = content.split(b"\n")
    i, j = random.randrange(len(lines)), random.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return b"\n".join(lines)


def line_of_another_file(random: Random, content: bytes, other: bytes) -> bytes:
    lines = content.split(b"\n")
    lines.insert(random.randint(0, len(lines)), random.choice(other.split(b"\n"))[:10_000])
    return b"\n".join(lines)


def one_long_line(random: Random, content: bytes, other: bytes) -> bytes:
    place, _ = _span(random, content)
    return content[:place] + random.choice([b"1", b" 1", b",1", b"a"]) * 300_000 + content[place:]


def replace_a_cell(random: Random, content: bytes, other: bytes) -> bytes:
    """Replace what is between two separators by a number or text that is hard to read."""
    cells = [*re.finditer(rb"[^,\t :\n]+", content)]
    if not cells:
        return content
    cell = random.choice(cells)
    return content[: cell.start()] + random.choice(NUMBERS).encode() + content[cell.end() :]


def replace_a_column(random: Random, content: bytes, other: bytes) -> bytes:
    """Replace a field of all lines but the first, or the same field of some."""
    lines = content.split(b"\n")
    separator = next((s for s in (b"\t", b",", b" ") if s in lines[0]), b",")
    column, value = random.randint(0, lines[0].count(separator)), random.choice(NUMBERS).encode()
    share = random.choice([0.3, 1.0])
    for i, line in enumerate(lines[1:], 1):
        cells = line.split(separator)
        if column < len(cells) and random.random() <= share:
            cells[column] = value
            lines[i] = separator.join(cells)
    return b"\n".join(lines)


def swap_columns(random: Random, content: bytes, other: bytes) -> bytes:
    """Exchange two fields of some lines, or of all; also of the first line, or only of it."""
    lines = content.split(b"\n")
    separator = next((s for s in (b"\t", b",", b" ") if s in lines[0]), b",")
    count = lines[0].count(separator) + 1
    i, j, share = random.randrange(count), random.randrange(count), random.choice([0.1, 1.0])
    first = random.choice([0, 1])
    for number, line in enumerate(lines):
        cells = line.split(separator)
        if len(cells) == count and number >= first and random.random() <= share:
            cells[i], cells[j] = cells[j], cells[i]
            lines[number] = separator.join(cells)
    return b"\n".join(lines)


def rename_a_column(random: Random, content: bytes, other: bytes) -> bytes:
    header, newline, rest = content.partition(b"\n")
    names = re.split(rb"([,\t ])", header)
    names[2 * random.randrange((len(names) + 1) // 2)] = random.choice(
        [
            b"x",
            b"",
            b"label",
            b"level",
            b"timestamp",
            b"position",
            b"feedback",
            b"item_key",
            b"*",
            b"^.*$",
            b'"',
        ]
    )
    return b"".join(names) + newline + rest


TEXT = (
    mark_the_byte_order, other_encoding, latin_letters, control_characters, line_ends, repeat_a_line,
    delete_a_line, swap_lines, line_of_another_file, one_long_line, replace_a_cell, replace_a_cell,
    replace_a_column, swap_columns, rename_a_column,
)  # fmt: skip


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


def change_a_table(random: Random, content: bytes, other: bytes) -> bytes:
    """Change a column of a Parquet or Arrow file, or its rows."""
    is_arrow = content.startswith(b"ARROW1")
    read, write = (pl.read_ipc, "write_ipc") if is_arrow else (pl.read_parquet, "write_parquet")
    try:
        table = read(io.BytesIO(content))
    except Exception:  # noqa: BLE001 - mutated before
        return content
    changed = io.BytesIO()
    try:
        getattr(random.choice(TABLE_CHANGES)(random, table), write)(changed)
    except pl.exceptions.PolarsError:  # such as a cast that is not possible
        return content
    return changed.getvalue()


def _column(random: Random, table: pl.DataFrame) -> str:
    return random.choice(table.columns)


def _cast(random: Random, table: pl.DataFrame) -> pl.DataFrame:
    name = _column(random, table)
    kinds = [
        pl.String,
        pl.Float64,
        pl.Float32,
        pl.Int8,
        pl.Int64,
        pl.UInt64,
        pl.Boolean,
        pl.Categorical,
        pl.Null,
    ]
    kinds += [
        pl.Binary,
        pl.Date,
        pl.Datetime("ns"),
        pl.Duration,
        pl.Decimal(38, 3),
        pl.List(pl.String),
    ]
    return table.with_columns(pl.col(name).cast(random.choice(kinds), strict=False))


def _fill(random: Random, table: pl.DataFrame) -> pl.DataFrame:
    name = _column(random, table)
    value = random.choice(
        [None, 0, -1, 1e38, float("nan"), float("inf"), "", "x", 10**18, True, [], [1.0], [None]]
    )
    return table.with_columns(pl.lit(pl.Series([value] * table.height)).alias(name))


def _set(random: Random, table: pl.DataFrame) -> pl.DataFrame:
    name, row = _column(random, table), random.randrange(max(1, table.height))
    value = random.choice([None, 0, -1, 1e38, float("nan"), float("inf"), 10**18, 2**63])
    number = pl.int_range(pl.len()) == row
    return table.with_columns(
        pl.when(number).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
    )


def _rename(random: Random, table: pl.DataFrame) -> pl.DataFrame:
    return table.rename(
        {_column(random, table): random.choice(["x", "", "*", "^.*$", "label", "level", "a,b"])}
    )


def _exchange(random: Random, table: pl.DataFrame) -> pl.DataFrame:
    a, b = _column(random, table), _column(random, table)
    return table if a == b else table.rename({a: b, b: a})


TABLE_CHANGES = (
    _cast, _cast, _fill, _set, _set, _rename, _exchange,
    lambda random, table: table.drop(_column(random, table)),
    lambda random, table: table.select(random.sample(table.columns, len(table.columns))),
    lambda random, table: table[random.sample(range(table.height), table.height)],
    lambda random, table: table.sample(table.height, with_replacement=True, seed=random.randrange(99)),
    lambda random, table: pl.concat([table, table]),
    lambda random, table: table.head(random.randrange(2)),
    lambda random, table: table.select(pl.struct(pl.all()).alias(_column(random, table))),
    lambda random, table: table.with_columns(pl.concat_list(pl.col(_column(random, table)))),
)  # fmt: skip

TABLE = (*[change_a_table] * 6, flip_a_bit, flip_bits, truncate, clear_bytes)

BY_SUFFIX = {
    ".toml": (*TOML, *TOML, *TEXT),
    ".json": (*JSON, *JSON, *TEXT),
    ".jsonl": (*JSON, *TEXT),
    ".parquet": TABLE,
    ".feather": TABLE,
    ".pt": (flip_a_bit,),
    ".pkl": (flip_a_bit,),
    ".safetensors": (flip_a_bit,),
    ".gz": (flip_a_bit,),
}
"""Mutations for one kind of file, beside those of bytes; for other files, those of text."""


def mutations_of(name: str) -> tuple:
    """Return the mutations for a file, those for its kind more often than those of bytes."""
    own = next((of for suffix, of in BY_SUFFIX.items() if name.endswith(suffix)), TEXT)
    return (*own, *own, *BYTES)
