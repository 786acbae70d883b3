"""Names and codes of slices by one feature: frequent categories, and ranges of numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascaderank.schema import Feature, FittedSchema, Transform

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_VALUES = 30  # of a categorical feature, the most frequent
_BINS = 5  # of a numeric feature
UNKNOWN = "not in training"
"""Name of the slice of categories out of vocabulary."""


def category_slices(
    schema: FittedSchema, feature: Feature, column: NDArray[Any]
) -> tuple[list[str], Ints]:
    """Return names and codes of the slices of a categorical feature.

    The most frequent values have a slice each; what is out of vocabulary has one, too. All other
    values are in none.
    """
    values, counts = np.unique(column, return_counts=True)
    frequent = values[np.argsort(-counts, kind="stable")][:_MOST_VALUES]
    chosen = np.unique(np.append(frequent, values[values == 0])).astype(np.int64)
    vocabulary: Sequence[object] = (
        () if feature.buckets else schema.vocabularies[feature.vocabulary]
    )

    def name(code: int) -> str:
        if not vocabulary:
            return f"bucket {code}" if code else "missing"
        return str(vocabulary[code - 1]) if code else UNKNOWN

    places = np.searchsorted(chosen, column)
    inside = np.isin(column, chosen)
    return [name(int(code)) for code in chosen], np.where(inside, places, -1).astype(np.int64)


def number_slices(column: Floats, bins: int = _BINS) -> tuple[list[str], Ints]:
    """Return names and codes of slices of about equal size; a missing value has its own.

    Examples:
        >>> names, codes = number_slices(np.array([1.0, 2.0, 3.0, 4.0, np.nan]), bins=2)
        >>> names, codes.tolist()
        (['1 to 2', '3 to 4', 'missing'], [0, 0, 1, 1, 2])
    """
    missing = np.isnan(column)
    known = column[~missing]
    codes, names = np.full(len(column), -1, dtype=np.int64), []
    if len(known):
        levels = np.linspace(0, 1, bins + 1)[1:-1]
        edges = np.unique(np.quantile(known, levels, method="inverted_cdf"))
        of_known = np.searchsorted(edges, known, side="left")
        used, codes[~missing] = np.unique(of_known, return_inverse=True)
        names = [_range(known[of_known == code]) for code in used]
    if missing.any():
        codes[missing] = len(names)
        names.append("missing")
    return names, codes


def _range(values: Floats) -> str:
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"


def original(schema: FittedSchema, feature: Feature, column: NDArray[Any]) -> Floats:
    """Return the numbers of a feature as the log has them; those of a request's list as encoded."""
    numbers = column.astype(np.float64)
    if feature.name in schema.moments:
        moments = schema.moments[feature.name]
        numbers = numbers * moments.deviation + moments.mean
    if feature.transform in (Transform.LOG1P, Transform.LOG1P_STANDARDISE):
        numbers = np.sign(numbers) * np.expm1(np.abs(numbers))
    return numbers
