"""Length of training: batch size, epochs and patience where settings leave them to the library.

The defaults count optimizer steps, since the same number of epochs is too few steps for a small log
and needless time for a large one. They are constants of this module; ``docs/training.md`` reports
the measurements that they are based on.
"""

from dataclasses import dataclass
from typing import final

from cascaderank.settings.run import TrainSettings

_BATCH_SIZES = {256: 500, 128: 500, 64: 16, 32: 16, 16: 16, 8: 16, 4: 0}
"""Batch sizes, largest first, each with the fewest batches per epoch for which it is chosen."""
_STEPS = 3000  # at least, within the limits of epochs
_EPOCHS = (10, 60)
_PATIENCE_EPOCHS, _PATIENCE_STEPS = 3, 150


@final
@dataclass(frozen=True, kw_only=True)
class TrainingLength:
    """Limits of training, in epochs."""

    epochs: int
    """Maximum number of passes over the training requests, at least 1."""
    patience: int
    """Number of epochs without a better validation value after which training ends."""


def training_length(settings: TrainSettings, batches: int) -> TrainingLength:
    """Return the limits of training, with numbers in place of ``"auto"``.

    Without a setting, epochs are as many as 3,000 steps need, from 10 to 60; the patience is at
    least 3 epochs and 150 steps.

    Args:
        settings: settings of training.
        batches: number of batches in an epoch, at least 1.

    Examples:
        >>> training_length(TrainSettings(), batches=16)
        TrainingLength(epochs=60, patience=10)
        >>> training_length(TrainSettings(), batches=2500)
        TrainingLength(epochs=10, patience=3)
        >>> training_length(TrainSettings(epochs=10), batches=100)
        TrainingLength(epochs=10, patience=3)

    Source: this project.
    """
    fewest, most = _EPOCHS
    epochs = min(most, max(fewest, -(-_STEPS // batches)))
    if settings.epochs != "auto":
        epochs = settings.epochs
    patience = max(_PATIENCE_EPOCHS, -(-_PATIENCE_STEPS // batches))
    if settings.patience != "auto":
        patience = settings.patience
    return TrainingLength(epochs=epochs, patience=patience)


def batch_size_of(settings: TrainSettings, requests: int) -> int:
    """Return the number of requests per step, with a number in place of ``"auto"``.

    Without a setting, it is 256 or 128 with at least 500 batches per epoch, or else the largest of
    64, 32, 16, 8 and 4 with at least 16 batches per epoch, or 4.

    Args:
        settings: settings of training.
        requests: number of training requests.

    Examples:
        >>> [batch_size_of(TrainSettings(), n) for n in (33, 300, 20_000, 200_000)]
        [4, 16, 64, 256]
        >>> batch_size_of(TrainSettings(batch_size=128), 33)
        128

    Source: this project.
    """
    if settings.batch_size != "auto":
        return settings.batch_size
    return next(size for size, batches in _BATCH_SIZES.items() if size * batches <= requests)
