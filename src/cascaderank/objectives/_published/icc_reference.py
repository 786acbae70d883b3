"""Reference form of ICC."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from cascaderank.objectives._objective import CascadeInputs
from cascaderank.objectives._published.list_lengths import check_shortest, mean_over_lists
from cascaderank.tensors import at_least_float32

ICC_TEMPERATURE = 1e-3
"""Temperature of the gates in the published code."""

_CUTS = {2: (30, 30), 3: (40, 30, 30)}
"""By number of stages: the cut-off of each stage, the last one included."""

_WEIGHTS = {2: (1, 1), 3: (1, 2, 4)}
"""By number of stages: factors of the scores of each stage."""


def icc_reference(inputs: CascadeInputs) -> Tensor:
    """Return the term of the published code: each pair once, in the order of the list."""
    check_shortest(inputs, name="icc", shortest=_CUTS[len(inputs.scores)][0])
    return mean_over_lists(inputs, _merged_ranknet)


def _merged_ranknet(inputs: CascadeInputs) -> Tensor:
    scores = at_least_float32(inputs.scores)
    count, length = len(scores), scores.shape[-1]
    cuts, weights = _CUTS[count], _WEIGHTS[count]
    passed = [
        ((s - s.topk(cut, dim=-1).values[..., -1:]) / ICC_TEMPERATURE).sigmoid()
        for s, cut in zip(scores, cuts, strict=True)
    ]
    merged, reached = torch.zeros_like(scores[0]), torch.ones_like(scores[0])
    for t, weight in enumerate(weights):
        share = passed[t] if t == count - 1 else 1 - passed[t]
        merged = merged + weight * reached * share * scores[t]
        reached = reached * passed[t]
    margin = merged[..., :, None] - merged[..., None, :]
    preferred = inputs.labels[..., :, None] > inputs.labels[..., None, :]
    cost = softplus(margin) - preferred * margin
    return (cost.triu(1).sum((-1, -2)) / length**2).mean()
