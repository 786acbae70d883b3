"""Hard concrete gates: trainable gates in [0, 1] that can become exactly 0."""

import math
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.errors import ConfigError


@final
class HardConcrete(nn.Module):
    r"""Gates that are 0 or 1 with positive probability and are trained by gradient descent.

    .. math::
        s = \sigma\left(\frac{\log u - \log(1 - u) + \log\alpha}{\beta}\right), \qquad
        z = \min(1, \max(0, s(\zeta - \gamma) + \gamma)), \qquad u \sim U(0, 1)

    In training every call samples new gates. Otherwise they are
    :math:`\min(1, \max(0, \sigma(\log\alpha)(\zeta - \gamma) + \gamma))`, so that a gate trained to
    close is exactly 0, and the part of the network behind it can be removed.

    Args:
        shape: shape of the gates.
        beta: temperature; a lower value is closer to a Bernoulli variable.
        gamma: lower end of the stretched range, below 0.
        zeta: upper end of the stretched range, above 1.

    Raises:
        ConfigError: if a number is out of range.

    Examples:
        >>> gates = HardConcrete(3)
        >>> with torch.no_grad():
        ...     _ = gates.log_alpha.copy_(torch.tensor([-4.0, 0.0, 4.0]))
        >>> gates.eval()()
        tensor([0.0000, 0.5000, 1.0000], grad_fn=<ClampBackward1>)
        >>> gates.open_probability().detach()
        tensor([0.0831, 0.8318, 0.9963])

    Source: Louizos et al. 2018 (arXiv 1712.01312), equations 10 to 13.
    """

    def __init__(
        self, *shape: int, beta: float = 2 / 3, gamma: float = -0.1, zeta: float = 1.1
    ) -> None:
        super().__init__()
        if not 0 < beta < math.inf:
            raise ConfigError(f"beta must be a positive number; got {beta}")
        if not -math.inf < gamma < 0:
            raise ConfigError(
                f"gamma must be below 0, or no gate is ever exactly 0 and an L0 penalty has "
                f"no effect; got {gamma}"
            )
        if not 1 < zeta < math.inf:
            raise ConfigError(
                f"zeta must be above 1, or no gate is ever exactly 1 and open gates shrink their "
                f"input; got {zeta}"
            )
        self.log_alpha = nn.Parameter(torch.zeros(shape))
        self._beta, self._gamma, self._zeta = beta, gamma, zeta

    def forward(self) -> Tensor:
        """Return the gates in [0, 1]: sampled in training, deterministic otherwise."""
        if self.training:
            noise = torch.rand_like(self.log_alpha).logit()
            soft = torch.sigmoid((noise + self.log_alpha) / self._beta)
        else:
            soft = torch.sigmoid(self.log_alpha)
        return torch.clamp(soft * (self._zeta - self._gamma) + self._gamma, 0, 1)

    def open_probability(self) -> Tensor:
        """Return the probability that each gate is nonzero in training.

        Their sum is the expected L0 norm.
        """
        return torch.sigmoid(self.log_alpha - self._beta * math.log(-self._gamma / self._zeta))
