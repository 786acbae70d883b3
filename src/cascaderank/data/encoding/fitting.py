"""Fitting of a schema: vocabularies and moments of the training requests, part by part."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.ragged import flattened, lists_of, nested
from cascaderank.errors import DataError, SchemaError, did_you_mean
from cascaderank.schema import (
    Feature,
    FittedSchema,
    Kind,
    Moments,
    Role,
    Schema,
    Transform,
    abridged,
)

_STANDARDISED = (Transform.STANDARDISE, Transform.LOG1P_STANDARDISE)
_LOGGED = (Transform.LOG1P, Transform.LOG1P_STANDARDISE)


def fit_schema(schema: Schema, frames: Iterable[pl.DataFrame]) -> FittedSchema:
    """Compute the vocabularies and moments of a schema from the training requests.

    Pass training requests only: statistics of validation or test requests are a leak. Frames are
    read one at a time. Vocabularies are sorted by value, so that codes do not depend on the order
    of the requests.

    Args:
        schema: features to fit.
        frames: training requests, one row per request, such as :meth:`RequestLog.frames` yields.

    Returns:
        The schema with its vocabularies (values that occur at least ``min_count`` times) and
        moments. Moments are those of the values after the log1p of their transform, if it has one.
        The deviation is that of the population; it is 1 for a feature that is constant or always
        null.

    Raises:
        SchemaError: if a feature is missing from a frame or has another type.
        DataError: if there are no requests, or if numbers are NaN or infinite.

    Examples:
        >>> schema = Schema(
        ...     features=(
        ...         {"name": "video", "role": "item", "kind": "categorical"},
        ...         {"name": "price", "role": "item", "kind": "numeric"},
        ...     )
        ... )
        >>> fitted = fit_schema(
        ...     schema, [pl.DataFrame({"video": [[7, 3], [7]], "price": [[1.0, 2.0], [3.0]]})]
        ... )
        >>> fitted.vocabularies["video"], fitted.moments["price"].mean
        ((3, 7), 2.0)

    Source: this project; moments are merged as in Chan, Golub and LeVeque 1983.
    """
    vocabularies = {
        f.vocabulary: _Vocabulary(f.vocabulary, f.min_count)
        for f in schema.features
        if f.kind is Kind.CATEGORICAL and f.buckets is None
    }
    moments = {
        f.name: _RunningMoments()
        for f in schema.features
        if f.kind is Kind.NUMERIC and f.transform in _STANDARDISED
    }
    requests = 0
    for frame in frames:
        if not frame.height:
            continue
        requests += frame.height
        for feature in schema.features:
            values = feature_values(frame, feature)
            if feature.kind is Kind.NUMERIC:
                numbers = finite_numbers(feature, values)
                if feature.name in moments:
                    moments[feature.name].add(logged(feature, numbers[~np.isnan(numbers)]))
            else:
                check_category(feature, values.dtype)
                if feature.buckets is None:
                    vocabularies[feature.vocabulary].add(feature, values)
    if not requests:
        raise DataError(
            "the schema needs training requests to be fitted to; found none; see [data.split]"
        )
    return FittedSchema(
        features=schema.features,
        vocabularies={name: vocabulary.values() for name, vocabulary in vocabularies.items()},
        moments={name: running.moments(name) for name, running in moments.items()},
    )


def extend_schema(before: FittedSchema, fitted: FittedSchema) -> FittedSchema:
    """Return an earlier schema with the new categories of a later one behind its own.

    Categories keep their codes, and numbers their moments, so that the weights of a model that was
    trained with ``before`` keep their meaning.

    Args:
        before: schema of the earlier training requests.
        fitted: schema with the same features, fitted to the later training requests.

    Raises:
        SchemaError: if the features differ.

    Examples:
        >>> def fitted(*ids):
        ...     features = ({"name": "video", "role": "item", "kind": "categorical"},)
        ...     return FittedSchema(features=features, vocabularies={"video": ids})
        >>> extend_schema(fitted(3, 7), fitted(5, 7)).vocabularies["video"]
        (3, 7, 5)

    Source: this project.
    """
    if before.plain() != fitted.plain():
        changed = sorted(
            {f.name for f in set(before.plain().features) ^ set(fitted.plain().features)}
        )
        raise SchemaError(f"the features differ: {abridged(changed) or 'their order'}")
    vocabularies = {}
    for name, values in fitted.vocabularies.items():
        old = before.vocabularies[name]
        known = set(old)
        vocabularies[name] = (*old, *(v for v in values if v not in known))
    return before.model_copy(update={"vocabularies": vocabularies})


def feature_values(frame: pl.DataFrame, feature: Feature) -> pl.Series:
    """Return all values of a feature of any role as one flat column.

    Args:
        frame: one row per request.
        feature: feature of a request, of history entries or of candidates. All values of all lists
            count, if the feature has several.

    Raises:
        SchemaError: if the column is missing, or is not a list although the feature is one of
            candidates or history entries (or is a list although the feature is one of requests).
        DataError: if a list of a feature with several values contains a null or is no vector of its
            width.

    Examples:
        >>> price = Feature(name="price", role="item", kind="numeric")
        >>> feature_values(pl.DataFrame({"price": [[1.0, 2.0], [3.0]]}), price).to_list()
        [1.0, 2.0, 3.0]
    """
    if feature.name not in frame.columns:
        raise SchemaError(
            f"feature '{feature.name}' is missing{did_you_mean(feature.name, frame.columns)}; "
            f"found {abridged(frame.columns)}"
        )
    column = frame[feature.name]
    if feature.several:
        lists = nested(column, feature)
        return lists_of(lists if feature.role is Role.REQUEST else flattened(lists), feature)[1]
    listed = isinstance(column.dtype, pl.List)
    if listed is (feature.role is Role.REQUEST):
        shape = "value per request" if feature.role is Role.REQUEST else "list per request"
        raise SchemaError(f"feature '{feature.name}' must be one {shape}; found {column.dtype}")
    return flattened(column) if listed else column


def check_category(feature: Feature, dtype: pl.DataType) -> None:
    """Check that the values of a categorical feature are integers, booleans or strings.

    Raises:
        SchemaError: if they have another type.

    Examples:
        >>> check_category(Feature(name="video", role="item", kind="categorical"), pl.Int64())
    """
    text = isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    if not (text or dtype.is_integer() or isinstance(dtype, pl.Boolean | pl.Null)):
        raise SchemaError(
            f"categorical feature '{feature.name}' must be integers or strings; found {dtype}"
        )


def finite_numbers(feature: Feature, values: pl.Series) -> NDArray[np.float64]:
    """Return the values of a numeric feature as float64; null becomes NaN.

    Raises:
        SchemaError: if the values are not numbers.
        DataError: if values are NaN or infinite; the message counts them.

    Examples:
        >>> price = Feature(name="price", role="item", kind="numeric")
        >>> finite_numbers(price, pl.Series([1, None])).tolist()
        [1.0, nan]
    """
    numeric = values.dtype.is_numeric() or isinstance(values.dtype, pl.Boolean | pl.Null)
    if not numeric:
        raise SchemaError(f"numeric feature '{feature.name}' must be numbers; found {values.dtype}")
    numbers = values.cast(pl.Float64)
    flat = numbers.to_numpy()
    broken = int((~np.isfinite(flat)).sum()) - values.null_count()
    if broken:
        raise DataError(
            f"feature '{feature.name}': {broken} of {len(flat)} values are NaN or infinite; "
            "write null where a value is missing and set missing=true for the feature"
        )
    return flat


def logged(feature: Feature, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sign(x) log(1 + |x|) of each number if the feature has a log1p transform.

    Numbers of other features are returned unchanged.

    Examples:
        >>> price = Feature(name="price", role="item", kind="numeric", transform="log1p")
        >>> logged(price, np.array([-1.0, 0.0])).round(3).tolist()
        [-0.693, 0.0]
    """
    if feature.transform not in _LOGGED:
        return numbers
    magnitudes: NDArray[np.float64] = np.log1p(np.abs(numbers))
    return np.copysign(magnitudes, numbers)


@final
class _Vocabulary:
    """Values of one vocabulary and their counts in the training requests."""

    def __init__(self, name: str, min_count: int) -> None:
        self._name, self._min_count = name, min_count
        self._counts: pl.DataFrame | None = None

    def add(self, feature: Feature, values: pl.Series) -> None:
        values = values.drop_nulls()
        if not len(values):
            return
        whole = values.dtype.is_integer() or values.dtype == pl.Boolean
        values = values.cast(pl.Int64 if whole else pl.String).alias("value")
        counts = values.value_counts(name="count").with_columns(pl.col("count").cast(pl.Int64))
        if self._counts is not None:
            if self._counts.schema["value"] != values.dtype:
                raise SchemaError(
                    f"feature '{feature.name}': expected {self._counts.schema['value']}, the type "
                    f"of the other features of vocabulary '{self._name}'; found {values.dtype}; "
                    "use one type"
                )
            together = pl.concat([self._counts, counts])
            counts = together.group_by("value").agg(pl.col("count").sum())
        self._counts = counts

    def values(self) -> tuple[int, ...] | tuple[str, ...]:
        if self._counts is None:
            return ()
        frequent = self._counts.filter(pl.col("count") >= self._min_count)
        return tuple(frequent["value"].sort().to_list())


@dataclass
class _RunningMoments:
    """Count, mean, sum of squared deviations and range of the numbers added so far."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf

    def add(self, numbers: NDArray[np.float64]) -> None:
        if not len(numbers):
            return
        count, total = len(numbers), self.count + len(numbers)
        with np.errstate(over="ignore", invalid="ignore"):  # reported by `moments`
            mean = float(numbers.mean())
            squares = float(np.square(numbers - mean).sum())
        difference = mean - self.mean
        self.squares += squares + difference * difference * self.count * count / total
        self.mean += difference * count / total
        self.count = total
        self.lowest = min(self.lowest, float(numbers.min()))
        self.highest = max(self.highest, float(numbers.max()))

    def moments(self, name: str) -> Moments:
        if not self.count:
            return Moments(mean=0.0, deviation=1.0)
        if self.lowest == self.highest:  # rounding could leave a tiny deviation above 0
            return Moments(mean=self.lowest, deviation=1.0)
        deviation = math.sqrt(self.squares / self.count)
        if not (math.isfinite(deviation) and deviation > 0):
            raise DataError(
                f"feature '{name}': values range from {self.lowest:g} to {self.highest:g}, and "
                "their standard deviation is not a positive finite float64; "
                'set transform="log1p_standardise"'
            )
        return Moments(mean=self.mean, deviation=deviation)
