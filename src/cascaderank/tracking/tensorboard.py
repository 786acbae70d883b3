"""TensorBoard: event files in the folder of the run, shown by ``tensorboard --logdir runs``."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.extras import require
from cascaderank.tracking import TRACKERS


@TRACKERS.register
@final
class TensorBoardTracker:
    """Write event files by ``torch.utils.tensorboard``, which needs the extra ``tensorboard``.

    Args:
        folder: folder of the tracked run; event files are in its folder ``tensorboard``.
        name: name of the run.

    Raises:
        MissingExtraError: if TensorBoard is not installed.

    Examples:
        See ``docs/training.md``; ``train.track = ["tensorboard"]`` uses it.
    """

    def __init__(self, folder: str | os.PathLike[str], *, name: str) -> None:
        require("tensorboard", extra="tensorboard")
        self._library = require("torch.utils.tensorboard", extra="tensorboard")
        self._folder, self._name = Path(folder) / "tensorboard", name
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Open a new event file; values of earlier files after this step are hidden."""
        self._writer = self._library.SummaryWriter(str(self._folder), purge_step=step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers, and flush them, since a resumed run does not compute them again."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def text(self, name: str, text: str) -> None:
        """Write a text as a block of code."""
        self._writer.add_text(name, "\n".join(f"    {line}" for line in text.splitlines()), 1)

    def embeddings(
        self, step: int, name: str, vectors: NDArray[np.float32], labels: Sequence[str]
    ) -> None:
        """Write vectors for the projector."""
        tag = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)  # name of a folder
        self._writer.add_embedding(vectors, metadata=list(labels), global_step=step, tag=tag)

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
