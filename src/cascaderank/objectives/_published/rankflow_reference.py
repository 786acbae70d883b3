"""Reference form of RankFlow: cut-offs and regression of the published code."""

from torch import Tensor

from cascaderank.tensors import masked_mean, reduce_lists

RANKFLOW_CUTS = {2: (30,), 3: (40, 30)}
"""By number of stages: how many candidates each stage but the last passes on."""

RANKFLOW_TUTOR_CUTS = {2: (10,), 3: (30, 20)}
"""By number of stages: how many of those the next stage is assumed to keep."""


def squared_distance(scores: Tensor, tutor: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared distance of scores from those of the tutor, averaged over lists."""
    return reduce_lists(masked_mean((tutor - scores).square(), mask), "mean")
