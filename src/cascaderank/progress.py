"""How long work tells how far it is; the command line draws bars from it."""

from typing import Protocol, final


class Progress(Protocol):
    """Hears of work that takes long."""

    def start(self, what: str, total: int) -> None:
        """Work begins, and has ``total`` steps."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """So many steps are done; ``note`` says how it stands."""

    def grow(self, steps: int) -> None:
        """So many steps more than were told have to be done."""

    def stop(self, note: str = "") -> None:
        """The work that was started is over; ``note`` says how it ended."""


@final
class Silent:
    """Hears and says nothing."""

    def start(self, what: str, total: int) -> None:
        """Ignore."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Ignore."""

    def grow(self, steps: int) -> None:
        """Ignore."""

    def stop(self, note: str = "") -> None:
        """Ignore."""
