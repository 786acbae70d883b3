"""Exponential moving average of the weights of a cascade over the steps of training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cascaderank.errors import ConfigError


@final
class WeightAverage:
    r"""Average the parameters of a cascade over the steps of training.

    With the weights :math:`w_t` after step t, counted from 1, the average is

    .. math::
        \bar w_1 = w_1, \qquad \bar w_{t+1} = d_t \bar w_t + (1 - d_t)\, w_{t+1}, \qquad
        d_t = \min\left(d, \frac{1 + t}{10 + t}\right)

    The decay rises to :math:`d` with the number of steps, so that the average soon forgets the
    weights of the first steps; at step t it is over some t/9 steps, at most 1 / (1 - d). The steps
    of all stages count, also of those that a phase of the schedule freezes.

    Parameters only: buffers, and the trees of boosted trees, are those of the last step. The
    average is a copy of all parameters, in their precision and on their device, which each step
    reads and writes as a whole, large embedding tables too.

    Args:
        cascade: cascade to average, with the weights of the last step.
        decay: decay :math:`d` in (0, 1); ``None`` for no average: no method has an effect then.

    Raises:
        ConfigError: if the cascade has no parameters.

    Examples:
        >>> import torch
        >>> cascade = nn.Linear(1, 1, bias=False)
        >>> average = WeightAverage(cascade, 0.5)
        >>> for weight in (1.0, 2.0, 3.0):
        ...     _ = cascade.weight.data.fill_(weight)
        ...     average.update()
        >>> with average.applied():
        ...     print(f"{cascade.weight.item():.3f}")
        2.705
        >>> cascade.weight.item()
        3.0

    Source: Polyak and Juditsky 1992, with exponential weights; :mod:`torch.optim.swa_utils`; the
    decay of the first steps is that of TensorFlow's ``ExponentialMovingAverage``.
    """

    def __init__(self, cascade: nn.Module, decay: float | None) -> None:
        self._weights = nn.ParameterList(cascade.parameters())
        self._average: AveragedModel | None = None
        if decay is None:
            return
        if not len(self._weights):
            raise ConfigError(
                "train.average needs weights, and no stage has any: boosted trees are not "
                "averaged; leave train.average out"
            )

        def move(averages: Any, weights: Any, _: Tensor | int) -> None:
            t = int(average.n_averaged)  # this one is on the CPU; reading it does not wait
            ema = get_ema_multi_avg_fn(min(decay, (1 + t) / (10 + t)))  # type: ignore[no-untyped-call]
            ema(averages, weights, t)

        self._average = average = AveragedModel(self._weights, multi_avg_fn=move)

    def update(self) -> None:
        """Include the present weights of the cascade in the average."""
        if self._average is not None:
            self._average.update_parameters(self._weights)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the cascade the average weights, and its own again afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def restart(self) -> None:
        """Give the cascade the average weights, and start a new average at the next step."""
        self._swap()
        if self._average is not None:
            self._average.n_averaged.zero_()

    def modules(self) -> dict[str, nn.Module]:
        """Return the module whose state is in a checkpoint, by name; none without an average."""
        return {} if self._average is None else {"average": self._average}

    def _swap(self) -> None:
        if self._average is None or not self._average.n_averaged:
            return
        for own, average in zip(self._weights, self._average.parameters(), strict=True):
            own.data, average.data = average.data, own.data  # no third copy of large tables
