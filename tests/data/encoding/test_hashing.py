import numpy as np
import polars as pl
import pytest

from cascaderank.data.encoding.hashing import hashed, mix, seeded

# Output of the authors' reference of splitmix64 with the seed 1234567. Its state increases by the
# constant that `mix` adds, so the outputs equal `mix` of 1234567 + k times the constant.
REFERENCE = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def test_mix_equals_the_reference_of_splitmix64():
    step = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + k * step) % 2**64 for k in range(5)], dtype=np.uint64)
    assert mix(states).tolist() == REFERENCE


def test_hashes_never_change():
    assert hashed(pl.Series([0, 1, -1])).tolist() == [
        0xE220A8397B1DCDAF,
        0x910A2DEC89025CC1,
        0xE4D971771B652C20,
    ]
    # Output of `printf a | b2sum -l 64`, last byte first.
    assert hashed(pl.Series(["", "a", "grün"])).tolist() == [
        0xB4B2797457A0A6E4,
        0x2F42665B399EF840,
        0x0F69A4364A07E9E9,
    ]


@pytest.mark.parametrize("dtype", [pl.Int8, pl.Int32, pl.UInt16, pl.UInt64])
def test_an_integer_has_one_hash_for_all_widths(dtype):
    values = pl.Series([0, 1, 100])
    assert hashed(values.cast(dtype)).tolist() == hashed(values).tolist()


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["b", "a", "c"])])
def test_a_string_has_one_hash_for_all_types(dtype):
    values = pl.Series(["a", "b", "a"])
    assert hashed(values.cast(dtype)).tolist() == hashed(values).tolist()


def test_the_hash_of_a_value_does_not_depend_on_the_column():
    values = ["x", "y", "x", "z", "y"]
    alone = [hashed(pl.Series([v]))[0] for v in values]
    assert hashed(pl.Series(values)).tolist() == alone


def test_nulls_and_empty_columns_are_accepted():
    assert hashed(pl.Series([None, "a"]))[1] == hashed(pl.Series(["a"]))[0]
    assert hashed(pl.Series([None, 5]))[1] == hashed(pl.Series([5]))[0]
    assert hashed(pl.Series([None], dtype=pl.String)).shape == (1,)
    assert hashed(pl.Series([], dtype=pl.String)).shape == (0,)
    assert hashed(pl.Series([], dtype=pl.Int64)).shape == (0,)


def test_seeds_differ_even_next_to_each_other_and_below_zero():
    assert len({int(seeded(s)) for s in range(-3, 100)}) == 103
