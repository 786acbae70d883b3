"""Schedule of the learning rate: a linear warm-up, then a constant rate or a decay to 0."""

import math
from typing import Literal, final, get_args

from cascaderank.errors import ConfigError
from cascaderank.settings.run import TrainSettings
from cascaderank.settings.schedule import Timetable
from cascaderank.training.optimizer import Optimizers

Decay = Literal["cosine", "linear", "none"]


def learning_rate_factor(
    step: int, *, steps: int, decay: Decay = "none", warmup: int | float = 0
) -> float:
    r"""Return the factor of the learning rate at a step.

    With w steps of warm-up, and N steps in total, the factor of step t is

    .. math:: \frac{t + 1}{w + 1} \text{ if } t < w, \qquad
              d\left(\frac{t - w}{N - w}\right) \text{ otherwise},

    where d(x) is 1 for ``"none"``, 1 - x for ``"linear"``, and (1 + cos(pi x)) / 2 for
    ``"cosine"``. No step has rate 0: the warm-up starts at 1 / (w + 1), and the decay would reach 0
    at step N.

    Args:
        step: number of completed steps t, from 0 to ``steps - 1``.
        steps: number of steps N.
        decay: form of the decay.
        warmup: number of steps of warm-up w, less than ``steps``; or, as a ``float``, their
            fraction of all steps, in [0, 1), rounded to whole steps.

    Raises:
        ConfigError: if ``decay`` is another word, or the warm-up is not shorter than the run.

    Examples:
        >>> [learning_rate_factor(t, steps=6, decay="linear", warmup=2) for t in range(6)]
        [0.3333333333333333, 0.6666666666666666, 1.0, 0.75, 0.5, 0.25]

    Source: ``LinearLR``, ``CosineAnnealingLR`` and ``SequentialLR`` of :mod:`torch.optim`, as a
    function of the step. It has no state to restore, so a resumed run has the same bits.
    """
    if isinstance(warmup, float):
        warmup = min(round(warmup * steps), steps - 1)
    if decay not in get_args(Decay) or not 0 <= warmup < steps:
        raise ConfigError(
            f"expected decay to be one of {', '.join(get_args(Decay))} and warmup from 0 to "
            f"{steps - 1}; got {decay!r} and {warmup}"
        )
    if step < warmup:
        return (step + 1) / (warmup + 1)
    completed = (step - warmup) / (steps - warmup)
    if decay == "none":
        return 1.0
    return 1 - completed if decay == "linear" else (1 + math.cos(math.pi * completed)) / 2


@final
class LearningRate:
    """Sets the learning rate of all parameter groups before each step.

    The rate of a group is its own at the start, multiplied by :func:`learning_rate_factor` of the
    phase of the training schedule, or of all steps if the phases repeat.

    Args:
        optimizer: optimizer with the rates at the start, before its state is restored.
        timetable: phases of the run.
        settings: settings of training, with decay and warm-up.

    Raises:
        ConfigError: if the warm-up is not shorter than each phase.
    """

    def __init__(
        self, optimizer: Optimizers, timetable: Timetable, settings: TrainSettings
    ) -> None:
        self._optimizer, self._timetable, self._settings = optimizer, timetable, settings
        self._at_start = [float(group["lr"]) for group in optimizer.param_groups]
        warmup, shortest = settings.warmup, min(timetable.lengths)
        if isinstance(warmup, int) and 0 < warmup >= shortest:
            raise ConfigError(
                f"train.warmup must be less than the {shortest} steps of training, or of the "
                f"shortest phase of train.schedule; got {warmup} steps; lower train.warmup, or set "
                "a fraction such as 0.1"
            )

    def set(self, step: int) -> None:
        """Set the rates of a step.

        Args:
            step: number of completed training steps.
        """
        completed, steps = self._timetable.position_at(step)
        factor = learning_rate_factor(
            completed, steps=steps, decay=self._settings.decay, warmup=self._settings.warmup
        )
        # Groups are looked up at each step: restoring a checkpoint replaces them.
        for group, rate in zip(self._optimizer.param_groups, self._at_start, strict=True):
            group["lr"] = rate * factor
