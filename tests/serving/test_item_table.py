"""Encoded items: tensors of their own memory."""

import polars as pl
import pytest
import torch

from cascaderank.data.encoding.encoder import Encoder
from cascaderank.schema import FittedSchema
from cascaderank.serving.item_table import ItemTable


@pytest.fixture
def every_warning():
    """PyTorch warns of memory that it must not write once for each process by default."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.mark.usefixtures("every_warning")
def test_codes_that_polars_shares_are_copied():
    schema = FittedSchema(
        features=(
            {"name": "film", "role": "item", "kind": "categorical"},
            {"name": "price", "role": "item", "kind": "numeric", "transform": "none"},
        ),
        vocabularies={"film": ("a", "b")},
    )
    raw = pl.DataFrame({"film": ["b", "a", "c"], "price": [1.0, 2.0, 3.0]})
    codes = Encoder(schema)(schema["film"], raw["film"])
    assert not codes.flags.writeable
    table = ItemTable.encode(raw, "film", schema)
    assert table.columns["film"].tolist() == [2, 1, 0]
    table.columns["film"].zero_()
    assert codes.tolist() == [2, 1, 0]
    assert table.raw["film"].to_list() == ["b", "a", "c"]
