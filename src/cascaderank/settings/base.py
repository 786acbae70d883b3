"""The base class of everything that is read from a file and checked."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Immutable, validated record. Unknown keys are refused.

    Examples:
        >>> class Tuning(Settings):
        ...     trials: int = 4
        >>> Tuning(trials=8).trials
        8
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class Choice(Settings):
    """A registered component, given by its name with its options beside the name.

    Subclasses declare the key that holds the name. All other keys are options.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    @property
    def options(self) -> dict[str, Any]:
        """Keys other than the declared fields, by name."""
        return dict(self.model_extra or {})
