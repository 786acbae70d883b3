"""Checks of the options of losses. Each raises a :class:`~cascaderank.errors.ConfigError`."""

import math

from cascaderank.errors import ConfigError, did_you_mean


def check_choice(value: str, name: str, *, choices: tuple[str, ...]) -> None:
    """Check that an option is one of a fixed set of words.

    Raises:
        ConfigError: if it is not.
    """
    if value not in choices:
        raise ConfigError(
            f"{name} must be one of {', '.join(choices)}; "
            f"got {value!r}{did_you_mean(str(value), choices)}"
        )


def check_flag(value: object, name: str) -> None:
    """Check that an option is ``True`` or ``False``.

    Raises:
        ConfigError: if it is not.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be True or False; got {value!r}")


def check_threshold(threshold: float | None) -> None:
    """Check that a label threshold is a finite number, or not given.

    No label would reach NaN, and the ground truth of every list would be empty without an error.

    Raises:
        ConfigError: if it is NaN or infinite.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise ConfigError(f"threshold must be a finite number; got {threshold}")
