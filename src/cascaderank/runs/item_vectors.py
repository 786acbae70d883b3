"""Vectors of a stage whose score is a dot product: one per item of a log, and one per request."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from cascaderank.cascade import Cascade
from cascaderank.data.encoding.by_request import check_not_by_request
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.encoder import Encoder
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.ragged import flattened
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.runs.item_keys import ItemKeys
from cascaderank.schema import FittedSchema, abridged
from cascaderank.stages import VectorStage

_ITEM_BLOCK = 65_536


def vector_stage(cascade: Cascade, name: str | None = None) -> str:
    """Return the name of a stage whose score is a dot product of two vectors.

    Args:
        cascade: cascade of a run.
        name: name of the stage; default: the first such stage.

    Raises:
        ConfigError: if there is none, or the stage is not one.
    """
    found = [
        n
        for n, stage in cascade.stages.items()
        if isinstance(stage, VectorStage) and n not in cascade.previous
    ]
    if name is None and found:
        return found[0]
    if name in found:
        return str(name)
    names = cascade.stage_names
    if name is not None and name not in names:
        raise ConfigError(
            f"no stage called '{name}'{did_you_mean(name, names)}; the stages are "
            f"{', '.join(names)}; with vectors: {', '.join(found) or 'none'}"
        )
    if name in cascade.previous:
        raise ConfigError(
            f"stage '{name}' reads outputs of the previous stage, so an item has no vector without "
            f"a request; stages with vectors: {', '.join(found) or 'none'}"
        )
    if found:
        raise ConfigError(
            f"stage '{name}' has no vectors: its score is no dot product of a request vector and "
            f"an item vector; stages with vectors: {', '.join(found)}; choose one with --stage"
        )
    raise ConfigError(
        "vectors need a stage whose score is a dot product of a request vector and an item "
        f"vector, such as two_tower or matrix_factorisation; found none among {', '.join(names)}"
    )


def all_items(keys: ItemKeys, features: Sequence[str]) -> pl.DataFrame:
    """Return all items of a log: those of its item table, or else the candidates of all requests.

    Args:
        keys: identity of the items.
        features: item features to return.

    Returns:
        One row per item, in the order of the keys: ``item_key`` and the features.

    Raises:
        ConfigError: if items have no identity, or a feature has several values for one item.
    """
    log, key = keys.log, keys.column
    if key is None:
        raise ConfigError(
            f"vectors of items need the feature that identifies an item, and {log.path} names "
            "none; choose one with --item"
        )
    names = [key, *(f for f in features if f != key)]
    table = log.catalogue()
    if table is None or not set(names) <= set(table.columns):
        table = None
        for frame in log.frames(names):
            flat = pl.DataFrame({name: flattened(frame[name]) for name in names}).unique()
            table = flat if table is None else pl.concat([table, flat]).unique()
    items = pl.DataFrame() if table is None else table.select(names).unique()
    items = items.filter(pl.col(key).is_not_null()).sort(key)
    copies = items.filter(items[key].is_duplicated())
    if copies.height:
        first = copies.filter(pl.col(key) == copies[key][0])
        several = [name for name in names[1:] if first[name].n_unique() > 1]
        raise ConfigError(
            f"an item must have one vector, but {abridged(several)} has several values for "
            f"{key} = {copies[key][0]!r}, and for {copies[key].n_unique() - 1:,} more items; the "
            "stage must not read features that depend on the request, too"
        )
    return items.select(pl.col(key).alias("item_key"), *features)


def item_vectors(
    stage: VectorStage, items: pl.DataFrame, schema: FittedSchema, device: torch.device
) -> NDArray[np.float32]:
    """Return one vector per item, ``[items, dim]``.

    Args:
        stage: stage in evaluation mode, on ``device``.
        items: one row per item, with the features of ``schema``.
        schema: item features of the stage, fitted to the training requests.
        device: device of the stage.

    Raises:
        ConfigError: if a feature is standardised by request.
    """
    check_not_by_request(schema.features, reader="the vector of an item")
    encoder, blocks = Encoder(schema), []
    for start in range(0, items.height, _ITEM_BLOCK):
        block = items.select(schema.names)[start : start + _ITEM_BLOCK]
        # The items of a block are the candidates of one request.
        encoded = EncodedLog.of_frame(block.select(pl.all().implode()), encoder)
        row = np.zeros(1, dtype=np.int64)
        batch = RequestLoader(encoded, row, batch_size=1).collate(row)
        with torch.no_grad():
            blocks.append(stage.item_vectors(batch.to(device))[0].float().cpu().numpy())
    return np.concatenate(blocks)


def request_vectors(
    stage: VectorStage,
    loader: RequestLoader,
    device: torch.device,
    progress: Callable[[int], None] | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Yield the vectors of the requests of a loader, ``[batch, dim]`` each.

    Args:
        stage: stage in evaluation mode, on ``device``.
        loader: requests.
        device: device of the stage.
        progress: callback, called with 1 after each batch.

    Raises:
        DataError: if there is no request.
    """
    if not len(loader.rows):
        raise DataError("expected at least one request; got none")
    for batch in loader.epoch(0):
        with torch.no_grad():
            yield stage.request_vectors(batch.to(device)).float().cpu().numpy()
        if progress is not None:
            progress(1)
