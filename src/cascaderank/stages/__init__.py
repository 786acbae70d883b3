"""Stages: rankers that score every candidate of a request, one per file.

A stage is a ``torch.nn.Module`` built as ``Stage(schema, features, *, options...)`` that turns a
:class:`~cascaderank.batch.RequestBatch` into scores ``[batch, list]``. It may read nothing but the
features it was given, and nothing of one candidate may reach the score of another.

A stage that says more than one score of a candidate (how likely it is to be exposed, to be
clicked) has a method ``domain_output`` too, which returns a :class:`StageOutput`; an objective that
knows what to do with it finds it in ``CascadeInputs.outputs``.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.registry import Registry
from cascaderank.stages._cost import LookUps, MultiplyAdds, look_ups, multiply_adds
from cascaderank.stages._output import Chance, DomainStage, Score, StageOutput, output_of
from cascaderank.stages._prune import Prunable, Pruned, prune

STAGES: Registry[Callable[..., nn.Module]] = Registry("stage", __name__)


__all__ = [
    "STAGES",
    "Chance",
    "DomainStage",
    "LookUps",
    "MultiplyAdds",
    "Prunable",
    "Pruned",
    "Score",
    "StageOutput",
    "VectorStage",
    "look_ups",
    "multiply_adds",
    "output_of",
    "prune",
]


@runtime_checkable
class VectorStage(Protocol):
    """A stage whose score is the dot product of two vectors: it can search all items.

    ``two_tower`` and ``matrix_factorisation`` are.
    """

    def request_vectors(self, batch: RequestBatch) -> Tensor:
        """Return one vector of each request, ``[batch, dim]``."""

    def item_vectors(self, batch: RequestBatch) -> Tensor:
        """Return one of each candidate, ``[batch, list, dim]``; reads no feature of requests."""
