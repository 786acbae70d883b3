import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.data.encoding.column_blocks import columns_first
from cascaderank.data.loading.padding import Padding
from cascaderank.data.ragged import offsets_of


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
    st.sampled_from([np.int8, np.int32, np.int64, np.float32]),
    st.integers(1, 3),
    st.integers(0, 5),
    st.data(),
)
def test_padding_equals_that_of_plain_python(lengths, dtype, columns, least, data):
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6))
    offsets = offsets_of(np.array(lengths))
    # All values are distinct and nonzero.
    block = np.arange(1, offsets[-1] * columns + 1).reshape(-1, columns).astype(dtype)
    padding = Padding(offsets, np.array(rows, dtype=np.int64), least=least)
    found, mask = padding.padded(block), padding.mask()

    longest = max([least, *(lengths[row] for row in rows)])
    lists = [list(range(offsets[row], offsets[row + 1])) for row in rows]
    expected = [
        [[block[i, c].item() for i in places] + [0] * (longest - len(places)) for places in lists]
        for c in range(columns)
    ]
    assert found.shape == (columns, len(rows), longest)
    assert found.dtype == (torch.float32 if dtype is np.float32 else torch.int64)
    assert found.tolist() == expected
    assert mask.tolist() == [[i < len(places) for i in range(longest)] for places in lists]
    assert mask.shape == (len(rows), longest)


def test_values_beyond_a_list_are_overwritten_even_if_they_are_nan():
    block = np.array([[1.0], [np.nan], [np.inf], [4.0]], dtype=np.float32)
    padding = Padding(np.array([0, 1, 3, 4]), np.array([0, 1, 2]))
    assert padding.padded(block)[0].nan_to_num(nan=-1).tolist()[0] == [1, 0]
    assert padding.padded(block)[0].nan_to_num(nan=-1).tolist()[2] == [4, 0]


def test_padding_does_not_change_the_column():
    block = np.arange(6, dtype=np.float32).reshape(3, 2)
    block.flags.writeable = False
    Padding(np.array([0, 1, 3]), np.arange(2)).padded(block).fill_(9)
    assert block.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_columns_first_copies_to_the_dtype_of_model_inputs():
    values = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.int32)
    first = columns_first(values)
    assert first.tolist() == [[1, 3, 5], [2, 4, 6]]
    assert first.dtype == np.int64
    assert first.flags.c_contiguous
    assert not np.shares_memory(first, values)
