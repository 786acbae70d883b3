"""Base classes of all settings that are read from a file and validated."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Immutable, validated record; unknown keys are errors.

    Examples:
        >>> class Tuning(Settings):
        ...     trials: int = 4
        >>> Tuning(trials=8).trials
        8
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class Choice(Settings):
    """Name and options of a registered component, in one table.

    Subclasses declare the key of the name; all other keys are options of the component.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """Keys other than the declared fields, by name."""
        return dict(self.model_extra or {})
