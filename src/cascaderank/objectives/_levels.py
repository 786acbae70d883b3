"""Levels of the logged cascade as labels: the levels themselves, or numbers assigned to them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cascaderank.data.labels import Relabelling
from cascaderank.errors import ConfigError
from cascaderank.objectives._objective import CascadeInputs


def check_z(z: Sequence[float] | None) -> None:
    """Check the numbers that are assigned to levels.

    Raises:
        ConfigError: if ``z`` is empty, or has a negative or a decreasing number.
    """
    if z is not None:
        try:
            Relabelling(z=tuple(z))
        except ValueError:
            raise ConfigError(
                f"z must be non-negative, non-decreasing numbers, one for each level; got {[*z]}"
            ) from None


def default_entry_levels(stages: int) -> tuple[int, ...]:
    """Return the lowest level that reached each stage, in a log with two more levels than stages.

    Examples:
        >>> default_entry_levels(2), default_entry_levels(3)
        ((0, 2), (0, 1, 3))
    """
    return tuple(t * (stages + 2) // stages for t in range(stages))


def check_entry_levels(levels: Sequence[int], *, stages: int) -> None:
    """Check the lowest level that reached each stage.

    Raises:
        ConfigError: if their number is not that of the stages, or they are negative or decrease.
    """
    if len(levels) != stages or min(levels) < 0 or list(levels) != sorted(levels):
        raise ConfigError(
            f"entry_levels must be {stages} numbers of at least 0, one per stage, non-decreasing; "
            f"got {list(levels)}"
        )


def relabelled(inputs: CascadeInputs, z: Sequence[float] | None) -> Tensor:
    """Return ``[batch, list]``: ``z`` of each level, or the level; without levels, the label.

    Raises:
        ConfigError: if ``z`` is given and the batch has no levels, or if a level has no number;
            the latter is checked only where it needs no synchronisation with a device.
    """
    if inputs.levels is None:
        if z is not None:
            raise ConfigError("z assigns labels to levels, and the batch has no levels")
        return inputs.labels
    levels = inputs.levels.masked_fill(~inputs.mask, 0)
    if z is None:
        return levels
    highest = int(levels.max()) if levels.device.type == "cpu" and levels.numel() else 0
    if highest >= len(z):
        raise ConfigError(
            f"z must have one value per level, {highest + 1} for levels up to {highest}; got {[*z]}"
        )
    return torch.tensor(z, dtype=torch.float32, device=levels.device)[levels]
