import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from cascaderank.data.ragged import flattened, lengths_of, offsets_of, positions_within

lists = st.lists(st.lists(st.none() | st.integers(0, 9), max_size=4), max_size=6)


@given(lists)
def test_lists_are_their_lengths_and_flat_values(lists):
    column = pl.Series(lists, dtype=pl.List(pl.Int64))
    lengths = lengths_of(column)
    assert lengths.tolist() == [len(values) for values in lists]
    assert flattened(column).to_list() == [v for values in lists for v in values]
    assert flattened(column).dtype == pl.Int64
    offsets = offsets_of(lengths)
    assert offsets.tolist() == [sum(map(len, lists[:i])) for i in range(len(lists) + 1)]
    assert positions_within(lengths).tolist() == [i for v in lists for i in range(len(v))]
    assert offsets.dtype == lengths.dtype == np.int64


def test_a_slice_of_a_column_has_only_its_own_values():
    column = pl.Series([[1, 2], [], [3], [4, 5]])[1:3]
    assert lengths_of(column).tolist() == [0, 1]
    assert flattened(column).to_list() == [3]


@given(lists, st.sampled_from([pl.String, pl.Boolean, pl.Float32, pl.Categorical]))
def test_lists_of_all_types_are_flattened(lists, dtype):
    column = pl.Series(lists, dtype=pl.List(pl.Int64)).cast(pl.List(pl.String))
    column = (
        column.cast(pl.List(dtype))
        if dtype != pl.Boolean
        else column.list.eval(pl.element() != "0")
    )
    assert lengths_of(column).tolist() == [len(values) for values in lists]
    assert flattened(column).to_list() == [v for values in column.to_list() for v in values]
    assert flattened(column).dtype == dtype
