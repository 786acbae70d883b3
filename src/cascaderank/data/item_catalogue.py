"""Catalogue of all items with their own features, for random sampling and search."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from cascaderank.batch import RequestBatch
from cascaderank.data.encoding.column_blocks import wide
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.encoder import Encoder
from cascaderank.data.encoding.flatten import encoded_lists
from cascaderank.data.encoding.value_lists import ValueLists
from cascaderank.data.ragged import flat_places
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.schema import FittedSchema, Kind, Role

Codes = NDArray[np.int64]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ItemCatalogue:
    """Items by the codes of the feature that identifies them; created by :meth:`build`.

    Items out of vocabulary share one code, so that no model can distinguish them. They are not in
    the catalogue.
    """

    item: str
    """Categorical item feature that identifies an item."""
    codes: Codes
    """``[items]`` codes of the feature, ascending."""
    features: Mapping[str, NDArray[Any]]
    """Encoded features with one value by name, ``[items]`` each."""
    counts: Codes
    """``[items]`` number of times that each item is a candidate of the training requests."""
    unknown: tuple[str, ...]
    """Item features without values in the catalogue, because they depend on the request, too."""
    lists: Mapping[str, ValueLists] = field(default_factory=dict)
    """Encoded features with several values by name, one list per item each."""

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
        """Build the catalogue of a log.

        Args:
            log: the encoded requests.
            schema: schema fitted to the training requests.
            item: categorical item feature that identifies an item.
            train: row numbers of the training requests; candidates of other requests are not
                counted.
            frame: all items with their features, see :meth:`RequestLog.catalogue`. Default: the
                candidates of the log; a feature that has different values for one item then belongs
                to ``unknown``.

        Raises:
            ConfigError: if the feature does not exist or is not a categorical item feature with one
                value per candidate.
            DataError: if the feature is missing from the frame, or if the catalogue is empty.

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
            >>> catalogue = ItemCatalogue.build(log, schema, item="video", train=np.arange(2))
            >>> catalogue.codes.tolist(), catalogue.counts.tolist(), catalogue.unknown
            ([1, 2], [1, 2], ('price',))
        """
        names = [f.name for f in schema.of(Role.ITEM, Kind.CATEGORICAL) if not f.several]
        if item not in names:
            raise ConfigError(
                "catalogue.item must be a categorical item feature with one value"
                f"{did_you_mean(item, names)}; got '{item}'; available: "
                f"{', '.join(names) or 'none'}"
            )
        logged = np.asarray(log.items[item]).astype(np.int64)
        size = schema.codes(schema[item])
        if frame is None:
            first = np.full(size, -1, dtype=np.int64)
            first[logged[::-1]] = np.arange(len(logged))[::-1]
            codes = np.flatnonzero(first[1:] >= 0) + 1
            features = {n: np.asarray(column)[first[codes]] for n, column in log.items.items()}
            lists = {n: of_log.taken(first[codes]) for n, of_log in log.item_lists.items()}
            known = logged > 0
            reference = first[logged[known]]
            unknown = tuple(
                name
                for name, column in log.items.items()
                if schema[name].by_request
                or not np.array_equal(
                    column[known], column[reference], equal_nan=column.dtype.kind == "f"
                )
            )
            unknown += tuple(
                name
                for name, of_log in log.item_lists.items()
                if not of_log.equal(np.flatnonzero(known), reference).all()
            )
        else:
            codes, features, lists, unknown = _of_frame(frame, schema, item)
        if not len(codes):
            raise DataError(
                f"the catalogue of items is empty: no value of '{item}' is in the vocabulary; "
                "lower its min_count, or add training requests"
            )
        return cls(
            item=item,
            codes=codes,
            features={n: column for n, column in features.items() if n not in unknown},
            counts=np.bincount(logged[flat_places(log.offsets, train)], minlength=size)[codes],
            unknown=unknown,
            lists={n: of_items for n, of_items in lists.items() if n not in unknown},
        )

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def _places(self) -> Codes:
        places = np.full(int(self.codes[-1]) + 1, -1, dtype=np.int64)
        places[self.codes] = np.arange(len(self.codes))
        return places

    def places(self, codes: NDArray[np.integer[Any]]) -> Codes:
        """Return the index of each item in the catalogue by its code; -1 for an item outside it."""
        known = np.minimum(codes, len(self._places) - 1)
        return np.where(codes == known, self._places[known], -1)

    def check_has(self, features: Iterable[str], *, reader: str) -> None:
        """Check that the catalogue has values of features.

        Args:
            features: names of item features.
            reader: setting that reads the features, for the message.

        Raises:
            ConfigError: if a feature depends on the request, too, see :attr:`unknown`.
        """
        missing = [repr(name) for name in features if name in self.unknown]
        if missing:
            raise ConfigError(
                f"{reader} reads {', '.join(missing)}, which depends on the request, too, so an "
                "item that was no candidate has no value; remove it from the features of the "
                "stage, or remove the settings that draw or search other items"
            )

    def batch(self, start: int, stop: int) -> RequestBatch:
        """Return some items as the candidates of one list, ``[1, stop - start]``."""
        items = {
            name: torch.from_numpy(column[start:stop].astype(wide(column.dtype)))[None]
            for name, column in self.features.items()
        }
        places = np.arange(start, min(stop, len(self)))
        for name, lists in self.lists.items():
            items[name] = torch.from_numpy(lists.padded(places))[None]
        return RequestBatch(mask=torch.ones_like(items[self.item], dtype=torch.bool), items=items)


def _of_frame(
    frame: pl.DataFrame, schema: FittedSchema, item: str
) -> tuple[Codes, dict[str, NDArray[Any]], dict[str, ValueLists], tuple[str, ...]]:
    if item not in frame.columns:
        raise DataError(
            f"the catalogue of the log has no '{item}'{did_you_mean(item, frame.columns)}; "
            "set catalogue.item to the feature that identifies its items"
        )
    encoder, of_items = Encoder(schema), schema.of(Role.ITEM)
    codes = encoder(schema[item], frame[item]).astype(np.int64)
    codes, first = np.unique(codes, return_index=True)
    first, codes = first[codes > 0], codes[codes > 0]
    own = [f for f in of_items if not f.by_request]
    known = [f for f in own if f.name in frame.columns]
    features = {f.name: encoder(f, frame[f.name])[first] for f in known if not f.several}
    lists = {
        f.name: encoded_lists(encoder, f, frame[f.name]).taken(first) for f in known if f.several
    }
    return codes, features, lists, tuple(f.name for f in of_items if f not in known)
