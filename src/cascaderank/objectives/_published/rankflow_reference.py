"""Reference form of RankFlow: cut-offs and regression of the published code."""

from torch import Tensor

from cascaderank.errors import ShapeError
from cascaderank.objectives._objective import CascadeInputs
from cascaderank.objectives._published.preconditions import check_full_lists
from cascaderank.tensors import masked_mean, reduce_lists

RANKFLOW_CUTS = {2: (30,), 3: (40, 30)}
"""By number of stages: how many candidates each stage but the last passes on."""

RANKFLOW_TUTOR_CUTS = {2: (10,), 3: (30, 20)}
"""By number of stages: how many of those the next stage is assumed to keep."""


def check_lists_of_rankflow(inputs: CascadeInputs, *, shortest: int) -> None:
    """Check that no candidate is padding and that lists have at least ``shortest`` candidates.

    Raises:
        ShapeError: if they do not.
    """
    check_full_lists(inputs)
    if inputs.scores.shape[-1] < shortest:
        raise ShapeError(
            f"published=True of 'rankflow' is defined for lists of at least "
            f"{shortest} candidates; got scores {list(inputs.scores.shape)}"
        )


def squared_distance(scores: Tensor, tutor: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared distance of scores from those of the tutor, averaged over lists."""
    return reduce_lists(masked_mean((tutor - scores).square(), mask), "mean")
