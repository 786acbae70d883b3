import numpy as np
import pytest

from cascaderank.data.encoding.column_files import ColumnFiles
from cascaderank.errors import DataError


def test_columns_are_appended_to_and_mapped_read_only(tmp_path):
    with ColumnFiles(tmp_path / "new" / "folder") as files:
        for chunk in (np.arange(3, dtype=np.int32), np.zeros(0, np.int32), np.array([7], np.int32)):
            files.append("a/b: c", chunk)
            files.append("x", chunk[::-1].astype(np.float64))
        column, other = files.mapped("a/b: c"), files.mapped("x")
    assert column.tolist() == [0, 1, 2, 7]
    assert other.tolist() == [2, 1, 0, 7]
    assert (column.dtype, other.dtype) == (np.int32, np.float64)
    with pytest.raises(ValueError, match="read-only"):
        column[0] = 1


def test_a_column_without_values_is_empty(tmp_path):
    with ColumnFiles(tmp_path) as files:
        files.append("x", np.zeros(0, np.float32))
        assert files.mapped("x").shape == (0,)
        assert files.mapped("x").dtype == np.float32


def test_existing_columns_of_a_folder_are_overwritten(tmp_path):
    for values in ([1, 2], [3]):
        with ColumnFiles(tmp_path) as files:
            files.append("x", np.array(values))
            assert files.mapped("x").tolist() == values


def test_a_folder_that_cannot_be_created_or_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file: cannot be written: File exists"):
        ColumnFiles(tmp_path / "file")
    (tmp_path / "folder" / "column-00000.bin").mkdir(parents=True)
    files = ColumnFiles(tmp_path / "folder")
    with pytest.raises(DataError, match="folder: cannot be written: Is a directory"):
        files.append("x", np.zeros(1))
