"""Weights & Biases: a run of its service, or of its offline mode."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from cascaderank.extras import require
from cascaderank.tracking import TRACKERS

_PROJECT = "cascaderank"


@TRACKERS.register
@final
class WandbTracker:
    """Log to Weights & Biases by its library, which needs the extra ``wandb``.

    Its environment variables apply, such as ``WANDB_MODE=offline`` and ``WANDB_PROJECT``
    (default: ``cascaderank``).

    Args:
        folder: folder of the tracked run; the id of the run is in ``wandb-id.txt``.
        name: name of the run.

    Raises:
        MissingExtraError: if the library is not installed.

    Examples:
        See ``docs/training.md``; ``train.track = ["wandb"]`` uses it.
    """

    def __init__(self, folder: str | os.PathLike[str], *, name: str) -> None:
        self._library = require("wandb", extra="wandb")
        self._folder, self._name = Path(folder), name
        self._run: Any = None
        self._first = 0

    def begin(self, step: int) -> None:
        """Open a run, or resume that of the id in the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "wandb-id.txt"
        if not step or not file.exists():
            file.write_text(secrets.token_hex(4), encoding="utf-8")
        self._run = self._library.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            dir=str(self._folder),
            id=file.read_text(encoding="utf-8"),
            name=self._name,
            resume="allow",
        )
        self._first = self._run.step  # of a resumed run, the step after the last that was logged

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers, unless the process that was killed has logged this step."""
        if step >= self._first:
            self._run.log(dict(values), step=step)

    def text(self, name: str, text: str) -> None:
        """Add a text to the config of the run."""
        self._run.config.update({name: text}, allow_val_change=True)

    def close(self) -> None:
        """Finish the run, which uploads what is left."""
        if self._run is not None:
            self._run.finish()
