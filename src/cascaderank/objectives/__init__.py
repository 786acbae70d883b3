"""Objectives: what a cascade is trained for. One method per file, a method is a list of terms."""

from cascaderank.objectives._build import OBJECTIVES, build_objective
from cascaderank.objectives._objective import CascadeInputs, Objective, ObjectiveOutput, Term

__all__ = [
    "OBJECTIVES",
    "CascadeInputs",
    "Objective",
    "ObjectiveOutput",
    "Term",
    "build_objective",
]
