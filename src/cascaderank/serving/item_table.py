"""Items with their own features: raw values and codes, mapped from the files of a bundle."""

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

from cascaderank.data.encoding.encoder import Encoder
from cascaderank.data.encoding.flatten import encoded_lists
from cascaderank.data.encoding.value_lists import ValueLists
from cascaderank.schema import FittedSchema
from cascaderank.serving.bundle_files import ITEM_CODES, ITEMS

Places = NDArray[np.int64]


@final
class ItemTable:
    """One row per item: its key, raw values, and encoded values as inputs of the stages.

    Args:
        raw: key and features of the items, one row per item.
        key: column that identifies an item.
        columns: encoded features with one value, ``[items]`` each.
        lists: encoded features with several values.

    Examples:
        >>> schema = FittedSchema(
        ...     features=({"name": "film", "role": "item", "kind": "categorical"},),
        ...     vocabularies={"film": (7, 9)},
        ... )
        >>> table = ItemTable.encode(pl.DataFrame({"film": [9, 4]}), "film", schema)
        >>> table.places([4, 5]).tolist(), table.out_of_vocabulary
        ([1, -1], {'film': 1})
    """

    def __init__(
        self,
        raw: pl.DataFrame,
        key: str,
        columns: Mapping[str, Tensor],
        lists: Mapping[str, ValueLists],
    ) -> None:
        self.raw, self.key = raw, key
        self.columns, self.lists = columns, lists

    @classmethod
    def encode(cls, raw: pl.DataFrame, key: str, schema: FittedSchema) -> Self:
        """Encode raw values by a schema.

        Args:
            raw: one row per item, with the key and the features of the schema.
            key: column that identifies an item.
            schema: features of the item alone, fitted to the training requests.

        Raises:
            SchemaError: if the values have another type than those that the schema was fitted to.
            DataError: if numbers are not finite, or are missing and must not be.
        """
        encoder = Encoder(schema)
        # Polars and NumPy can share read-only memory, which PyTorch must not have.
        single = {
            f.name: np.require(encoder(f, raw[f.name]), requirements="W")
            for f in schema.features
            if not f.several
        }
        return cls(
            raw,
            key,
            {name: torch.from_numpy(values) for name, values in single.items()},
            {f.name: encoded_lists(encoder, f, raw[f.name]) for f in schema.features if f.several},
        )

    @classmethod
    def open(cls, folder: str | os.PathLike[str], key: str, schema: FittedSchema) -> Self:
        """Map the files that :meth:`save` wrote.

        Args:
            folder: folder of a bundle.
            key: column that identifies an item.
            schema: features of the item alone.
        """
        raw = pl.read_ipc(Path(folder) / ITEMS)
        columns, lists = {}, {}
        with safe_open(Path(folder) / ITEM_CODES, framework="pt") as file:
            for f in schema.features:
                if f.several:
                    names = (f"{part}/{f.name}" for part in ("offsets", "values"))
                    offsets, values = (file.get_tensor(name).numpy() for name in names)
                    lists[f.name] = ValueLists(offsets=offsets, values=values, width=f.width or 1)
                else:
                    columns[f.name] = file.get_tensor(f"value/{f.name}")
        return cls(raw, key, columns, lists)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write raw and encoded values into the folder of a bundle."""
        self.raw.write_ipc(Path(folder) / ITEMS, compression="uncompressed")
        arrays = {f"value/{name}": values.numpy() for name, values in self.columns.items()}
        for name, lists in self.lists.items():
            arrays[f"offsets/{name}"] = lists.offsets
            arrays[f"values/{name}"] = np.ascontiguousarray(lists.values)
        save_file(arrays, Path(folder) / ITEM_CODES)

    def __len__(self) -> int:
        return self.raw.height

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the encoded features."""
        return (*self.columns, *self.lists)

    @property
    def bytes(self) -> int:
        """Size of the encoded values."""
        of_lists = sum(v.offsets.nbytes + v.values.nbytes for v in self.lists.values())
        return sum(c.nbytes for c in self.columns.values()) + of_lists

    @cached_property
    def keys(self) -> list[Any]:
        """Keys of all items, in the order of the rows."""
        return self.raw[self.key].to_list()

    @cached_property
    def _place_of(self) -> dict[Any, int]:
        return {key: place for place, key in enumerate(self.keys)}

    def places(self, keys: Iterable[Any]) -> Places:
        """Return the row of each item by its key; -1 for an item that is not in the table."""
        place_of = self._place_of
        return np.array([place_of.get(key, -1) for key in keys], dtype=np.int64)

    def encoded(self, names: Iterable[str], places: Places) -> dict[str, Tensor]:
        """Return features of some items as inputs of a stage, ``[1, items]`` or with values.

        Args:
            names: names of features.
            places: rows of the items.
        """
        rows, found = torch.from_numpy(places), {}
        for name in names:
            if name in self.lists:
                found[name] = torch.from_numpy(self.lists[name].padded(places))[None]
                continue
            values = self.columns[name].index_select(0, rows)
            found[name] = (values if values.is_floating_point() else values.long())[None]
        return found

    @property
    def out_of_vocabulary(self) -> dict[str, int]:
        """Number of items with a category that training did not have, by feature."""
        codes = {n: c for n, c in self.columns.items() if not c.is_floating_point()}
        counts = {name: int((column == 0).sum()) for name, column in codes.items()}
        for name, lists in self.lists.items():
            if lists.values.dtype.kind != "f":
                counts[name] = int((lists.values == 0).sum())
        return {name: count for name, count in counts.items() if count}
