"""Exposures with rewards and propensities: the log of a stochastic cascade."""

from typing import Any, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cascaderank.errors import DataError, ShapeError
from cascaderank.propensities import MOST, check_propensities

Array = ArrayLike | Tensor
"""A numpy array, a tensor, or nested lists of numbers."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@final
class ExposureLog:
    """Exposures of some requests, with the probability with which each candidate was exposed.

    A candidate is whatever a propensity belongs to: an item, or an item at a position if the
    propensity, and the probability under another policy, is that of the item at that position. All
    candidates of a request are listed, also those that the policy could expose and did not:
    otherwise the share of a target policy that the log does not support is unknown.

    Args:
        rewards: ``[requests, list]``, finite where ``exposed``; ignored elsewhere, may be NaN.
        exposed: ``[requests, list]`` bool, ``True`` for an exposed candidate.
        propensities: ``[requests, list]`` in [0, 1], probability with which the logging policy
            exposes each candidate; at least 1e-12 where ``exposed``.
        mask: ``[requests, list]`` bool, ``True`` for a real candidate; default: all are.

    The arguments are attributes, as copies: float64 and bool arrays, where rewards are 0 for
    candidates that were not exposed, and propensities 0 under the mask.

    Raises:
        ShapeError: if the arrays are not matrices of one shape, or the masks are not bool.
        DataError: if there is no exposure, or a value is out of range; the message has its row.

    Examples:
        >>> log = ExposureLog(
        ...     rewards=[[1.0, 0.0]], exposed=[[True, False]], propensities=[[0.3, 0.7]]
        ... )
        >>> log.rewards.shape
        (1, 2)
        >>> ExposureLog(rewards=[[1.0]], exposed=[[True]], propensities=[[0.0]])
        Traceback (most recent call last):
        cascaderank.errors.DataError: propensities must be from 1e-12 to 1 for exposed \
candidates; got 0 in row 0, candidate 0; ...
    """

    def __init__(
        self, *, rewards: Array, exposed: Array, propensities: Array, mask: Array | None = None
    ) -> None:
        shown = _as_array(exposed)
        if shown.ndim != 2 or shown.dtype != np.bool_:
            raise ShapeError(
                "exposed must be bool [requests, list], True for an exposed candidate; "
                f"got {shown.dtype} {list(shown.shape)}"
            )
        real = np.ones_like(shown) if mask is None else _as_array(mask)
        if real.shape != shown.shape or real.dtype != np.bool_:
            raise ShapeError(
                f"mask must be bool {list(shown.shape)}, True for a real candidate; "
                f"got {real.dtype} {list(real.shape)}"
            )
        if not shown.any():
            raise DataError(
                f"a log needs at least one exposure; got none in {len(shown):,} requests; set "
                "`exposed` to True for the candidates that were exposed"
            )
        refuse(shown & ~real, shown, "exposed candidates must be real", "correct the mask")
        self.exposed: Mask = shown.copy()
        self.mask: Mask = real.copy()
        self.propensities = check_probabilities(propensities, "propensities", real)
        check_propensities(torch.from_numpy(self.propensities), torch.from_numpy(shown))
        self.rewards = matrix(rewards, "rewards", shown)

    def check_overlap(self, weights: Floats, name: str) -> None:
        """Check that a target policy could have produced some of the exposures.

        Args:
            weights: ``[requests, list]``, 0 for candidates that were not exposed.
            name: name of the policy, for the message.

        Raises:
            DataError: if all weights are 0.
        """
        if not weights.any():
            raise DataError(
                f"{name} must give some exposed candidate a positive probability; all "
                f"{int(self.exposed.sum()):,} exposed candidates have 0: the policies have no "
                "overlap, and this log cannot evaluate the policy; log with more exploration"
            )


def check_probabilities(values: Array, name: str, mask: Mask) -> Floats:
    """Return checked exposure probabilities, 0 under the mask.

    Args:
        values: ``[requests, list]``
        name: name of the argument, for messages.
        mask: ``[requests, list]`` bool.

    Raises:
        ShapeError: if the shape is not that of the mask.
        DataError: if a probability is not in [0, 1].
    """
    found = matrix(values, name, mask)
    refuse(
        (found < 0) | (found > MOST),
        found,
        f"{name} must be probabilities in [0, 1]",
        "pass the probability that the candidate is exposed, not a score or a weight",
    )
    return found


def matrix(values: Array, name: str, needed: Mask) -> Floats:
    """Return values as float64 ``[requests, list]``, 0 where they are not needed.

    Args:
        values: ``[requests, list]``
        name: name of the argument, for messages.
        needed: ``[requests, list]`` bool, where the values must be finite.

    Raises:
        ShapeError: if the shape is not that of ``needed``, or the values are no numbers.
        DataError: if a needed value is not finite.
    """
    found = _as_array(values)
    if found.shape != needed.shape or found.dtype.kind not in "biuf":
        raise ShapeError(
            f"{name} must be numbers [requests, list] = {list(needed.shape)}; "
            f"got {found.dtype} {list(found.shape)}"
        )
    filled: Floats = np.where(needed, found, 0).astype(np.float64)
    refuse(
        ~np.isfinite(filled),
        filled,
        f"{name} must be finite",
        "leave the request out, or mask the candidate",
    )
    return filled


def refuse(wrong: Mask, values: NDArray[Any], rule: str, remedy: str) -> None:
    """Raise an error that names the first wrong value, if there is one.

    Args:
        wrong: ``[requests, list]`` bool.
        values: ``[requests, list]``, to quote from.
        rule: what must hold.
        remedy: what to do.

    Raises:
        DataError: if any value is wrong.
    """
    places = np.argwhere(wrong)
    if len(places):
        row, candidate = (int(place) for place in places[0])
        value = values[row, candidate]
        more = f" (and {len(places) - 1:,} more)" if len(places) > 1 else ""
        raise DataError(
            f"{rule}; got {value:g} in row {row:,}, candidate {candidate:,}{more}; {remedy}"
        )


def _as_array(values: Array) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        if values.dtype is torch.bfloat16:  # numpy has no such type
            values = values.float()
        return np.asarray(values)
    try:
        return np.asarray(values)
    except ValueError:
        raise ShapeError(
            "expected an array [requests, list]; got lists of different lengths; pad them and pass "
            "a mask"
        ) from None
