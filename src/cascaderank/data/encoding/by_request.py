"""Standardisation of numbers by request, over the candidates of each list."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Feature, abridged


def standardised_by_request(
    feature: Feature, numbers: NDArray[np.float64], lengths: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Subtract the mean of the candidates of a request, and divide by their standard deviation.

    Missing values are not counted, and stay missing. The deviation is that of the population.
    Values that are all equal, and the only value of a list, become 0.

    Args:
        feature: the feature, for messages.
        numbers: ``[candidates]``, requests one after another; NaN where missing.
        lengths: ``[requests]`` number of candidates of each request.

    Raises:
        DataError: if the difference of two numbers of one request is too large for float64.

    Examples:
        >>> price = Feature(name="price", role="item", kind="numeric", missing=True)
        >>> numbers, lengths = np.array([1.0, np.nan, 3.0, 7.0]), np.array([3, 0, 1])
        >>> standardised_by_request(price, numbers, lengths).tolist()
        [-1.0, nan, 1.0, 0.0]

    Source: this project.
    """
    if not len(numbers):
        return numbers
    # `reduceat` cannot reduce an empty list.
    lengths = lengths[lengths > 0]
    starts = np.cumsum(lengths) - lengths
    lowest = np.fmin.reduceat(numbers, starts)
    with np.errstate(over="ignore"):  # reported below
        width = np.fmax.reduceat(numbers, starts) - lowest
    if np.isinf(width).any():
        raise DataError(
            f"feature '{feature.name}': values of one request differ by more than float64 can "
            'represent; set transform="log1p_standardise"'
        )
    # From 0 to 1 first: a list of equal numbers is exactly 0, and no square over- or underflows.
    width[width == 0] = 1
    shares: NDArray[np.float64] = (numbers - np.repeat(lowest, lengths)) / np.repeat(width, lengths)
    present = ~np.isnan(shares)
    count = np.maximum(np.add.reduceat(present, starts, dtype=np.int64), 1)
    mean = np.add.reduceat(np.where(present, shares, 0), starts) / count
    shares -= np.repeat(mean, lengths)
    squares = np.add.reduceat(np.where(present, shares, 0) ** 2, starts)
    deviation = np.sqrt(squares / count)
    deviation[deviation == 0] = 1
    shares /= np.repeat(deviation, lengths)
    return shares


def check_not_by_request(features: Iterable[Feature], *, reader: str) -> None:
    """Check that the values of features do not depend on the other candidates of a request.

    Args:
        features: features that are read for items without a request.
        reader: what reads them, for the message.

    Raises:
        ConfigError: if a feature is standardised by request.

    Examples:
        >>> check_not_by_request([Feature(name="x", role="item", kind="numeric")], reader="search")
    """
    found = [f.name for f in features if f.by_request]
    if found:
        raise ConfigError(
            f"{reader} reads {abridged(found)}, standardised by request, so an item has no value "
            "without the other candidates of a request; remove the feature from the stage, or set "
            'another transform, such as "standardise", and train again'
        )
