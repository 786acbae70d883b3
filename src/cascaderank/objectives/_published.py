"""What the published forms have in common: they are defined for full lists and few cascades."""

from collections.abc import Mapping

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.objectives._objective import CascadeInputs
from cascaderank.objectives._sorting import Annealed, Warmth


def check_published(name: str, *, stages: int, threshold: float | None) -> None:
    """Check that a published form is defined for the task.

    Raises:
        ConfigError: if it is not.
    """
    if stages not in (2, 3):
        raise ConfigError(
            f"published=True of '{name}' is defined for 2 and 3 stages; got {stages}. "
            "Leave published out: this library's form takes any number"
        )
    if threshold is not None:
        raise ConfigError(
            f"published=True of '{name}' is defined for a ground truth of the top k; "
            f"got threshold={threshold}"
        )


def check_as_published(name: str, given: Mapping[str, tuple[object, object]]) -> None:
    """Check that options that a published form fixes are not asked to be anything else.

    Args:
        name: of the method.
        given: of each option, what is given and what is published.

    Raises:
        ConfigError: if an option is not as published.
    """
    for option, (value, fixed) in given.items():
        if value != fixed:
            raise ConfigError(
                f"published=True of '{name}' fixes {option} at {fixed!r}; got {value!r}"
            )


def published_temperature(name: str, warmth: Warmth) -> float:
    """Return the temperature of a published form, which is one number.

    Raises:
        ConfigError: if it is annealed.
    """
    if isinstance(warmth.temperature, Annealed):
        raise ConfigError(
            f"published=True of '{name}' takes one temperature; got {warmth.temperature}"
        )
    return warmth.temperature


def check_full_lists(inputs: CascadeInputs) -> None:
    """Check that there is no padding. Waits for the device, as nothing else here does.

    Raises:
        ShapeError: if there is padding.
    """
    if not bool(inputs.mask.all()):
        raise ShapeError(
            f"published=True is defined for full lists; got {int((~inputs.mask).sum())} padded "
            "candidates. Leave published out: this library's form takes a mask"
        )
