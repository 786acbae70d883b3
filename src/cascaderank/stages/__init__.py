"""Stages: rankers that score every candidate of a request, one per file.

A stage is a ``torch.nn.Module`` built as ``Stage(schema, features, *, options...)`` that maps a
:class:`~cascaderank.batch.RequestBatch` to scores ``[batch, list]``. It reads only the features it
was built with, and the score of a candidate does not depend on the other candidates.

A stage that predicts more than one score per candidate (its probabilities of exposure and of a
click) also has a method ``domain_output``, which returns a :class:`StageOutput`. Objectives that
use it read it from ``CascadeInputs.outputs``.
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
    "SplitStage",
    "StageOutput",
    "VectorStage",
    "look_ups",
    "multiply_adds",
    "output_of",
    "prune",
]


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
    """Whether the stage can be split; some options make the parts depend on each other."""

    def request_part(self, batch: RequestBatch) -> tuple[Tensor, ...]:
        """Return tensors that depend on the requests and their histories only, ``[batch, ...]``."""

    def item_part(self, batch: RequestBatch) -> Tensor:
        """Return ``[batch, list, width]`` from the features of the candidates only."""

    def scores_of_parts(self, request: tuple[Tensor, ...], items: Tensor) -> Tensor:
        """Return the scores ``[batch, list]`` of candidates given by their part."""


def __getattr__(name: str) -> Callable[..., nn.Module]:
    return STAGES.attribute(name)


def __dir__() -> list[str]:
    return [*__all__, *{STAGES[name].__name__ for name in STAGES}]
