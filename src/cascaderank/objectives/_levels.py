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
