"""Hashes of integers and strings that are equal on all machines and in all versions."""

import hashlib

import numpy as np
import polars as pl
from numpy.typing import NDArray


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the splitmix64 hash of each number, a bijection of the 64-bit integers.

    Args:
        values: numbers of any shape; sums and products wrap around modulo 2^64.

    Examples:
        >>> hex(int(mix(np.array([0], dtype=np.uint64))[0]))
        '0xe220a8397b1dcdaf'

    Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def seeded(seed: int) -> np.uint64:
    """Return the key of a seed: combine values with it by exclusive or before :func:`mix`.

    Args:
        seed: any integer; it is reduced modulo 2^64.

    Examples:
        >>> int(seeded(0)) == int(seeded(1))
        False
    """
    return np.uint64(mix(np.array([seed % 2**64], dtype=np.uint64))[0])


def hashed(values: pl.Series) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each integer or string; the hash of a null is undefined.

    Integers are hashed with splitmix64. Strings are encoded as UTF-8 and hashed with BLAKE2b, each
    distinct string once. The integer 1 and the string "1" have different hashes.

    Args:
        values: ``[n]`` integers, booleans or strings.

    Returns:
        ``[n]`` hashes.

    Examples:
        >>> hashed(pl.Series(["a", "b", "a"])).tolist()[0] == hashed(pl.Series(["a"])).tolist()[0]
        True

    Source: this project.
    """
    if values.dtype == pl.UInt64:
        return mix(values.fill_null(0).to_numpy())
    if values.dtype.is_integer() or values.dtype == pl.Boolean:
        return mix(values.cast(pl.Int64).fill_null(0).to_numpy().view(np.uint64))
    unique = values.cast(pl.String).unique().drop_nulls().sort()
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in unique]
    table = np.frombuffer(b"".join(digests) or bytes(8), dtype="<u8").astype(np.uint64)
    where = values.cast(pl.String).cast(pl.Enum(unique)).to_physical().fill_null(0).to_numpy()
    hashes: NDArray[np.uint64] = table[where]
    return hashes
