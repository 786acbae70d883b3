"""Claim the folder of a run: only a run with the same settings and data resumes in it."""

import os

from pydantic import BaseModel

from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import CascadeRankError, RunError
from cascaderank.runs.folder import RunFolder, read_record, write_atomically
from cascaderank.runs.recorded import recorded_settings
from cascaderank.settings.run import RunSettings

_SHOWN = 6  # number of differing settings that a message lists


def claim(run: RunFolder, settings: RunSettings) -> None:
    """Write the settings into a folder without results; otherwise check that they are the same.

    Args:
        run: folder of the run, locked.
        settings: settings of the run.

    Raises:
        RunError: if the folder holds results of a run with other settings, or its settings cannot
            be read.
    """
    if not run.begun:
        write_atomically(run.config, settings.to_toml().encode())
        return
    try:
        recorded = recorded_settings(run.config)
    except CascadeRankError as error:
        raise RunError(
            f"{run.path}: the settings of this run cannot be read: {error}; restore "
            f"{run.config.name} from a copy, or choose another folder with --run"
        ) from None
    differences = recorded.differences(settings)
    if differences:
        shown = "; ".join(differences[:_SHOWN])
        if len(differences) > _SHOWN:
            shown += f"; and {len(differences) - _SHOWN} more"
        raise RunError(
            f"{run.path}: holds a run with other settings ({shown}); "
            "choose another folder with --run, or remove this one"
        )


def check_same_data(run: RunFolder, log: RequestLog) -> None:
    """Check that a run with results resumes on the data set that it was started on.

    Args:
        run: folder of the run.
        log: request log that the settings of the run name.

    Raises:
        RunError: if the fingerprint of the data set has changed.
    """
    if not run.begun:
        return
    before = recorded_fingerprint(run.environment)
    if before != log.fingerprint:
        raise RunError(
            f"{run.path}: was trained on another data set than {log.path} is now (fingerprint "
            f"{before[:12]} then, {log.fingerprint[:12]} now); choose another folder, or "
            "remove this one"
        )


class _Dataset(BaseModel):
    fingerprint: str


class _OfDataset(BaseModel):
    dataset: _Dataset


def recorded_fingerprint(path: str | os.PathLike[str]) -> str:
    """Return the fingerprint of the data set that a run was trained on.

    Args:
        path: the environment or the report of a run.

    Raises:
        RunError: if the file is missing or damaged.
    """
    return read_record(path, _OfDataset).dataset.fingerprint


def describe_log(log: RequestLog, settings: RunSettings) -> dict[str, str]:
    """Return path, name and fingerprint of a data set, as recorded in the files of a run."""
    return {
        "path": str(settings.data.path),
        "name": log.manifest.name,
        "fingerprint": log.fingerprint,
    }
