"""Reference form of FS-LambdaLoss."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from cascaderank.losses import Preferences, best_dcg, ndcg_lambdas, pessimistic_rank
from cascaderank.objectives._objective import CascadeInputs
from cascaderank.objectives._published.list_lengths import mean_over_lists
from cascaderank.tensors import at_least_float32

_CUT = 30
"""Cut-off of the ranking of every stage in the published code."""


@dataclass(frozen=True, kw_only=True)
class FsLambdaLossReference:
    """The term of one stage: a sum over ordered pairs, each counted twice; labels are gains."""

    stage: int

    def loss(self, inputs: CascadeInputs) -> Tensor:
        return mean_over_lists(inputs, self._loss)

    def _loss(self, inputs: CascadeInputs) -> Tensor:
        scores, pairs = inputs.scores[self.stage], Preferences(inputs.labels, inputs.mask)
        labels = inputs.labels.to(at_least_float32(scores).dtype)
        gain = labels / best_dcg(labels)[..., None]
        rank = pessimistic_rank(scores, inputs.labels, inputs.mask)
        weigh = partial(ndcg_lambdas, m=_CUT)
        return 2 * pairs.costs(scores, gain, rank, weigh=weigh).mean()
