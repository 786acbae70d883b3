"""Candidates of one request: all items, some items by key, or rows of raw features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import DataError, SchemaError, shown
from cascaderank.schema import abridged
from cascaderank.serving.item_table import ItemTable

Rows = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any] | NDArray[Any]]
"""Candidates with raw features: one mapping per candidate, or one list per feature."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Candidates of one request."""

    keys: Sequence[Any]
    """``[candidates]`` keys of the items; their positions, from 0, without keys."""
    places: NDArray[np.int64] | None
    """``[candidates]`` rows in the catalogue, -1 for an item outside it; ``None`` for all items."""
    given: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Raw features of the candidates that replace those of the catalogue, by name."""
    unknown: tuple[Any, ...] = ()
    """Keys that were left out: not in the catalogue, and without the features that stages read."""

    def __len__(self) -> int:
        return len(self.keys)


def candidates_of(
    candidates: Sequence[Any] | NDArray[Any] | Rows | None,
    items: ItemTable | None,
    needed: Sequence[str],
    *,
    also: Sequence[Any] = (),
) -> Candidates:
    """Return the candidates of a request, in their order.

    Args:
        candidates: ``None`` for all items; keys; or rows.
        items: the catalogue.
        needed: item features that the stages read.
        also: keys of further candidates, such as pinned items.

    Raises:
        DataError: if there is no catalogue and no rows, or lists differ in length.
        SchemaError: if a feature is missing.
    """
    if candidates is None:
        if items is None:
            raise DataError(
                "a request needs candidates: the bundle has no catalogue of items to search; give "
                "rows with the features that the stages read"
            )
        return Candidates(keys=items.keys, places=None)
    if isinstance(candidates, Mapping):
        return _of_columns(candidates, items, needed)
    if isinstance(candidates, np.ndarray):
        candidates = candidates.tolist()
    if isinstance(candidates, str | bytes) or not isinstance(candidates, Sequence):
        raise DataError(
            f"expected candidates as a list of keys or of rows, found {shown(candidates)}"
        )
    rows = [isinstance(row, Mapping) for row in candidates]
    if any(rows):
        if not all(rows):
            raise DataError("expected candidates that are all keys or all rows, found both")
        names = dict.fromkeys(name for row in candidates for name in row)
        columns = {name: [row.get(name) for row in candidates] for name in names}
        return _of_columns(columns, items, needed)
    if items is None:
        raise DataError(
            "expected candidates as rows with the features that the stages read, found keys; the "
            "bundle has no catalogue of items"
        )
    places = items.places(candidates)
    keys: Sequence[Any] = candidates
    unknown: tuple[Any, ...] = ()
    if len(places) and places.min() < 0:
        unknown = tuple(k for k, place in zip(candidates, places, strict=True) if place < 0)
        keys = [k for k, place in zip(candidates, places, strict=True) if place >= 0]
        places = places[places >= 0]
    more = [key for key in also if key not in set(keys)] if also else []
    if more:
        extra = items.places(more)
        keys = [*keys, *(k for k, place in zip(more, extra, strict=True) if place >= 0)]
        places = np.concatenate([places, extra[extra >= 0]])
    return Candidates(keys=keys, places=places, unknown=unknown)


def _of_columns(
    given_columns: Mapping[str, Sequence[Any] | NDArray[Any]],
    items: ItemTable | None,
    needed: Sequence[str],
) -> Candidates:
    columns: dict[str, Sequence[Any]] = {}
    lengths = {}
    for name, values in given_columns.items():
        if isinstance(values, str | bytes) or not isinstance(values, Sequence | np.ndarray):
            raise DataError(f"candidates: expected a list for '{name}', found {shown(values)}")
        lengths[name] = len(values)
        columns[name] = values.tolist() if isinstance(values, np.ndarray) else values
    if len(set(lengths.values())) > 1:
        raise DataError(f"candidates: expected lists of one length, found {lengths}")
    count = next(iter(lengths.values()), 0)
    key = items.key if items is not None else None
    if items is None or key not in columns:
        missing = [name for name in needed if name not in columns]
        if missing:
            without = f", and no '{key}' to look them up by" if key else ""
            raise SchemaError(
                "candidates: expected all features of items that the stages read, found no "
                f"{abridged(missing)}{without}; they have {abridged(columns)}"
            )
        return Candidates(keys=range(count), places=np.full(count, -1), given=dict(columns))
    keys = columns[items.key]
    places = items.places(keys)
    outside = len(places) > 0 and bool(places.min() < 0)
    given = {name: values for name, values in columns.items() if name != key or outside}
    if not outside or all(name in given for name in needed):
        return Candidates(keys=keys, places=places, given=given)
    chosen = np.flatnonzero(places >= 0).tolist()
    return Candidates(
        keys=[keys[i] for i in chosen],
        places=places[chosen],
        given={n: [values[i] for i in chosen] for n, values in given.items() if n != key},
        unknown=tuple(k for k, place in zip(keys, places, strict=True) if place < 0),
    )
