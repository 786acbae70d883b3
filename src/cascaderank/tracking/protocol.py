"""What a tracker does: it receives numbers and texts of a run by step."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class Tracker(Protocol):
    """Receiver of the numbers and texts of one run."""

    def begin(self, step: int) -> None:
        """Open a new run, or resume the one that this folder belongs to.

        Args:
            step: steps that are already done: 0 in a new run. Values of later steps that a killed
                process wrote are computed again, and must not be there twice.
        """

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers.

        Args:
            step: number of steps done, at least 1.
            values: finite numbers by name, such as ``"train/loss"``.
        """

    def text(self, name: str, text: str) -> None:
        """Record a text about the run as a whole, such as its settings.

        Args:
            name: name of the text.
            text: the text.
        """

    def close(self) -> None:
        """Write all that is buffered."""


@runtime_checkable
class EmbeddingTracker(Protocol):
    """Tracker that also shows embeddings."""

    def embeddings(
        self, step: int, name: str, vectors: NDArray[np.float32], labels: Sequence[str]
    ) -> None:
        """Record the vectors of categories.

        Args:
            step: number of steps done.
            name: name of the table.
            vectors: ``[categories, dim]``.
            labels: ``[categories]`` texts.
        """
