"""Mutations of the encoding, lines and cells of a text file."""

import re
from random import Random

from tests.fuzz.byte_changes import span

NUMBERS = (
    "nan", "NaN", "inf", "-inf", "1e400", "-1e400", "1e308", "1e38", "3.5e38", "1e-320", "-0", "-1",
    "0", "1", "007", "12e5", "1e3", "9223372036854775807", "9223372036854775808",
    "18446744073709551616", "-9223372036854775809", "16777217", "1" * 400, "1" * 5000, "0x10", "1_000",
    "1,5", "0.1.2", "1.", ".5", "+5", "--5", " 5", "5 ", "١٢", "½", "", "null", "NULL", "None", "NA",
    "true", "False", "1e", "1900-01-01", "9999-12-31", "0001-01-01T00:00:00Z", "31-01-24",
    "2024-02-30", "1700000000", "1700000000000", '"', '""', "'", "a\tb", "x" * 70_000,
)  # fmt: skip
"""Text in place of a cell of a table."""


def mark_the_byte_order(random: Random, content: bytes, other: bytes) -> bytes:
    return random.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xef\xbb\xbf" * 2]) + content


def other_encoding(random: Random, content: bytes, other: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    name = random.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp037"])
    return text.encode(name, "replace")


def latin_letters(random: Random, content: bytes, other: bytes) -> bytes:
    first, _ = span(random, content)
    inserted = random.choice(
        ["é".encode("latin-1"), "é".encode(), "\u2028".encode(), b"\xed\xa0\x80"]
    )
    return content[:first] + inserted + content[first:]


def control_characters(random: Random, content: bytes, other: bytes) -> bytes:
    first, _ = span(random, content)
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
    place, _ = span(random, content)
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
