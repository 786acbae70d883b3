"""Raw values of one request as tensors: what an ``Encoder`` returns, without a frame."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.batch import RequestBatch
from cascaderank.data.encoding.by_request import standardised_by_request
from cascaderank.data.encoding.fitting import logged
from cascaderank.data.encoding.hashing import mix
from cascaderank.data.encoding.value_lists import NO_VALUE
from cascaderank.errors import DataError, SchemaError, did_you_mean, shown
from cascaderank.schema import Feature, FittedSchema, Kind, Role

Values = NDArray[Any]
_NUMBERS = (int, float, np.integer, np.floating, np.bool_)
_LOWEST, _HIGHEST = -(2**63), 2**64


@final
class ValueEncoder:
    """Encode Python values by a fitted schema; codes and numbers equal those of ``Encoder``.

    Conventions for values are those of :meth:`~cascaderank.runs.load.TrainedRun.score`: ``None``
    and NaN are missing, whole floats are integers where a category is expected, and a missing
    history is empty.

    Args:
        schema: schema fitted to the training requests.
        history_length: number of most recent entries of a history that count.

    Examples:
        >>> schema = FittedSchema(
        ...     features=({"name": "user", "role": "request", "kind": "categorical"},),
        ...     vocabularies={"user": ("ann", "bob")},
        ... )
        >>> ValueEncoder(schema, history_length=50).request({"user": "bob"}).request["user"]
        tensor([2])
    """

    def __init__(self, schema: FittedSchema, *, history_length: int) -> None:
        self.schema = schema
        """The schema."""
        self._tables = {
            name: {value: code for code, value in enumerate(values, start=1)}
            for name, values in schema.vocabularies.items()
        }
        self._features = {f.name: f for f in schema.features}
        self.by_request = {f.name for f in schema.features if f.by_request}
        """Numbers that are standardised over all candidates of a request."""
        self._request = schema.of(Role.REQUEST)
        self._history = schema.of(Role.HISTORY)
        self._length = history_length
        self._of_column: dict[str, Callable[[Sequence[Any]], Values]] = {
            f.name: self._numbers_of(f) if f.kind is Kind.NUMERIC else self._codes_of(f)
            for f in schema.features
        }

    def request(self, values: Mapping[str, Any]) -> RequestBatch:
        """Encode the features of a request and its histories.

        Args:
            values: raw values by name; names that are no feature are ignored.

        Returns:
            A batch of one request, with one candidate without features.

        Raises:
            SchemaError: if a feature is missing, or a value has another type.
            DataError: if a number is not finite, or is missing and must not be, or the histories of
                a sequence differ in length.
        """
        if not isinstance(values, Mapping):
            raise DataError(f"expected a request as values by name, found {type(values).__name__}")
        request, history, masks = {}, {}, {}
        for feature in self._request:
            value = self._value(values, feature)
            if feature.several:
                request[feature.name] = torch.from_numpy(self.lists(feature.name, [value]))
            else:
                request[feature.name] = torch.from_numpy(self._of_column[feature.name]((value,)))
        lengths: dict[str, tuple[int, str]] = {}
        for feature in self._history:
            entries = self._value(values, feature)
            entries = self._entries(feature, entries)
            length, first = lengths.setdefault(feature.sequence, (len(entries), feature.name))
            if len(entries) != length:
                raise DataError(
                    f"history: expected lists of one length, found {length} values of '{first}' "
                    f"and {len(entries)} of '{feature.name}'"
                )
            codes = self._of_column[feature.name](entries[-self._length :])
            if not len(codes):
                codes = np.zeros(1, dtype=codes.dtype)
            history[feature.name] = torch.from_numpy(codes)[None]
            if feature.sequence not in masks:
                masks[feature.sequence] = torch.full((1, len(codes)), bool(length))
        return RequestBatch(
            mask=_ONE, items={}, request=request, history=history, history_mask=masks
        )

    def column(self, name: str, values: Sequence[Any]) -> Values:
        """Return the codes (int64) or numbers (float32, NaN if missing) of a feature.

        Args:
            name: feature with one value.
            values: raw values, one per candidate; all candidates of the request for a feature in
                :attr:`by_request`.

        Raises:
            SchemaError: if a value has another type.
            DataError: if a number is not finite, or is missing and must not be.
        """
        return self._of_column[name](values)

    def lists(self, name: str, values: Sequence[Any]) -> Values:
        """Return a feature with several values, ``[candidates, longest]``.

        Codes are padded with -1 to the longest list and to at least one value; a vector that is
        missing is NaN.

        Args:
            name: feature with several values.
            values: one list per candidate; ``None`` is an empty one.

        Raises:
            SchemaError: if a value has another type.
            DataError: if a list has a value that is missing, or a vector has another width.
        """
        feature = self._features[name]
        rows = [() if row is None else self._entries(feature, row) for row in values]
        width = feature.width
        for row in rows:
            if any(value is None or value != value for value in row):
                raise DataError(
                    f"feature '{name}': expected a list without missing values, found {shown(row)}"
                )
            if width is not None and len(row) != width and (row or not feature.missing):
                raise DataError(
                    f"feature '{name}': expected {width} numbers (width={width}), found {len(row)}"
                )
        flat = self._of_column[name]([value for row in rows for value in row])
        longest = width or max(1, max(map(len, rows), default=0))
        padding = NO_VALUE if flat.dtype.kind == "i" else np.nan
        padded = np.full((len(rows), longest), padding, dtype=flat.dtype)
        padded[np.arange(longest) < np.array([len(r) for r in rows])[:, None]] = flat
        return padded

    def _value(self, values: Mapping[str, Any], feature: Feature) -> Any:
        try:
            return values[feature.name]
        except KeyError:
            raise SchemaError(
                f"the request has no '{feature.name}'{did_you_mean(feature.name, values)}; add it, "
                "or null if it is missing"
            ) from None

    def _entries(self, feature: Feature, value: Any) -> Sequence[Any]:
        if value is None and feature.role is Role.HISTORY:
            return ()
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, list | tuple):
            raise SchemaError(f"feature '{feature.name}': expected a list, found {shown(value)}")
        return value

    def _codes_of(self, feature: Feature) -> Callable[[Sequence[Any]], Values]:
        if feature.buckets is not None:
            return lambda values: _hashed(feature, values)
        table = self._tables[feature.vocabulary]
        text = isinstance(next(iter(table), None), str)

        def code(value: Any) -> int:
            known = _category(feature, value)
            if known is None or not table:
                return 0
            if isinstance(known, str) is not text:
                raise SchemaError(
                    f"categorical feature '{feature.name}': expected "
                    f"{'strings' if text else 'integers'}, which the schema was fitted to, found "
                    f"{shown(value)}"
                )
            return table.get(known, 0)

        def codes(values: Sequence[Any]) -> Values:
            try:
                found = [table.get(value) for value in values]
            except TypeError:  # a list or a mapping
                found = [None] * len(values)
            if None in found:
                # The slow path checks types: only values without a code can have a wrong one.
                found = [
                    code(value) if known is None else known
                    for value, known in zip(values, found, strict=True)
                ]
            return np.array(found, dtype=np.int64)

        return codes

    def _numbers_of(self, feature: Feature) -> Callable[[Sequence[Any]], Values]:
        moments = self.schema.moments.get(feature.name)
        may_miss = feature.missing and not feature.several

        def numbers(values: Sequence[Any]) -> Values:
            try:
                raw = np.asarray(values)
            except ValueError:  # numbers and lists: reported by the slow path
                raw = np.array(None)
            if raw.dtype.kind not in "fiub" or raw.ndim != 1:
                raw = np.array([_number(feature, value) for value in values], dtype=np.float64)
            raw = logged(feature, raw.astype(np.float64))
            if moments is not None:
                raw = (raw - moments.mean) / moments.deviation
            if feature.by_request:
                raw = standardised_by_request(feature, raw, np.array([len(raw)]))
            with np.errstate(over="ignore"):  # reported below
                narrow = raw.astype(np.float32)
            if not np.isfinite(narrow).all():
                _check_finite(feature, values, narrow, may_miss=may_miss)
            return narrow

        return numbers


_ONE: Tensor = torch.ones(1, 1, dtype=torch.bool)


def _category(feature: Feature, value: Any) -> int | str | None:
    """Return a category as an integer or text; ``None`` if it is missing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | np.integer | np.bool_):
        return int(value)
    if isinstance(value, float | np.floating):
        if math.isnan(value):
            return None
        if float(value).is_integer():
            return int(value)
    raise SchemaError(
        f"categorical feature '{feature.name}' must be integers or strings; found {shown(value)}"
    )


def _hashed(feature: Feature, values: Sequence[Any]) -> Values:
    categories = [_category(feature, value) for value in values]
    bits = []
    for value in categories:
        if value is None:
            bits.append(0)
        elif isinstance(value, str):
            digest = hashlib.blake2b(value.encode(), digest_size=8).digest()
            bits.append(int.from_bytes(digest, "little"))
        elif _LOWEST <= value < _HIGHEST:
            bits.append(value % 2**64)
        else:
            raise DataError(
                f"categorical feature '{feature.name}': expected an integer of 64 bits, found "
                f"{shown(value)}"
            )
    hashes = np.array(bits, dtype=np.uint64)
    texts = np.array([isinstance(value, str) for value in categories], dtype=bool)
    missing = np.array([value is None for value in categories], dtype=bool)
    hashes = np.where(texts, hashes, mix(hashes))
    codes = 1 + (hashes % np.uint64(feature.buckets or 1)).astype(np.int64)
    codes[missing] = 0
    return codes


def _number(feature: Feature, value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, _NUMBERS):
        try:
            return float(value)
        except OverflowError:
            return math.inf  # reported by the caller
    raise SchemaError(f"numeric feature '{feature.name}' must be numbers; found {shown(value)}")


def _check_finite(
    feature: Feature, values: Sequence[Any], encoded: Values, *, may_miss: bool
) -> None:
    """Raise an error for a number that is infinite, too large, or missing and must not be."""
    for value, number in zip(values, encoded, strict=True):
        missing = math.isnan(number)
        if missing and not may_miss:
            raise DataError(
                f"feature '{feature.name}': expected a number, found none; the schema that the "
                "model was trained with allows no missing values"
            )
        if not missing and not math.isfinite(number):
            raise DataError(
                f"feature '{feature.name}': expected a finite number in the range of float32, "
                f"found {shown(value)}"
            )
