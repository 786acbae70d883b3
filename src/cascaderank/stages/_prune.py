"""Leave out of a trained stage what its closed gates made useless."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

from torch import nn

from cascaderank.errors import ConfigError
from cascaderank.schema import Feature, Schema
from cascaderank.stages._cost import MultiplyAdds, multiply_adds


@runtime_checkable
class Prunable(Protocol):
    """A stage of which training may show that parts are not needed."""

    def pruned(self) -> tuple[nn.Module, dict[str, Any]]:
        """Return a smaller copy with the same scores, and the options that it is built with."""


@final
@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A smaller stage with the same scores, and what it saves."""

    stage: nn.Module
    """Scores as the other does in evaluation mode; cannot be trained as a whole any more."""
    parameters: tuple[int, int]
    """Before and after."""
    multiply_adds: tuple[MultiplyAdds, MultiplyAdds]
    """Before and after; before, with all towers that the score needs."""
    options: Mapping[str, Any]
    """Of the stage, by name: those to build the smaller one with that differ."""


def prune(stage: nn.Module, features: Schema | Sequence[Feature], *, history: int = 50) -> Pruned:
    """Make the network that serves of one that was trained with gates.

    What is behind a closed gate is left out, and so is what only other outputs than the score
    read. The stage itself is left as it is.

    Args:
        stage: a trained one that can be pruned, such as ``ecmm``.
        features: those the stage reads, to count by.
        history: entries of every history, to count by.

    Raises:
        ConfigError: if the stage has nothing to prune, or was pruned already.

    Source: this project.
    """
    if not isinstance(stage, Prunable):
        raise ConfigError(
            f"a stage of type {type(stage).__name__} has no gates that could be closed; "
            "'ecmm' has; 'cold' and 'fscd' are made smaller by select_fields and reduced, or by "
            "`cascaderank select`"
        )
    smaller, options = stage.pruned()
    sizes = [sum(p.numel() for p in s.parameters()) for s in (stage, smaller)]
    costs = [multiply_adds(s, features, history=history) for s in (stage, smaller)]
    return Pruned(
        stage=smaller,
        parameters=(sizes[0], sizes[1]),
        multiply_adds=(costs[0], costs[1]),
        options=options,
    )
