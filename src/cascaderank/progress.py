"""Progress reporting: the interface that long computations report to.

The command line draws progress bars from it.
"""

from typing import Protocol, final


class Progress(Protocol):
    """Receives the progress of tasks; a task may start other tasks before it stops."""

    def start(self, what: str, total: int) -> None:
        """Start a task inside the current one.

        Args:
            what: name of the task, such as ``"evaluating"``.
            total: number of steps.
        """

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Report completed steps of the current task.

        Args:
            steps: number of steps completed since the last call.
            note: short text on the current state, such as the loss; empty to keep the last one.
        """

    def grow(self, steps: int) -> None:
        """Increase the total number of steps of the current task by ``steps``."""

    def stop(self, note: str = "") -> None:
        """End the current task.

        Args:
            note: short text on the result; may be empty.
        """


@final
class Silent:
    """Progress reporter that ignores all calls."""

    def start(self, what: str, total: int) -> None:
        """Do nothing."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Do nothing."""

    def grow(self, steps: int) -> None:
        """Do nothing."""

    def stop(self, note: str = "") -> None:
        """Do nothing."""
