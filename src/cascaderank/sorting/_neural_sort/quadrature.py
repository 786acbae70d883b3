"""Quadrature over rows: Gauss's rule for sums over equally spaced points.

A sum of a smooth function over the rows of a group is approximated by a weighted sum over fewer
points between them. With M points and the right weights, all of them positive, every polynomial of
degree up to 2M - 1 is summed exactly. With as many points as rows, the points are the rows and
every weight is 1. See ``docs/decisions/0003-rows-by-quadrature.md`` for when the rule applies and
how accurate it is.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MAX_SPREAD = 0.25
"""Largest difference between the slopes of a list for which a function of the rows is smooth."""

_TOLERANCE = {torch.float32: 1e-7, torch.float64: 1e-14}
"""Largest relative error of a sum."""


class Points(NamedTuple):
    """Points that stand for groups of rows; the first axis has length 1 if all lists share them."""

    place: Tensor
    """``[lists or 1, point]``; in units of half a row, counted upwards from the middle."""
    weight: Tensor
    """``[lists or 1, point]``, adding up to the rows of the group; 0 for an unused point."""
    polynomial: Tensor
    """``[lists or 1, 3, point]``: orthonormal polynomials of degree 0, M - 1 and M - 2, or only the
    first if the points are the rows."""


def points_needed(rows: int, spread: float, dtype: torch.dtype) -> int:
    """Estimate the number of points needed for the sums over groups of rows.

    The estimate suits lists of usual shapes; :func:`is_resolved` checks whether it was enough.

    Args:
        rows: number of rows of the largest group.
        spread: largest slope of a list less its smallest.
        dtype: dtype of the sums; float32 needs fewer points.

    Returns:
        The number of points, or of the rows if fewer points are not enough.
    """
    if not spread <= _MAX_SPREAD:  # also NaN, after training diverged
        return rows
    root = math.sqrt(rows * spread)
    guess = 3 + 3 * root if dtype is torch.float32 else 5 + 5.5 * root
    return fewer_points(math.ceil(guess), rows)


def fewer_points(number: int, rows: int) -> int:
    """Return the number of points to use: the given one, or all rows if those cost hardly more."""
    return number if number <= 0.8 * rows else rows


def is_resolved(sums: Tensor, real: Tensor | None) -> bool:
    """Return whether the points were enough.

    The rule is first inexact at degree 2M. The contribution of the last polynomials to a function
    indicates how large it is there: it decays by about the same factor again. How fast it decayed
    over the last degrees is no indicator, as it fluctuates in lists of two tight clusters.

    Args:
        sums: ``[lists, 3, list]``; sums of the functions times the polynomials.
        real: ``[lists, list]``; 1 for functions that count, ``None`` for all.
    """
    total, *last = sums.abs().unbind(1)
    error = torch.maximum(*last).sub_(total, alpha=math.sqrt(_TOLERANCE[sums.dtype]))
    return float((error if real is None else error.mul_(real)).max()) <= 0


def points_of(sizes: Tensor, number: int, *, rows: int, like: Tensor) -> Points:
    """Return the points that stand for groups of rows.

    Args:
        sizes: ``[lists]`` int64; number of rows of each group.
        number: number of points, at least 2 unless it equals the number of rows.
        rows: upper bound of the sizes. With as many points, the points are the rows.
        like: a tensor of the dtype and the device of the result.

    Examples:
        >>> points = points_of(torch.tensor([1000]), 2, rows=1000, like=torch.ones(1))
        >>> points.place, points.weight  # Gauss-Legendre, nearly
        (tensor([[-577.3500,  577.3500]]), tensor([[500., 500.]]))
    """
    if number >= rows:
        rank = torch.arange(number, device=like.device)
        place = torch.maximum(sizes[:, None] - 1 - 2 * rank, 1 - sizes[:, None])
        weight = (rank < sizes[:, None]).to(like)
        return Points(place.to(like), weight, torch.ones_like(weight[:, None]))
    if int(sizes.min()) == rows:
        points = torch.from_numpy(_rule(rows, number)[None]).to(like)
    else:
        distinct, which = np.unique(sizes.cpu().numpy(), return_inverse=True)
        tables = np.stack([_rule(int(size), number) for size in distinct])
        points = torch.from_numpy(tables[which]).to(like)
    return Points(points[:, 0], points[:, 1], points[:, 2:])


@lru_cache(maxsize=2**12)
def _rule(size: int, number: int) -> NDArray[np.float64]:
    """Return places, weights and three polynomials, ``[5, number]``, for a group of rows.

    By Golub and Welsch: the points are the eigenvalues of the recurrence of the polynomials that
    are orthonormal on equally spaced points (Gram's, or discrete Chebyshev's).
    """
    from scipy.linalg import eigh_tridiagonal  # takes longer to import than a rule to compute

    rule = np.zeros((5, number))
    if number >= size:
        rule[0, :size] = size - 1 - 2 * np.arange(size)
        rule[1, :size] = 1.0
        rule[2] = 1.0
        return rule
    degree = np.arange(1.0, number)
    recurrence = np.sqrt(degree**2 * (size**2 - degree**2) / (4 * (4 * degree**2 - 1)))
    places, vectors = eigh_tridiagonal(np.zeros(number), recurrence)
    rule[0], rule[1] = places - places[::-1], size * vectors[0] ** 2  # exactly symmetric
    highest = vectors[:0:-1][:2]
    rule[2], rule[3 : 3 + len(highest)] = 1.0, highest / vectors[0]
    return rule
