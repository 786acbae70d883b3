"""In which order requests are seen: a function of the seed and the epoch alone."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal["shuffled", "days"]
"""``"shuffled"``: by chance. ``"days"``: days (UTC) one after another, by chance inside each."""

Rows = NDArray[np.int64]


def ordered(
    rows: Rows, *, seed: int | None, epoch: int, days: NDArray[np.int32] | None = None
) -> Rows:
    """Return the rows in the order of an epoch.

    Args:
        rows: in the log.
        seed: of the order; ``None`` for the order of ``rows``, inside each day if there are days.
        epoch: counted from 0; each has an order of its own.
        days: of all rows of the log; given, earlier days come first.

    Returns:
        Each of ``rows`` once.

    Examples:
        >>> days = np.array([9, 8, 9, 8], dtype=np.int32)
        >>> ordered(np.arange(4), seed=None, epoch=0, days=days).tolist()
        [1, 3, 0, 2]

    Source: this project; learning day by day is what LCRON's paper does on RecFlow.
    """
    if seed is not None:
        rows = rows[np.random.default_rng([seed, epoch]).permutation(len(rows))]
    return rows if days is None else rows[days[rows].argsort(kind="stable")]
