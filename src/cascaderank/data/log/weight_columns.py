"""Columns of weights in training: their names, and the check of their values."""

import numpy as np
import polars as pl

from cascaderank.errors import DataError

REQUEST_WEIGHT = "request_weight"
"""Column of requests with their weight in training, at least 0."""

CANDIDATE_WEIGHT = "candidate_weight"
"""Candidate column with the weight of each candidate in training, at least 0."""

_LARGEST = float(np.finfo(np.float32).max)


def check_weights(
    weights: pl.Series,
    ids: pl.Series | None = None,
    *,
    name: str,
    column: str = "",
    option: str = "",
) -> None:
    """Check that weights are finite numbers of at least 0.

    Args:
        weights: numbers.
        ids: id of the request of each weight, for the message.
        name: :data:`REQUEST_WEIGHT` or :data:`CANDIDATE_WEIGHT`.
        column: name of the column in the files, if it is another one.
        option: option that accepts nulls, for the message.

    Raises:
        DataError: if a weight is null, NaN, infinite in float32, or negative. The message has the
            first request with such a value.

    Examples:
        >>> check_weights(pl.Series([1.0, None]), pl.Series(["a", "b"]), name="request_weight")
        Traceback (most recent call last):
            ...
        cascaderank.errors.DataError: request_weight: expected finite numbers of at least 0, found \
null in 1 of 2 requests, first in request 'b'; write 1 for a request of ordinary weight, or 0 to \
leave it out of training
    """
    what = name.removesuffix("_weight")
    whose = f"column '{column}' ({name})" if column and column != name else name
    values = weights.cast(pl.Float64)
    write = f"write 1 for a {what} of ordinary weight, or 0 to leave it out of training"
    nulls = f"{write}, or set {option}" if option else write
    for found, wrong, remedy in (
        ("null", values.is_null(), nulls),
        ("NaN", values.is_nan(), nulls),
        ("infinity", values > _LARGEST, f"write smaller numbers, such as 1 for an ordinary {what}"),
        ("", values < 0, write),
    ):
        count = int(wrong.sum())
        if not count:
            continue
        first = "" if ids is None else f", first in request {ids.filter(wrong)[0]!r}"
        raise DataError(
            f"{whose}: expected finite numbers of at least 0, found "
            f"{found or f'{values.filter(wrong)[0]:g}'}"
            f"{'' if found else ' and others below 0' * (count > 1)} in {count:,} of "
            f"{len(values):,} {what}s{first}; {remedy}"
        )
