"""Padded batches, compared with two straightforward implementations.

One is torch's data loader, which reads one request at a time and pads each feature by
``pad_sequence``. The other gathers one column at a time, with an index for every position of the
batch.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from cascaderank.data.encoding.column_blocks import Table
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.ragged import offsets_of
from top_k import Pair

Column = NDArray[np.int32 | np.float32]
Batches = Iterator[list[Tensor]]

CANDIDATES, ITEM_FEATURES = 40, 8
ENTRIES, HISTORY_FEATURES = 50, 5
BATCH = 256


def request_log(requests: int, *, ragged: bool, candidates: int = CANDIDATES) -> EncodedLog:
    """Return encoded requests in memory; three of four features are categories."""
    rng = np.random.default_rng(0)

    def lengths(most: int) -> NDArray[np.int64]:
        return rng.integers(most // 2, most + 1, requests) if ragged else np.full(requests, most)

    def columns(prefix: str, features: int, n: int) -> dict[str, Column]:
        return {
            f"{prefix}{i}": rng.random(n, dtype=np.float32)
            if i % 4 == 3
            else rng.integers(0, 10_000, n).astype(np.int32)
            for i in range(features)
        }

    offsets, history_offsets = offsets_of(lengths(candidates)), offsets_of(lengths(ENTRIES))
    history = columns("entry", HISTORY_FEATURES, int(history_offsets[-1]))
    sequences = dict.fromkeys(history, "history")
    return EncodedLog(
        request_ids=pl.Series(range(requests)),
        offsets=offsets,
        items=Table.of(columns("item", ITEM_FEATURES, int(offsets[-1]))),
        history=Table.of(history, sequences),
        history_offsets={"history": history_offsets},
        sequences=sequences,
        labels=rng.random(int(offsets[-1]), dtype=np.float32),
    )


def ragged_columns(log: EncodedLog) -> list[tuple[NDArray[np.int64], Column]]:
    """Return all columns as separate contiguous arrays, with the offsets of their lists."""
    assert log.labels is not None
    of_candidates = [*log.items.values(), log.labels]
    of_history = [(log.history_offsets["history"], column) for column in log.history.values()]
    return [
        (offsets, np.ascontiguousarray(column))
        for offsets, column in [*((log.offsets, c) for c in of_candidates), *of_history]
    ]


def by_column(log: EncodedLog, rows: NDArray[np.int64]) -> Callable[[], Batches]:
    columns = ragged_columns(log)

    def batches() -> Batches:
        for first in range(0, len(rows), BATCH):
            yield [padded(*column, rows[first : first + BATCH]) for column in columns]

    return batches


def padded(offsets: NDArray[np.int64], column: Column, rows: NDArray[np.int64]) -> Tensor:
    starts = offsets[rows]
    lengths = offsets[rows + 1] - starts
    places = np.arange(lengths.max())
    empty = places >= lengths[:, None]
    values = column[np.where(empty, 0, starts[:, None] + places)]
    values[empty] = 0
    return torch.from_numpy(values if column.dtype == np.float32 else values.astype(np.int64))


def by_request(
    log: EncodedLog, rows: NDArray[np.int64], *, workers: int = 0
) -> Callable[[], Batches]:
    columns = [
        (offsets, torch.from_numpy(c if c.dtype == np.float32 else c.astype(np.int64)))
        for offsets, c in ragged_columns(log)
    ]

    class Requests(torch.utils.data.Dataset[list[Tensor]]):
        def __len__(self) -> int:
            return log.requests

        def __getitem__(self, row: int) -> list[Tensor]:
            return [values[offsets[row] : offsets[row + 1]] for offsets, values in columns]

    def collated(requests: list[list[Tensor]]) -> list[Tensor]:
        return [
            pad_sequence(list(lists), batch_first=True) for lists in zip(*requests, strict=True)
        ]

    loader = DataLoader(
        Requests(),
        BATCH,
        sampler=rows.tolist(),
        collate_fn=collated,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda: iter(loader)


def loader_pair(requests: int, *, ragged: bool, peer: str) -> Pair:
    log = request_log(20_000, ragged=ragged)
    rows = np.random.default_rng(1).permutation(log.requests)[:requests]
    loader = RequestLoader(log, rows, batch_size=BATCH)
    batches = {
        "DataLoader": by_request,
        "DataLoader, 2 w.": partial(by_request, workers=2),
        "column by column": by_column,
    }[peer](log, rows)

    def theirs() -> Tensor:
        for batch in batches():
            last = batch
        return torch.cat([tensor.flatten().float() for tensor in last])

    return theirs, epoch(loader)


def epoch(loader: RequestLoader) -> Callable[[], Tensor]:
    """Return a function that computes all batches of an epoch and returns the last one."""

    def ours() -> Tensor:
        for batch in loader.epoch(0):
            last = batch
        assert last.labels is not None
        tensors = (*last.items.values(), last.labels, *last.history.values())
        return torch.cat([tensor.flatten().float() for tensor in tensors])

    return ours


def epoch_of(requests: int, candidates: int) -> Callable[[], Tensor]:
    """Return an epoch over lists of a given length, with histories of the usual length."""
    log = request_log(requests, ragged=False, candidates=candidates)
    rows = np.random.default_rng(1).permutation(requests)
    return epoch(RequestLoader(log, rows, batch_size=BATCH))
