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
