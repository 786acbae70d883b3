import numpy as np
import pytest

from cascaderank.data.encoding.column_blocks import Table

COLUMNS = {
    "a": np.array([1, 2], dtype=np.int32),
    "x": np.array([0.5, np.nan], dtype=np.float32),
    "b": np.array([3, 4], dtype=np.int32),
}


def test_columns_of_one_dtype_share_a_block_and_keep_their_order():
    table = Table.of(COLUMNS)
    assert list(table) == ["a", "x", "b"]
    assert len(table) == 3
    for name, values in COLUMNS.items():
        np.testing.assert_array_equal(table[name], values)
        assert table[name].dtype == values.dtype
    assert table.blocks["a", "b"].tolist() == [[1, 3], [2, 4]]
    assert all(block.flags.c_contiguous for block in table.blocks.values())
    with pytest.raises(KeyError):
        table["c"]


def test_columns_of_two_sequences_are_in_separate_blocks():
    columns = {**COLUMNS, "b": np.array([5], dtype=np.int32)}
    table = Table.of(columns, {"a": "one", "x": "one", "b": "other"})
    assert set(table.blocks) == {("a",), ("x",), ("b",)}


def test_a_table_is_returned_unchanged():
    table = Table.of(COLUMNS)
    assert Table.of(table) is table
    assert list(Table.of({})) == []
