"""Preconditions of the reference forms: two or three stages, fixed options."""

from collections.abc import Mapping

from cascaderank.errors import ConfigError
from cascaderank.objectives._sorting import Annealed, TemperatureSchedule


def check_published(name: str, *, stages: int, threshold: float | None) -> None:
    """Check that a reference form is defined for the number of stages and the ground truth.

    Raises:
        ConfigError: if it is not.
    """
    if stages not in (2, 3):
        raise ConfigError(
            f"published=True of '{name}' is defined for 2 and 3 stages; got {stages}. "
            "Omit published: this library's form takes any number"
        )
    if threshold is not None:
        raise ConfigError(
            f"published=True of '{name}' is defined for a ground truth of the top k; "
            f"got threshold={threshold}"
        )


def check_as_published(name: str, options: Mapping[str, tuple[object, object]]) -> None:
    """Check that the options that a reference form fixes have their published values.

    Args:
        name: registered name of the objective.
        options: by name, the value that was passed and the published value.

    Raises:
        ConfigError: if an option differs from the published value.
    """
    for option, (value, fixed) in options.items():
        if value != fixed:
            raise ConfigError(
                f"published=True of '{name}' fixes {option} at {fixed!r}; got {value!r}"
            )


def published_temperature(name: str, schedule: TemperatureSchedule) -> float:
    """Return the temperature of a reference form, which must be constant.

    Raises:
        ConfigError: if the temperature is annealed.
    """
    if isinstance(schedule.temperature, Annealed):
        raise ConfigError(
            f"published=True of '{name}' takes one temperature; got {schedule.temperature}"
        )
    return schedule.temperature
