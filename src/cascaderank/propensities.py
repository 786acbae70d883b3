"""Propensities: the range of them, and the check of those that rewards are divided by."""

from torch import Tensor

from cascaderank.errors import DataError
from cascaderank.tensors import at_least_float32

_LEAST = 1e-12
"""Lowest propensity of an exposure: one with a lower probability does not happen in any log."""

MOST = 1 + 1e-6
"""Largest value that counts as a probability: float32 may round a sum of probabilities up."""


def check_propensities(propensities: Tensor, exposed: Tensor) -> None:
    """Check the propensities of exposed candidates. Others are not read.

    Args:
        propensities: ``[batch, list]`` floating point.
        exposed: ``[batch, list]`` bool.

    Raises:
        DataError: if one is not in [1e-12, 1], with a tolerance of 1e-6 above 1; the message has
            its place.

    Examples:
        >>> import torch
        >>> check_propensities(torch.tensor([[0.0, 0.7]]), torch.tensor([[False, True]]))
        >>> check_propensities(torch.tensor([[0.0, 0.7]]), torch.tensor([[True, False]]))
        Traceback (most recent call last):
        cascaderank.errors.DataError: propensities must be from 1e-12 to 1 for exposed \
candidates; got 0 in row 0, candidate 0; ...
    """
    values = at_least_float32(propensities)  # float16 has no 1e-12: 0 would pass
    wrong = (exposed & ~((values >= _LEAST) & (values <= MOST))).nonzero()
    if len(wrong):
        row, candidate = (int(place) for place in wrong[0])
        more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
        raise DataError(
            f"propensities must be from {_LEAST:g} to 1 for exposed candidates; got "
            f"{propensities[row, candidate].item():g} in row {row:,}, candidate {candidate:,}"
            f"{more}; log the probability of each exposure, or leave the exposure out"
        )
