"""From values to what a model reads: categories to codes, numbers to transformed numbers."""

from typing import final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.fitting import check_category, finite_numbers, fit_schema, logged
from cascaderank.data.hashing import hashed
from cascaderank.errors import DataError, SchemaError, did_you_mean
from cascaderank.schema import Feature, FittedSchema, Kind, Role, Schema

__all__ = ["Encoder", "check_same_features", "encode_column", "fit_schema"]

Codes = NDArray[np.int32] | NDArray[np.int64]
_WIDEST_TABLE = 8  # a table of codes by value may be so many times longer than the vocabulary


@final
class Encoder:
    """Encode the features of a fitted schema; looks up vocabularies once and keeps them.

    Args:
        fitted: what was learnt from the training requests.

    Examples:
        >>> fitted = FittedSchema(
        ...     features=({"name": "video", "role": "item", "kind": "categorical"},),
        ...     vocabularies={"video": (3, 7)},
        ... )
        >>> Encoder(fitted)(fitted["video"], pl.Series([7, 3, 8])).tolist()
        [2, 1, 0]
    """

    def __init__(self, fitted: FittedSchema) -> None:
        self.fitted = fitted
        self._vocabularies = {name: _Lookup(values) for name, values in fitted.vocabularies.items()}

    def __call__(self, feature: Feature, values: pl.Series) -> Codes | NDArray[np.float32]:
        """Encode values of one feature.

        Args:
            feature: one of the fitted schema.
            values: not lists; ``[n]``.

        Returns:
            Categories: ``[n]`` int32 codes (int64 if there are too many), 0 for a null or a value
            out of vocabulary. Numbers: ``[n]`` float32, NaN for null.

        Raises:
            SchemaError: if the values are of another type than the schema was fitted to.
            DataError: if numbers are NaN or infinite, or null though the feature is never missing.
        """
        if feature.kind is Kind.NUMERIC:
            return self._numbers(feature, values)
        check_category(feature, values.dtype)
        if isinstance(values.dtype, pl.Null):
            return np.zeros(len(values), dtype=np.int32)
        if feature.buckets is None:
            return self._vocabularies[feature.vocabulary](feature, values)
        codes = 1 + (hashed(values) % np.uint64(feature.buckets)).astype(np.int64)
        if values.null_count():
            codes[values.is_null().to_numpy()] = 0
        return codes if feature.buckets >= 2**31 - 1 else codes.astype(np.int32)

    def _numbers(self, feature: Feature, values: pl.Series) -> NDArray[np.float32]:
        nulls = values.null_count()
        if nulls and not feature.missing:
            raise DataError(
                f"feature '{feature.name}': {nulls} of {len(values)} values are null; "
                "fill them, or set missing=true for the feature and train again"
            )
        numbers = logged(feature, finite_numbers(feature, values))
        moments = self.fitted.moments.get(feature.name)
        if moments is not None:
            numbers = (numbers - moments.mean) / moments.deviation
        with np.errstate(over="ignore"):  # told about below
            narrow = numbers.astype(np.float32)
        infinite = int(np.isinf(narrow).sum())
        if infinite:
            raise DataError(
                f"feature '{feature.name}': {infinite} of {len(values)} values are too large for "
                'float32; set transform="log1p"'
            )
        return narrow


def encode_column(
    fitted: FittedSchema, feature: Feature, values: pl.Series
) -> Codes | NDArray[np.float32]:
    """Encode values of one feature; for more than one column keep an :class:`Encoder`.

    Args:
        fitted: what was learnt from the training requests.
        feature: one of its features.
        values: not lists; ``[n]``.

    Returns:
        As :meth:`Encoder.__call__`.

    Raises:
        SchemaError: if the values are of another type than the schema was fitted to.
        DataError: if numbers are NaN or infinite, or null though the feature is never missing.

    Examples:
        >>> fitted = FittedSchema(
        ...     features=({"name": "price", "role": "item", "kind": "numeric"},),
        ...     moments={"price": {"mean": 2.0, "deviation": 4.0}},
        ... )
        >>> encode_column(fitted, fitted["price"], pl.Series([2.0, 6.0])).tolist()
        [0.0, 1.0]

    Source: this project.
    """
    return Encoder(fitted)(feature, values)


def check_same_features(fitted: FittedSchema, schema: Schema, *, where: str) -> None:
    """Check that a data set has every feature of a fitted schema, as what it was.

    Features that the fitted schema does not have do not matter.

    Args:
        fitted: what the model was built for.
        schema: of the data set.
        where: what has it, for the message.

    Raises:
        SchemaError: naming every feature that is missing or of another kind.

    Examples:
        >>> fitted = FittedSchema(features=({"name": "price", "role": "item", "kind": "numeric"},))
        >>> check_same_features(fitted, fitted.plain(), where="shop")
    """
    mistakes = []
    for feature in fitted.features:
        if feature.name not in schema.names:
            mistakes.append(f"no '{feature.name}'{did_you_mean(feature.name, schema.names)}")
            continue
        there = schema[feature.name]
        same = ["role", "kind"] + (["sequence"] if feature.role is Role.HISTORY else [])
        mistakes += [
            f"'{feature.name}' has {name} {getattr(there, name)!s} and not {getattr(feature, name)}"
            for name in same
            if getattr(there, name) != getattr(feature, name)
        ]
        if there.missing and not feature.missing:
            mistakes.append(f"'{feature.name}' may be missing and may not in the model")
    if mistakes:
        raise SchemaError(
            f"{where} has another schema than the model was fitted to: {'; '.join(mistakes)}; "
            "use a data set with these features, or train on this one"
        )


@final
class _Lookup:
    """Codes by value, of one vocabulary."""

    def __init__(self, values: tuple[int, ...] | tuple[str, ...]) -> None:
        self._size = len(values)
        self._text = bool(values) and isinstance(values[0], str)
        if self._text:
            self._enum = pl.Enum(pl.Series(values, dtype=pl.String))
            return
        self._values = np.array(values, dtype=np.int64)
        self._table: NDArray[np.int32] | None = None
        if self._size:
            self._low, high = int(self._values[0]), int(self._values[-1])
            if high - self._low < _WIDEST_TABLE * self._size + 1024:
                self._table = np.zeros(high - self._low + 1, dtype=np.int32)
                self._table[self._values - self._low] = np.arange(1, self._size + 1)

    def __call__(self, feature: Feature, values: pl.Series) -> NDArray[np.int32]:
        whole = values.dtype.is_integer() or values.dtype == pl.Boolean
        if self._size and whole is self._text:
            raise SchemaError(
                f"categorical feature '{feature.name}': the schema was fitted to "
                f"{'strings' if self._text else 'integers'}; found {values.dtype}"
            )
        if not self._size:
            return np.zeros(len(values), dtype=np.int32)
        if self._text:
            codes = values.cast(pl.String).cast(self._enum, strict=False).to_physical()
            return (codes.cast(pl.Int32) + 1).fill_null(0).to_numpy()
        numbers = values.cast(pl.Int64, strict=False)  # null if beyond 64 bits
        found = self._codes(numbers.fill_null(0).to_numpy())
        if numbers.null_count():
            found[numbers.is_null().to_numpy()] = 0
        return found

    def _codes(self, numbers: NDArray[np.int64]) -> NDArray[np.int32]:
        if self._table is not None:
            # Not numbers - low: that could overflow for a value far away.
            inside = (numbers >= self._low) & (numbers <= self._low + len(self._table) - 1)
            where = np.where(inside, numbers, self._low) - self._low
            return np.where(inside, self._table[where], np.int32(0))
        where = np.searchsorted(self._values, numbers).clip(max=self._size - 1)
        found = self._values[where] == numbers
        return np.where(found, where + 1, 0).astype(np.int32)
