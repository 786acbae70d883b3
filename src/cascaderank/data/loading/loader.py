"""Loader of padded batches from the flat columns of an encoded log."""

from collections.abc import Callable, Iterator
from typing import Any, final, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.batch import RequestBatch
from cascaderank.data.encoding.column_blocks import Table, columns_first
from cascaderank.data.encoding.column_files import resident_of_files
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.loading.candidates import CandidateSampler, Drawn
from cascaderank.data.loading.padding import Padding
from cascaderank.data.loading.prefetch import prefetched
from cascaderank.data.loading.request_order import Order, Rows, bucketed, ordered, resampled
from cascaderank.data.ragged import flat_places, offsets_of
from cascaderank.errors import ConfigError, DataError, counted
from cascaderank.limits import check_fits

_MOST_RESIDENT = 2**30  # bytes of mapped files that may stay resident in memory
_MOST_RESIDENT_IN_ORDER = 2**28  # the same if requests are read in order: none is read again soon


@final
class RequestLoader:
    """Padded batches of requests in an order that depends on seed and epoch only.

    An epoch can start at any batch, so that an interrupted run resumes exactly.

    Args:
        log: the encoded requests.
        rows: row numbers of the requests to load, such as the training rows of a split.
        batch_size: requests per batch, at least 1; the last batch of an epoch may be smaller.
        seed: seed of the order, at least 0; ``None`` for the order of ``rows``.
        order: ``"shuffled"``, or ``"days"`` for earlier days first, shuffled inside each day. With
            ``"days"``, a batch at the end of a day can also hold requests of the next day.
        bucketing: group requests with lists of similar length into batches, see
            :func:`~cascaderank.data.loading.request_order.bucketed`; needs a seed.
        weighted: draw requests in proportion to their weights, if the log has weights, see
            :func:`~cascaderank.data.loading.request_order.resampled`; needs a seed.
        prefetch: number of batches that a thread prepares in advance; 0 for no thread. It does not
            change the batches.
        pin_memory: copy batches to page-locked memory, from which a GPU can load them while it
            computes; has no effect without CUDA.
        sampler: sampler that draws the candidates of each request anew in each epoch; default: all
            logged candidates.
        random_label: label of a candidate that the sampler drew from the catalogue; its level and
            its feedback are 0, and its weight is 1.

    Raises:
        ConfigError: if a row is not in the log, if ``batch_size``, ``seed`` or ``prefetch`` is out
            of range, if a batch does not fit into the memory of the machine, if bucketing has no
            seed, or if the order does not exist.
        DataError: if the order is ``"days"`` and the log has no timestamps. From :meth:`epoch`, if
            all weights are 0.

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
        bucketing: bool = False,
        weighted: bool = False,
        prefetch: int = 0,
        pin_memory: bool = False,
        sampler: CandidateSampler | None = None,
        random_label: float = 0.0,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1; got {batch_size}")
        if seed is not None and seed < 0:
            raise ConfigError(f"seed must be at least 0; got {seed}")
        if prefetch < 0:
            raise ConfigError(f"prefetch must be at least 0; got {prefetch}")
        if bucketing and seed is None:
            raise ConfigError("bucketing shuffles batches and needs a seed; got None")
        if weighted and seed is None:
            raise ConfigError("weighted draws requests and needs a seed; got None")
        if order not in get_args(Order):
            raise ConfigError(f"order must be one of {', '.join(get_args(Order))}; got '{order}'")
        if order == "days" and log.days is None:
            raise DataError(
                'order "days" needs timestamps of the requests; the log has none; prepare it with '
                'timestamps, or set train.order = "shuffled"'
            )
        self.log = log
        self.order = order
        self._items, self._request = Table.of(log.items), Table.of(log.request)
        self._history = Table.of(log.history, log.sequences)
        self.rows = _checked_rows(rows, log.requests)
        self.batch_size = batch_size
        if len(self.rows):
            pool = sampler.pool if sampler is not None else 0
            longest = pool + int(np.diff(log.offsets)[self.rows].max())
            requests = min(batch_size, len(self.rows))
            check_fits(
                4.0 * requests * longest * max(len(log.items), 1),
                f"a batch of {counted(requests, 'request')} with up to "
                f"{counted(longest, 'candidate')}",
                "reduce train.batch_size, evaluation.batch_size or train.candidates.pool",
            )
        self.seed = seed
        self.bucketing = bucketing
        self.weighted = weighted
        self.prefetch = prefetch
        self.pin_memory = pin_memory
        self.sampler = sampler
        self.random_label = random_label

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in an epoch, including a smaller last batch."""
        return -(-len(self.rows) // self.batch_size)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[RequestBatch]:
        """Iterate once over all rows.

        The order depends on the seed and ``epoch`` only, so that an interrupted run resumes with
        exactly the batch that would have followed.

        Args:
            epoch: number of the epoch, from 0.
            start: index of the first batch; earlier batches are skipped at no cost.

        Raises:
            ConfigError: if ``epoch`` is negative, or ``start`` is negative or above
                :attr:`batches_per_epoch`.
        """
        if epoch < 0 or not 0 <= start <= self.batches_per_epoch:
            raise ConfigError(
                f"expected an epoch of at least 0 and a start of 0 to {self.batches_per_epoch}; "
                f"got epoch {epoch} and start {start}"
            )
        return prefetched(self._batches(epoch, start), self.prefetch)

    def _batches(self, epoch: int, start: int) -> Iterator[RequestBatch]:
        most = _MOST_RESIDENT if self.seed is not None else _MOST_RESIDENT_IN_ORDER
        rows, release = self._ordered(epoch), self.log.mapped_bytes > most
        for first in range(start * self.batch_size, len(rows), self.batch_size):
            batch = self.collate(rows[first : first + self.batch_size], epoch=epoch)
            yield batch.pin_memory() if self.pin_memory else batch
            if release and resident_of_files() > most:
                self.log.release()

    def _ordered(self, epoch: int) -> Rows:
        days = self.log.days if self.order == "days" else None
        rows = self.rows
        if self.weighted and self.seed is not None and self.log.weights is not None:
            rows = resampled(rows, self.log.weights, seed=self.seed, epoch=epoch)
        rows = ordered(rows, seed=self.seed, epoch=epoch, days=days)
        if not self.bucketing or self.seed is None:
            return rows
        return bucketed(
            rows,
            lengths=np.diff(self.log.offsets),
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=epoch,
            days=days,
        )

    def collate(self, rows: NDArray[np.integer[Any]], *, epoch: int = 0) -> RequestBatch:
        """Pad the lists of some requests to the longest of them.

        Histories are padded to the longest history, and to at least one entry.

        Args:
            rows: ``[batch]`` row numbers of requests in the log.
            epoch: number of the epoch for which the sampler draws candidates.

        Returns:
            The requests in the order of ``rows``. Padding is 0 in values, -1 in lists of categories
            of one candidate or request, NaN in vectors, and ``False`` in masks.

        Raises:
            ConfigError: if a row is not in the log.
        """
        log, rows = self.log, _checked_rows(rows, self.log.requests)
        entries = {
            name: Padding(offsets, rows, least=1) for name, offsets in log.history_offsets.items()
        }
        lists, items, drawn = Padding(log.offsets, rows), self._items, None
        if self.sampler is not None:
            drawn = self.sampler.draw(rows, epoch)
            lists = Padding(offsets_of(drawn.lengths), np.arange(len(rows)))
            items = _with_random(items, self.sampler, drawn)

        def lists_of(name: str) -> Tensor:
            return _padded_lists(name, log, lists.mask(), rows, self.sampler, drawn)

        def of_candidates(column: NDArray[Any] | None, random: float = 0.0) -> Tensor | None:
            if column is None:
                return None
            if drawn is not None:
                column = _values(column, np.array(random, column.dtype), drawn)
            return lists.padded(column[:, None])[0]

        return RequestBatch(
            mask=lists.mask(),
            items={
                **_by_name(items, lambda block, _: lists.padded(block)),
                **{name: lists_of(name) for name in log.item_lists},
            },
            request={
                **_by_name(
                    self._request, lambda block, _: torch.from_numpy(columns_first(block[rows]))
                ),
                **{n: torch.from_numpy(v.padded(rows)) for n, v in log.request_lists.items()},
            },
            history=_by_name(
                self._history, lambda block, name: entries[log.sequences[name]].padded(block)
            ),
            history_mask={name: padding.mask() for name, padding in entries.items()},
            labels=of_candidates(log.labels, self.random_label),
            levels=of_candidates(log.levels),
            feedback=of_candidates(log.feedback),
            log_q=None
            if drawn is None or drawn.log_q is None
            else lists.padded(drawn.log_q[:, None])[0],
            rows=torch.from_numpy(rows),
            weights=of_candidates(log.candidate_weights, random=1.0),
        )


def _with_random(items: Table, sampler: CandidateSampler, drawn: Drawn) -> Table:
    """Return the features of the drawn candidates, concatenated."""
    blocks = {}
    for names, block in items.blocks.items():
        random: NDArray[Any] = np.zeros((), dtype=block.dtype)
        if sampler.catalogue is not None:
            # No stage reads the features that the catalogue has no values of: `check_has`.
            features, zeros = (
                sampler.catalogue.features,
                np.zeros(len(sampler.catalogue), block.dtype),
            )
            columns = [features.get(name, zeros) for name in names]
            places = drawn.places[drawn.random]
            random = np.stack([c[places] for c in columns], axis=1).astype(block.dtype)
        blocks[names] = _values(block, random, drawn)
    return Table(blocks, tuple(items))


def _padded_lists(
    name: str,
    log: EncodedLog,
    mask: Tensor,
    rows: NDArray[np.int64],
    sampler: CandidateSampler | None,
    drawn: Drawn | None,
) -> Tensor:
    """Return the values of an item feature with several, ``[batch, list, values]``."""
    logged = log.item_lists[name]
    if drawn is None or sampler is None:
        padded = logged.padded(flat_places(log.offsets, rows))
    else:
        parts = {False: logged.padded(drawn.places[~drawn.random])}
        # No stage reads the features that the catalogue has no values of: `check_has`.
        if sampler.catalogue is not None and name in sampler.catalogue.lists:
            places = drawn.places[drawn.random]
            parts[True] = sampler.catalogue.lists[name].padded(places)
        longest = max(part.shape[1] for part in parts.values())
        padded = np.full((len(drawn.places), longest), logged.padding, dtype=parts[False].dtype)
        for random, part in parts.items():
            padded[drawn.random == random, : part.shape[1]] = part
    real = torch.from_numpy(padded)
    values = torch.full((*mask.shape, real.shape[1]), logged.padding, dtype=real.dtype)
    values[mask] = real
    return values


def _values(column: NDArray[Any], random: NDArray[Any], drawn: Drawn) -> NDArray[Any]:
    """Return the values of logged candidates from a column of the log, and ``random`` elsewhere."""
    values = np.empty((len(drawn.places), *column.shape[1:]), dtype=column.dtype)
    values[~drawn.random] = column[drawn.places[~drawn.random]]
    values[drawn.random] = random
    return values


def _by_name(table: Table, read: Callable[[NDArray[Any], str], Tensor]) -> dict[str, Tensor]:
    """Return a tensor per column, read block by block.

    Args:
        table: columns in blocks.
        read: function of a block and the name of its first column that returns ``[columns, ...]``.
    """
    tensors = {
        name: column
        for names, block in table.blocks.items()
        for name, column in zip(names, read(block, names[0]), strict=True)
    }
    return {name: tensors[name] for name in table}


def _checked_rows(rows: NDArray[np.integer[Any]], requests: int) -> NDArray[np.int64]:
    rows = np.asarray(rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ConfigError(f"rows must be integers [rows]; got {rows.dtype} {list(rows.shape)}")
    if rows.size and (rows.min() < 0 or rows.max() >= requests):
        raise ConfigError(f"rows must be 0 to {requests - 1}; got {rows.min()} to {rows.max()}")
    return rows.astype(np.int64)
