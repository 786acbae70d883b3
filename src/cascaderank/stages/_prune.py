"""Pruning: remove the parts of a trained stage that its closed gates disconnect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

from torch import nn

from cascaderank.errors import ConfigError
from cascaderank.schema import Feature, Schema
from cascaderank.stages._cost import MultiplyAdds, multiply_adds


@runtime_checkable
class Prunable(Protocol):
    """A stage with gates that training may close."""

    def pruned(self) -> tuple[nn.Module, dict[str, Any]]:
        """Return a smaller copy with the same scores, and the options to build it with."""


@final
@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A smaller stage with the same scores, and its size compared with the original."""

    stage: nn.Module
    """The pruned stage; its scores equal those of the original in evaluation mode. It can no
    longer be trained as a whole."""
    parameters: tuple[int, int]
    """Number of parameters before and after."""
    multiply_adds: tuple[MultiplyAdds, MultiplyAdds]
    """Multiply-adds before and after; before, with all towers that the score needs."""
    options: Mapping[str, Any]
    """Options by name with which the smaller stage is built, where they differ."""


def prune(stage: nn.Module, features: Schema | Sequence[Feature], *, history: int = 50) -> Pruned:
    """Return the network to serve for a stage that was trained with gates.

    Parts behind a closed gate are removed, and so are parts that only outputs besides the score
    use. The stage itself is not modified.

    Args:
        stage: a trained stage that can be pruned, such as ``ecmm``.
        features: features that the stage reads, to count multiply-adds.
        history: number of entries of every history, to count multiply-adds.

    Raises:
        ConfigError: if the stage has no gates, or is already pruned.

    Source: this project.
    """
    if not isinstance(stage, Prunable):
        raise ConfigError(
            f"a stage to prune must have gates between its sub-networks, such as 'ecmm'; got a "
            f"{type(stage).__name__}. For 'cold' and 'fscd' use select_fields and reduced, or "
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
