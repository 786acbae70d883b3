"""Load a complete run: its cascade with the best weights, its schema and its settings."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from safetensors import SafetensorError
from safetensors.torch import load_file

from cascaderank.cascade import Cascade
from cascaderank.errors import CascadeRankError, RunError
from cascaderank.runs.build import build_cascade
from cascaderank.runs.folder import RunFolder
from cascaderank.runs.recorded import recorded_settings
from cascaderank.schema import FittedSchema
from cascaderank.settings.run import RunSettings


@final
@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A complete run, loaded for evaluation or serving."""

    folder: RunFolder
    """Folder of the run."""
    cascade: Cascade
    """Cascade with the best weights, in evaluation mode, on the CPU."""
    schema: FittedSchema
    """Schema fitted to the training requests; encodes requests for the cascade."""
    settings: RunSettings
    """Settings that the run was trained with."""

    @property
    def quotas(self) -> tuple[int, ...]:
        """Number of candidates that each stage keeps, first stage first."""
        return self.settings.quotas

    def __getitem__(self, index: int) -> Any:
        """Return cascade, schema or settings, by the position they had in the tuple of 0.1."""
        return tuple(self)[index]

    def __iter__(self) -> Iterator[Any]:
        """Iterate over cascade, schema and settings, the tuple that version 0.1 returned."""
        warnings.warn(
            "load_run returns a TrainedRun, not a tuple; use run.cascade, run.schema and "
            "run.settings",
            DeprecationWarning,
            stacklevel=2,
        )
        return iter((self.cascade, self.schema, self.settings))


def load_run(folder: str | os.PathLike[str]) -> TrainedRun:
    """Load a complete run.

    Args:
        folder: folder that ``cascaderank train`` wrote.

    Returns:
        The run: cascade with its best weights in evaluation mode, fitted schema, settings.

    Raises:
        RunError: if the folder does not hold a complete run, or a file in it is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(
            f"{folder}: no such folder; expected the folder of a run that `cascaderank train` wrote"
        )
    run = RunFolder(folder)
    if not run.weights.exists():
        raise RunError(
            f"{folder}: no {run.weights.name}, so the run is not complete; "
            "finish it with `cascaderank train`"
        )
    try:
        settings, schema = recorded_settings(run.config), FittedSchema.load(run.schema)
        cascade = build_cascade(settings, schema)
        cascade.load_state_dict(load_file(run.weights))
    except (CascadeRankError, RuntimeError, SafetensorError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise RunError(
            f"{folder}: cannot be loaded: {reason}; import the module of its own components first, "
            "restore its files, or train again in another folder"
        ) from None
    return TrainedRun(folder=run, cascade=cascade.eval(), schema=schema, settings=settings)
