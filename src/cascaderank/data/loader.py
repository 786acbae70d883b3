"""From flat columns to padded batches: the one place that pads."""

from collections.abc import Iterator
from typing import Any, final, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from cascaderank.batch import RequestBatch
from cascaderank.data.columns import EncodedLog
from cascaderank.data.ordering import Order, ordered
from cascaderank.errors import ConfigError, DataError


@final
class RequestLoader:
    """Batches of requests, shuffled by seed and epoch, that can start anywhere in an epoch.

    Args:
        log: the encoded requests.
        rows: which of them, such as the training rows of a split.
        batch_size: requests per batch; the last batch of an epoch has what is left.
        seed: of the order; ``None`` for the order of ``rows``.
        order: ``"shuffled"``, or ``"days"`` for earlier days (UTC) first, shuffled inside each. A
            batch where one day ends and the next begins has requests of both.

    Raises:
        ConfigError: if a row is not in the log, ``batch_size`` or ``seed`` is out of range, or
            there is no such order.
        DataError: if days are to be followed and the log has none.

    Examples:
        >>> import polars as pl
        >>> from cascaderank.schema import FittedSchema
        >>> fitted = FittedSchema(
        ...     features=({"name": "price", "role": "item", "kind": "numeric"},),
        ...     moments={"price": {"mean": 0.0, "deviation": 1.0}},
        ... )
        >>> log = EncodedLog.of_frame(pl.DataFrame({"price": [[1.0, 2.0], [3.0]]}), fitted)
        >>> loader = RequestLoader(log, np.arange(2), batch_size=2)
        >>> batch = next(loader.epoch(0))
        >>> batch.items["price"]
        tensor([[1., 2.],
                [3., 0.]])
        >>> batch.mask
        tensor([[ True,  True],
                [ True, False]])
    """

    def __init__(
        self,
        log: EncodedLog,
        rows: NDArray[np.integer[Any]],
        *,
        batch_size: int,
        seed: int | None = None,
        order: Order = "shuffled",
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1; got {batch_size}")
        if seed is not None and seed < 0:
            raise ConfigError(f"seed must be at least 0; got {seed}")
        if order not in get_args(Order):
            raise ConfigError(f"order must be one of {', '.join(get_args(Order))}; got '{order}'")
        if order == "days" and log.days is None:
            raise DataError(
                'order "days" needs to know when requests were made, and the log has no '
                'timestamps; prepare it with them, or say train.order = "shuffled"'
            )
        self.log = log
        self.order = order
        self.rows = _checked_rows(rows, log.requests)
        self.batch_size = batch_size
        self.seed = seed

    @property
    def batches_per_epoch(self) -> int:
        """Batches that go once over all rows, the last one included however small."""
        return -(-len(self.rows) // self.batch_size)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[RequestBatch]:
        """Go once over all rows.

        The order is a function of the seed and ``epoch`` alone, so that a run that was killed can
        go on with the very batch it would have seen next.

        Args:
            epoch: counted from 0.
            start: the batch to start with; those before it are skipped at no cost.

        Raises:
            ConfigError: if ``epoch`` is negative or there is no such batch.
        """
        if epoch < 0 or not 0 <= start <= self.batches_per_epoch:
            raise ConfigError(
                f"expected an epoch of at least 0 and a start of 0 to {self.batches_per_epoch}; "
                f"got epoch {epoch} and start {start}"
            )
        return self._batches(epoch, start)

    def _batches(self, epoch: int, start: int) -> Iterator[RequestBatch]:
        days = self.log.days if self.order == "days" else None
        rows = ordered(self.rows, seed=self.seed, epoch=epoch, days=days)
        for first in range(start * self.batch_size, len(rows), self.batch_size):
            yield self.collate(rows[first : first + self.batch_size])

    def collate(self, rows: NDArray[np.integer[Any]]) -> RequestBatch:
        """Pad some requests to the longest of them; histories too, to one entry at least.

        Args:
            rows: in the log; ``[batch]``.

        Returns:
            The requests in the order of ``rows``. Padding is 0 everywhere, and ``False`` in masks.

        Raises:
            ConfigError: if a row is not in the log.
        """
        log, rows = self.log, _checked_rows(rows, self.log.requests)
        candidates = _Padding(log.offsets, rows)
        entries = {name: _Padding(of, rows, least=1) for name, of in log.history_offsets.items()}
        return RequestBatch(
            mask=candidates.mask(),
            items={name: candidates.padded(values) for name, values in log.items.items()},
            request={name: _tensor(values[rows]) for name, values in log.request.items()},
            history={
                name: entries[log.sequences[name]].padded(values)
                for name, values in log.history.items()
            },
            history_mask={name: padding.mask() for name, padding in entries.items()},
            labels=None if log.labels is None else candidates.padded(log.labels),
            levels=None if log.levels is None else candidates.padded(log.levels),
            rows=torch.from_numpy(rows),
        )


@final
class _Padding:
    """Where in a flat column each place of a padded one is found, for some rows."""

    def __init__(
        self, offsets: NDArray[np.int64], rows: NDArray[np.int64], *, least: int = 0
    ) -> None:
        starts = offsets[rows]
        lengths = offsets[rows + 1] - starts
        places = np.arange(max(least, int(lengths.max(initial=0))))
        self._empty = places >= lengths[:, None]
        self._from = np.where(self._empty, 0, starts[:, None] + places)

    def mask(self) -> torch.Tensor:
        return torch.from_numpy(~self._empty)

    def padded(self, values: NDArray[Any]) -> torch.Tensor:
        dtype = np.float32 if values.dtype.kind == "f" else np.int64
        if not len(values):  # no request of the log has a history: there is no place 0 to read
            return torch.from_numpy(np.zeros(self._from.shape, dtype=dtype))
        padded = values.take(self._from).astype(dtype, copy=False)
        padded[self._empty] = 0
        return torch.from_numpy(padded)


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32 if values.dtype.kind == "f" else np.int64))


def _checked_rows(rows: NDArray[np.integer[Any]], requests: int) -> NDArray[np.int64]:
    rows = np.asarray(rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ConfigError(f"rows must be integers [rows]; got {rows.dtype} {list(rows.shape)}")
    if rows.size and (rows.min() < 0 or rows.max() >= requests):
        raise ConfigError(f"rows must be 0 to {requests - 1}; got {rows.min()} to {rows.max()}")
    return rows.astype(np.int64)
