"""One request of a log, found by its id and encoded for a run."""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import polars as pl
import torch

from cascaderank.batch import RequestBatch
from cascaderank.data.encoding.encoded_log import EncodedLog, shuffled_order
from cascaderank.data.encoding.encoder import check_same_features
from cascaderank.data.labels import Target, needs
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.runs.build import schema_of_stages
from cascaderank.runs.item_keys import ItemKeys
from cascaderank.runs.load import TrainedRun
from cascaderank.runs.log_defaults import target_of
from cascaderank.schema import Role

_COMPARED = 1_000  # texts that are compared for a suggestion
_LONGEST = 64  # characters of a text that are compared


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class OneRequest:
    """A request with its candidates in the order in which evaluation has them."""

    request_id: int | str
    """Id of the request."""
    batch: RequestBatch
    """The request, encoded; with labels and levels if the log has them."""
    candidates: pl.DataFrame
    """One row per candidate: ``item_key``, and the features as they are in the log."""


def read_request(
    run: TrainedRun, log: RequestLog, keys: ItemKeys, request: int | str
) -> OneRequest:
    """Read one request of a log, and encode it for the stages of a run.

    Candidates are in the order in which :meth:`EncodedLog.build` stores them, so that equal scores
    are ranked as in the evaluation of the run.

    Args:
        run: a complete run.
        log: a request log with the features that its stages read.
        keys: identity of the candidates.
        request: id of the request, as it is in the log or as text.

    Raises:
        SchemaError: if the log does not have these features.
        ConfigError: if the log has no such request; the message suggests a similar id.
        DataError: if the log is damaged.
    """
    schema = schema_of_stages(run.settings, run.schema)
    check_same_features(schema, log.schema, where=str(log.path))
    columns = log.manifest.columns
    target: Target | None = target_of(run.settings, log)
    of_target: tuple[str, ...] = ()
    try:
        of_target = needs(target, columns, where=str(log.path)) if target else ()
    except DataError:  # a log without labels can be explained, too
        target = None
    optional = [c for c in ("level", keys.column) if c in columns]
    names = list(dict.fromkeys(["request_id", *schema.names, *of_target, *optional]))
    row, frame = _found(run, log, request, names)
    encoded = EncodedLog.of_frame(
        frame,
        schema,
        target=target,
        history_length=run.settings.data.history_length,
        levels=len(log.manifest.level_names),
    )
    batch = RequestLoader(encoded, np.arange(1), batch_size=1).collate(np.arange(1))
    order = shuffled_order(np.diff(encoded.offsets), np.array([row]))
    of_items = [f.name for f in schema.of(Role.ITEM)]
    lists = frame.select(list(dict.fromkeys([*of_items, *optional])))
    candidates = lists.explode(pl.selectors.all())[order]
    key = pl.Series(order) if keys.column is None else candidates[keys.column]
    return OneRequest(
        request_id=frame["request_id"][0],
        batch=_reordered(batch, torch.from_numpy(order)),
        candidates=candidates.select(of_items).insert_column(0, key.alias("item_key")),
    )


def similar(text: str, known: pl.Series) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known text, or an empty string.

    Of many texts, those are compared that share most characters at their beginning and end.

    Examples:
        >>> similar("v18", pl.Series(["v17", "v9", "u3"]))
        " (did you mean 'v17'?)"
    """
    if len(known) > _COMPARED:
        shared = pl.zeros(len(known), dtype=pl.Int32, eager=True)
        for length in range(1, min(len(text), _LONGEST) + 1):
            shared += known.str.starts_with(text[:length]).cast(pl.Int32)
            shared += known.str.ends_with(text[-length:]).cast(pl.Int32)
        known = known.gather(shared.arg_sort(descending=True)[:_COMPARED])
    return did_you_mean(text, known.to_list())


def _found(
    run: TrainedRun, log: RequestLog, request: int | str, names: list[str]
) -> tuple[int, pl.DataFrame]:
    """Return the row number of a request, and its columns as a frame of one row."""
    text, first, ids = str(request), 0, []
    for part in log.manifest.parts:
        own = log.read(part, ["request_id"])["request_id"].cast(pl.String)
        place = own.index_of(text)
        if place is not None:
            return first + place, log.read(part, names)[place : place + 1]
        ids.append(own)
        first += part.requests
    known = pl.concat(ids)
    other = ""
    if str(log.path) != str(run.settings.data.path):
        other = f"; the run was trained on {run.settings.data.path}"
    raise ConfigError(
        f"{log.path} has no request '{text}'{similar(text, known)}; expected one of its "
        f"{first:,} ids, such as '{known[0]}'{other}"
    )


def _reordered(batch: RequestBatch, order: torch.Tensor) -> RequestBatch:
    def moved(values: torch.Tensor | None) -> torch.Tensor | None:
        return None if values is None else values[:, order]

    return replace(
        batch,
        items={name: values[:, order] for name, values in batch.items.items()},
        labels=moved(batch.labels),
        levels=moved(batch.levels),
        feedback=moved(batch.feedback),
        weights=moved(batch.weights),
    )
