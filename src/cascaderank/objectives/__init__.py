"""Objectives: training criteria for cascades, one method per file, each a list of terms."""

from collections.abc import Callable

from cascaderank.objectives._annealed_weight import AnnealedWeight
from cascaderank.objectives._build import OBJECTIVES, build_objective
from cascaderank.objectives._objective import CascadeInputs, Objective, ObjectiveOutput, Term
from cascaderank.objectives._sorting import Annealed, Temperature

__all__ = [
    "OBJECTIVES",
    "Annealed",
    "AnnealedWeight",
    "CascadeInputs",
    "Objective",
    "ObjectiveOutput",
    "Temperature",
    "Term",
    "build_objective",
]


def __getattr__(name: str) -> Callable[..., Objective]:
    return OBJECTIVES.attribute(name)


def __dir__() -> list[str]:
    return [*__all__, *(f"{name}_objective" for name in OBJECTIVES)]
