"""All items there are, with what tells about them alone: to draw from, and to search."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from cascaderank.batch import RequestBatch
from cascaderank.data.columns import EncodedLog
from cascaderank.data.encoding import Encoder
from cascaderank.data.padding import wide
from cascaderank.data.ragged import positions_within
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.schema import FittedSchema, Kind, Role

Codes = NDArray[np.int64]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ItemCatalogue:
    """Items by the codes of the feature that tells them apart; made by :meth:`build`.

    Items out of vocabulary are one to every model, and are not in it.
    """

    item: str
    """The feature that tells items apart."""
    codes: Codes
    """``[items]``, rising."""
    features: Mapping[str, NDArray[Any]]
    """Encoded, by name, ``[items]``."""
    counts: Codes
    """``[items]``: how often each was a candidate of the training requests."""
    unknown: tuple[str, ...]
    """Features of candidates that are not of the item alone: they have no value here."""

    @classmethod
    def build(
        cls,
        log: EncodedLog,
        schema: FittedSchema,
        *,
        item: str,
        train: NDArray[np.integer[Any]],
        frame: pl.DataFrame | None = None,
    ) -> Self:
        """Gather the items of a log.

        Args:
            log: the encoded requests.
            schema: fitted to the training requests.
            item: the feature of candidates that tells items apart.
            train: rows of the training requests; candidates of others are not counted.
            frame: all items there are with their features, as the log's source knows them; if not
                given, the items are the candidates of the log, and a feature that differs between
                two requests with the same item is none of the item.

        Raises:
            ConfigError: if there is no such feature, or it is not a category of candidates.
            DataError: if the frame lacks the feature, or there is no item.

        Examples:
            >>> schema = FittedSchema(
            ...     features=(
            ...         {"name": "video", "role": "item", "kind": "categorical"},
            ...         {"name": "price", "role": "item", "kind": "numeric", "transform": "none"},
            ...     ),
            ...     vocabularies={"video": (7, 9)},
            ... )
            >>> frame = pl.DataFrame({"video": [[7, 9], [9]], "price": [[1.0, 2.0], [3.0]]})
            >>> log = EncodedLog.of_frame(frame, schema)
            >>> found = ItemCatalogue.build(log, schema, item="video", train=np.arange(2))
            >>> found.codes.tolist(), found.counts.tolist(), found.unknown
            ([1, 2], [1, 2], ('price',))
        """
        names = [f.name for f in schema.of(Role.ITEM, Kind.CATEGORICAL)]
        if item not in names:
            raise ConfigError(
                f"catalogue.item must be a category of the candidates{did_you_mean(item, names)}; "
                f"got '{item}', there are {', '.join(names) or 'none'}"
            )
        logged = np.asarray(log.items[item]).astype(np.int64)
        size = schema.codes(schema[item])
        if frame is None:
            first = np.full(size, -1, dtype=np.int64)
            first[logged[::-1]] = np.arange(len(logged))[::-1]
            codes = np.flatnonzero(first[1:] >= 0) + 1
            features = {name: np.asarray(of)[first[codes]] for name, of in log.items.items()}
            real = logged > 0
            own = first[logged[real]]
            unknown = tuple(
                name
                for name, of in log.items.items()
                if not np.array_equal(of[real], of[own], equal_nan=of.dtype.kind == "f")
            )
        else:
            codes, features, unknown = _of_frame(frame, schema, item)
        if not len(codes):
            raise DataError(f"there is no item to search or to draw: no '{item}' has a code")
        return cls(
            item=item,
            codes=codes,
            features={name: of for name, of in features.items() if name not in unknown},
            counts=np.bincount(logged[flat_places(log.offsets, train)], minlength=size)[codes],
            unknown=unknown,
        )

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def _places(self) -> Codes:
        places = np.full(int(self.codes[-1]) + 1, -1, dtype=np.int64)
        places[self.codes] = np.arange(len(self.codes))
        return places

    def places(self, codes: NDArray[np.integer[Any]]) -> Codes:
        """Return where items are in the catalogue, by their codes; -1 for one that is not."""
        known = np.minimum(codes, len(self._places) - 1)
        return np.where(codes == known, self._places[known], -1)

    def check_has(self, features: Iterable[str], *, who: str) -> None:
        """Check that features are of the item alone.

        Raises:
            ConfigError: if one is not; tells of ``who`` needs it.
        """
        missing = [name for name in features if name in self.unknown]
        if missing:
            raise ConfigError(
                f"{who} reads {', '.join(repr(m) for m in missing)}, which is not of an item "
                "alone, so an item that was no candidate has none; take it from the features of "
                "the stage, or draw and search no other items"
            )

    def batch(self, start: int, stop: int) -> RequestBatch:
        """Return some items as the candidates of one list, ``[1, stop - start]``."""
        items = {
            name: torch.from_numpy(of[start:stop].astype(wide(of.dtype)))[None]
            for name, of in self.features.items()
        }
        return RequestBatch(mask=torch.ones_like(items[self.item], dtype=torch.bool), items=items)


def flat_places(offsets: Codes, rows: NDArray[np.integer[Any]]) -> Codes:
    """Return where the candidates of some requests are in flat columns.

    Examples:
        >>> flat_places(np.array([0, 2, 5]), np.array([1, 0])).tolist()
        [2, 3, 4, 0, 1]
    """
    lengths = offsets[rows + 1] - offsets[rows]
    return np.repeat(offsets[rows], lengths) + positions_within(lengths)


def _of_frame(
    frame: pl.DataFrame, schema: FittedSchema, item: str
) -> tuple[Codes, dict[str, NDArray[Any]], tuple[str, ...]]:
    if item not in frame.columns:
        raise DataError(
            f"the catalogue of the log has no '{item}'{did_you_mean(item, frame.columns)}; "
            "name the feature that tells its items apart in catalogue.item"
        )
    encoder, of_items = Encoder(schema), schema.of(Role.ITEM)
    codes = encoder(schema[item], frame[item]).astype(np.int64)
    codes, first = np.unique(codes, return_index=True)
    first, codes = first[codes > 0], codes[codes > 0]
    features = {f.name: encoder(f, frame[f.name])[first] for f in of_items if f.name in frame}
    return codes, features, tuple(f.name for f in of_items if f.name not in frame.columns)
