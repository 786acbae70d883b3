"""All mutations of the content of a file, by its kind.

A mutation is a function of a random generator, the content, and the content of another file. One
that does not fit the content, such as of JSON that is no JSON, returns it unchanged.
"""

from tests.fuzz.byte_changes import BYTES, clear_bytes, flip_a_bit, flip_bits, truncate
from tests.fuzz.entry_changes import JSON, TOML
from tests.fuzz.table_changes import change_a_table
from tests.fuzz.text_changes import TEXT

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
