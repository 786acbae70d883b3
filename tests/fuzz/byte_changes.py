"""Mutations of the bytes of a file."""

from random import Random


def flip_a_bit(random: Random, content: bytes, other: bytes) -> bytes:
    return _flipped(random, content, 1)


def flip_bits(random: Random, content: bytes, other: bytes) -> bytes:
    return _flipped(random, content, random.randint(2, 30))


def _flipped(random: Random, content: bytes, count: int) -> bytes:
    changed = bytearray(content)
    for _ in range(count if content else 0):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def span(random: Random, content: bytes) -> tuple[int, int]:
    first = random.randint(0, len(content))
    return first, min(len(content), first + random.choice([1, 1, 2, 8, 100, 1000]))


def delete_bytes(random: Random, content: bytes, other: bytes) -> bytes:
    first, end = span(random, content)
    return content[:first] + content[end:]


def insert_bytes(random: Random, content: bytes, other: bytes) -> bytes:
    first, end = span(random, content)
    return content[:first] + random.randbytes(end - first) + content[first:]


def clear_bytes(random: Random, content: bytes, other: bytes) -> bytes:
    first, end = span(random, content)
    return content[:first] + bytes(end - first) + content[end:]


def repeat_bytes(random: Random, content: bytes, other: bytes) -> bytes:
    first, end = span(random, content)
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
