"""Share the data of a run with other processes: a JSON file that refers to mapped columns."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.atomic import writing
from cascaderank.data.encoding.column_blocks import Table
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.value_lists import ValueLists
from cascaderank.data.log.manifest import Manifest
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import Split
from cascaderank.runs.data import RunData
from cascaderank.runs.folder import read_json, write_atomically
from cascaderank.schema import FittedSchema

_COLUMNS = ("labels", "levels", "feedback", "weights", "days")


def share(data: RunData) -> Path:
    """Write a file from which another process can open the same data without a copy.

    The file refers to mapped columns by the names of their files. Arrays that are not mapped (row
    numbers, offsets, ids) are written beside it. All are written once, into the folder of the
    columns, and removed with them.

    Returns:
        Path of the file, for :func:`open_shared`.

    Raises:
        RunError: if a file cannot be written.
    """
    path = data.folder / "shared.json"
    if path.exists():
        return path
    encoded, arrays = data.encoded, _Arrays(data.folder)
    ids = data.folder / "shared-ids.arrow"
    with writing(ids):
        pl.DataFrame({"request_id": encoded.request_ids}).write_ipc(ids)
    content = {
        "log": {
            "path": str(data.log.path),
            "manifest": data.log.manifest.model_dump(mode="json", by_alias=True),
        },
        "schema": data.schema.model_dump(mode="json"),
        "split": arrays.described(vars(data.split)),
        "item": data.item,
        "batch_size": data.batch_size,
        "encoded": {
            "request_ids": str(ids),
            "offsets": arrays.describe(encoded.offsets),
            "items": arrays.table(Table.of(encoded.items)),
            "request": arrays.table(Table.of(encoded.request)),
            "history": arrays.table(Table.of(encoded.history, encoded.sequences)),
            "history_offsets": arrays.described(encoded.history_offsets),
            "sequences": dict(encoded.sequences),
            "item_lists": {n: arrays.lists(v) for n, v in encoded.item_lists.items()},
            "request_lists": {n: arrays.lists(v) for n, v in encoded.request_lists.items()},
            **arrays.described({name: getattr(encoded, name) for name in _COLUMNS}),
        },
    }
    write_atomically(path, json.dumps(content).encode())  # last: it completes what is shared
    return path


def open_shared(path: str | os.PathLike[str]) -> RunData:
    """Open data that another process shares with :func:`share`; columns are memory-mapped.

    Raises:
        RunError: if the file is missing or damaged.
    """
    content = read_json(path)
    log, encoded = content["log"], content["encoded"]
    return RunData(
        log=RequestLog(log["path"], Manifest.model_validate(log["manifest"])),
        split=Split(**_mapped(content["split"])),
        encoded=EncodedLog(
            request_ids=pl.scan_ipc(encoded["request_ids"], glob=False).collect()["request_id"],
            offsets=_array(encoded["offsets"]),
            items=_table(encoded["items"]),
            request=_table(encoded["request"]),
            history=_table(encoded["history"]),
            history_offsets=_mapped(encoded["history_offsets"]),
            sequences=encoded["sequences"],
            item_lists={n: _lists(v) for n, v in encoded["item_lists"].items()},
            request_lists={n: _lists(v) for n, v in encoded["request_lists"].items()},
            **_mapped({name: encoded[name] for name in _COLUMNS}),
        ),
        schema=FittedSchema.model_validate(content["schema"]),
        folder=Path(path).parent,
        item=content["item"],
        batch_size=content["batch_size"],
    )


class _Arrays:
    """Describes arrays by file, dtype and shape; writes those that are no complete mapped file."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._written = folder, 0

    def describe(self, values: NDArray[Any] | None) -> list[Any] | None:
        if values is None:
            return None
        base: object = values
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        mapped = isinstance(base, np.memmap) and values.nbytes == base.nbytes
        if isinstance(base, np.memmap) and mapped and values.flags.c_contiguous:
            file = str(base.filename)
        else:
            file = str(self._folder / f"shared-{self._written}.bin")
            self._written += 1
            with writing(file):
                Path(file).write_bytes(np.ascontiguousarray(values).tobytes())
        return [file, values.dtype.str, list(values.shape)]

    def described(self, arrays: Mapping[str, NDArray[Any] | None]) -> dict[str, Any]:
        return {name: self.describe(values) for name, values in arrays.items()}

    def table(self, table: Table) -> dict[str, Any]:
        blocks = [[list(names), self.describe(block)] for names, block in table.blocks.items()]
        return {"names": list(table), "blocks": blocks}

    def lists(self, lists: ValueLists) -> dict[str, Any]:
        arrays = {"offsets": lists.offsets, "values": lists.values}
        return {"width": lists.width, **self.described(arrays)}


def _array(described: list[Any]) -> NDArray[Any]:
    file, dtype, shape = described
    if 0 in shape:
        return np.empty(shape, dtype=dtype)  # an empty file cannot be mapped
    return np.asarray(np.memmap(file, dtype=dtype, mode="r")).reshape(shape)


def _mapped(described: Mapping[str, list[Any] | None]) -> dict[str, Any]:
    return {name: None if one is None else _array(one) for name, one in described.items()}


def _table(described: Mapping[str, Any]) -> Table:
    blocks = {tuple(names): _array(block) for names, block in described["blocks"]}
    return Table(blocks, tuple(described["names"]))


def _lists(described: Mapping[str, Any]) -> ValueLists:
    arrays = {name: described[name] for name in ("offsets", "values")}
    return ValueLists(**_mapped(arrays), width=described["width"])
