"""What got how far, as labels: the levels of the log, or the numbers that are given to them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cascaderank.data.labels import Relabelling
from cascaderank.errors import ConfigError
from cascaderank.objectives._objective import CascadeInputs


def check_z(z: Sequence[float] | None) -> None:
    """Check the numbers of levels.

    Raises:
        ConfigError: if there are none, or they are negative or fall.
    """
    if z is not None:
        try:
            Relabelling(z=tuple(z))
        except ValueError:
            raise ConfigError(
                f"z must be numbers of at least 0 that never fall, one for each level; got {[*z]}"
            ) from None


def relabelled(inputs: CascadeInputs, z: Sequence[float] | None) -> Tensor:
    """Return ``[batch, list]``: z of each level, or the level; without levels, the label.

    Raises:
        ConfigError: if z is given and the batch has no levels, or, where looking costs no wait for
            a device, a level without a number.
    """
    if inputs.levels is None:
        if z is not None:
            raise ConfigError("z gives levels their labels, and the batch has no levels")
        return inputs.labels
    levels = inputs.levels.masked_fill(~inputs.mask, 0)
    if z is None:
        return levels
    highest = int(levels.max()) if levels.device.type == "cpu" and levels.numel() else 0
    if highest >= len(z):
        raise ConfigError(
            f"there are levels up to {highest}, so z must be {highest + 1} numbers; got {[*z]}"
        )
    return torch.tensor(z, dtype=torch.float32, device=levels.device)[levels]
