"""Encoding of feature values: categories as integer codes, numbers after their transform."""

from typing import final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.encoding.by_request import check_not_by_request, standardised_by_request
from cascaderank.data.encoding.fitting import check_category, finite_numbers, fit_schema, logged
from cascaderank.data.encoding.hashing import hashed
from cascaderank.errors import DataError, SchemaError, did_you_mean
from cascaderank.schema import Feature, FittedSchema, Kind, Role, Schema

__all__ = ["Encoder", "check_same_features", "encode_column", "fit_schema"]

Codes = NDArray[np.int32] | NDArray[np.int64]
_WIDEST_TABLE = 8  # maximum length of a table of codes by value, in lengths of the vocabulary


@final
class Encoder:
    """Encode the features of a fitted schema; builds the lookup tables of all vocabularies once.

    Args:
        fitted: schema fitted to the training requests.

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

    def __call__(
        self, feature: Feature, values: pl.Series, lengths: NDArray[np.int64] | None = None
    ) -> Codes | NDArray[np.float32]:
        """Encode values of one feature.

        Args:
            feature: a feature of the fitted schema.
            values: ``[n]``, scalars and not lists.
            lengths: ``[requests]`` number of candidates of each request, if these are values of
                all candidates of some requests; a feature that is standardised by request needs
                it.

        Returns:
            Categorical features: ``[n]`` int32 codes (int64 with 2^31 - 1 or more hash buckets); 0
            for a null or a value out of vocabulary. Numeric features: ``[n]`` float32, NaN for
            null.

        Raises:
            SchemaError: if the values have another type than those that the schema was fitted to.
            DataError: if numbers are NaN, infinite or too large for float32, or if they are null
                and the feature does not allow missing values.
            ConfigError: if the feature is standardised by request and there are no ``lengths``.
        """
        if feature.kind is Kind.NUMERIC:
            return self._numbers(feature, values, lengths)
        check_category(feature, values.dtype)
        if isinstance(values.dtype, pl.Null):
            return np.zeros(len(values), dtype=np.int32)
        if feature.buckets is None:
            return self._vocabularies[feature.vocabulary](feature, values)
        codes = 1 + (hashed(values) % np.uint64(feature.buckets)).astype(np.int64)
        if values.null_count():
            codes[values.is_null().to_numpy()] = 0
        return codes if feature.buckets >= 2**31 - 1 else codes.astype(np.int32)

    def _numbers(
        self, feature: Feature, values: pl.Series, lengths: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
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
        if lengths is None:
            check_not_by_request([feature], reader="the encoding of single values")
        elif feature.by_request:
            numbers = standardised_by_request(feature, numbers, lengths)
        with np.errstate(over="ignore"):  # reported below
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
    """Encode values of one feature; use an :class:`Encoder` for more than one column.

    Args:
        fitted: schema fitted to the training requests.
        feature: a feature of the fitted schema.
        values: ``[n]``, scalars and not lists.

    Returns:
        Codes or numbers, see :meth:`Encoder.__call__`.

    Raises:
        SchemaError: if the values have another type than those that the schema was fitted to.
        DataError: if numbers are NaN, infinite or too large for float32, or if they are null and
            the feature does not allow missing values.

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
    """Check that a data set has every feature of a fitted schema, with the same role and kind.

    Additional features of the data set are ignored.

    Args:
        fitted: schema of the model.
        schema: schema of the data set.
        where: name of the data set in the message.

    Raises:
        SchemaError: if features are missing or have another role, kind or sequence, or may be
            missing in the data set and not in the model; the message names all of them.

    Examples:
        >>> fitted = FittedSchema(features=({"name": "price", "role": "item", "kind": "numeric"},))
        >>> check_same_features(fitted, fitted.plain(), where="shop")
    """
    mistakes = []
    for feature in fitted.features:
        if feature.name not in schema.names:
            mistakes.append(f"no '{feature.name}'{did_you_mean(feature.name, schema.names)}")
            continue
        actual = schema[feature.name]
        compared = ["role", "kind", "multiple", "width"]
        compared += ["sequence"] if feature.role is Role.HISTORY else []
        mistakes += [
            f"'{feature.name}' has {name} {getattr(actual, name)} and not {getattr(feature, name)}"
            for name in compared
            if getattr(actual, name) != getattr(feature, name)
        ]
        if actual.missing and not feature.missing:
            mistakes.append(f"'{feature.name}' allows missing values and the model does not")
    if mistakes:
        raise SchemaError(
            f"{where}: the schema differs from that of the model: {'; '.join(mistakes)}; "
            "use a data set with these features, or train on this one"
        )


@final
class _Lookup:
    """Lookup of the codes of one vocabulary; codes count from 1, and 0 is out of vocabulary."""

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
        numbers = values.cast(pl.Int64, strict=False)  # null if it does not fit into 64 bits
        integer_codes = self._codes(numbers.fill_null(0).to_numpy())
        if numbers.null_count():
            integer_codes[numbers.is_null().to_numpy()] = 0
        return integer_codes

    def _codes(self, numbers: NDArray[np.int64]) -> NDArray[np.int32]:
        if self._table is not None:
            # `numbers - low` of a number outside the table could overflow.
            inside = (numbers >= self._low) & (numbers <= self._low + len(self._table) - 1)
            where = np.where(inside, numbers, self._low) - self._low
            return np.where(inside, self._table[where], np.int32(0))
        where = np.searchsorted(self._values, numbers).clip(max=self._size - 1)
        known = self._values[where] == numbers
        return np.where(known, where + 1, 0).astype(np.int32)
