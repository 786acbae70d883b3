# Written by tools/generate.py from the modules of this package: do not edit.
from collections.abc import Callable
from typing import Protocol, runtime_checkable
from torch import Tensor, nn
from cascaderank.batch import RequestBatch as RequestBatch
from cascaderank.registry import Registry as Registry
from cascaderank.stages._cost import LookUps as LookUps
from cascaderank.stages._cost import MultiplyAdds as MultiplyAdds
from cascaderank.stages._cost import look_ups as look_ups
from cascaderank.stages._cost import multiply_adds as multiply_adds
from cascaderank.stages._output import Chance as Chance
from cascaderank.stages._output import DomainStage as DomainStage
from cascaderank.stages._output import Score as Score
from cascaderank.stages._output import StageOutput as StageOutput
from cascaderank.stages._output import output_of as output_of
from cascaderank.stages._prune import Prunable as Prunable
from cascaderank.stages._prune import Pruned as Pruned
from cascaderank.stages._prune import prune as prune
STAGES: Registry[Callable[..., nn.Module]]
@runtime_checkable
class VectorStage(Protocol):
    """A stage whose score is the dot product of two vectors, so that it can search all items.

    ``two_tower`` and ``matrix_factorisation`` are such stages.
    """

    def request_vectors(self, batch: RequestBatch) -> Tensor:
        """Return one vector per request, ``[batch, dim]``."""

    def item_vectors(self, batch: RequestBatch) -> Tensor:
        """Return one vector per candidate, ``[batch, list, dim]``, from item features only."""
@runtime_checkable
class SplitStage(Protocol):
    """A stage whose score is a function of a part of the request and a part of the candidate.

    Parts of candidates do not depend on the request and can be computed in advance, such as the
    candidates' half of the first layer of a perceptron. Scores computed from the parts are those of
    calling the stage, up to the rounding of sums in another order.
    """
    splits: bool
    'Whether the stage can be split; some options make the parts depend on each other.'

    def request_part(self, batch: RequestBatch) -> tuple[Tensor, ...]:
        """Return tensors that depend on the requests and their histories only, ``[batch, ...]``."""

    def item_part(self, batch: RequestBatch) -> Tensor:
        """Return ``[batch, list, width]`` from the features of the candidates only."""

    def scores_of_parts(self, request: tuple[Tensor, ...], items: Tensor) -> Tensor:
        """Return the scores ``[batch, list]`` of candidates given by their part."""
from cascaderank.stages.boosted_trees import BoostedTrees as BoostedTrees
from cascaderank.stages.cold import COLD as COLD
from cascaderank.stages.din import DIN as DIN
from cascaderank.stages.ecm import ECM as ECM
from cascaderank.stages.ecmm import ECMM as ECMM
from cascaderank.stages.esmm import ESMM as ESMM
from cascaderank.stages.fscd import FSCD as FSCD
from cascaderank.stages.linear import Linear as Linear
from cascaderank.stages.matrix_factorisation import MatrixFactorisation as MatrixFactorisation
from cascaderank.stages.mlp import MLP as MLP
from cascaderank.stages.two_tower import TwoTower as TwoTower
