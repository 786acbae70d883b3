"""Exponentials as truncated power series, all of one length."""

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from torch import Tensor

_TOLERANCE = {torch.float32: 1e-8, torch.float64: 2e-17}
"""Largest error of a series, relative to the exponential: a tenth of the rounding error."""


def terms_needed(width: float, dtype: torch.dtype) -> int:
    """Return the number of terms for ``exp(x)``, ``|x| <= width``, to the precision of a dtype.

    The error of an economised series of d terms is at most about its first omitted Chebyshev term,
    ``2 I_d(width)``, which is relative to 1. The exponential may be as small as ``exp(-width)``.

    Examples:
        >>> terms_needed(1.0, torch.float32), terms_needed(1.0, torch.float64)
        (10, 16)
    """
    terms, error = 1, width * math.exp(width)
    while error > _TOLERANCE[dtype]:
        terms += 1
        error *= width / 2 / terms
    return terms


def series_of(places: NDArray[np.float64], terms: int, *, like: Tensor) -> Tensor:
    """Return ``c`` with ``sum_d c_di u^d = exp(places_i u)`` for ``|u| <= 1``, ``[terms, places]``.

    Args:
        places: ``[places]``.
        terms: number of terms; :func:`terms_needed` of the largest place.
        like: a tensor of the dtype and the device of the result.

    Examples:
        >>> series = series_of(np.array([-0.5, 1.0]), 9, like=torch.ones(1))
        >>> 0.5 ** torch.arange(9.0) @ series  # exp(-0.25), exp(0.5)
        tensor([0.7788, 1.6487])
    """
    table = _economised(terms)
    return torch.from_numpy(table @ np.vander(places, table.shape[1], increasing=True).T).to(like)


@lru_cache
def _economised(terms: int) -> NDArray[np.float64]:
    """Return the contribution of each power of x to the terms of ``exp(x u)``.

    ``x^p u^p / p!`` contributes itself if it is one of the terms. For a higher power, ``u^p`` is
    expanded in Chebyshev polynomials, and those of a degree below the number of terms are kept. A
    plain series would lose them and need three or four terms more.
    """
    powers = 2 * terms + 2
    table = np.zeros((terms, powers))
    for power in range(powers):
        alone = np.zeros(power + 1)
        alone[power] = 1 / math.factorial(power)
        lower = chebyshev.cheb2poly(chebyshev.poly2cheb(alone)[:terms])
        table[: len(lower), power] = lower
    return table
