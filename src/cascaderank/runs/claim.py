"""Claim the folder of a run: only a run with the same settings and data resumes in it."""

from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import RunError
from cascaderank.runs.folder import RunFolder, read_json, write_atomically
from cascaderank.runs.recorded import recorded_settings
from cascaderank.settings.run import RunSettings

_SHOWN = 6  # number of differing settings that a message lists


def claim(run: RunFolder, settings: RunSettings) -> None:
    """Write the settings into a folder without results; otherwise check that they are the same.

    Args:
        run: folder of the run, locked.
        settings: settings of the run.

    Raises:
        RunError: if the folder holds results of a run with other settings.
    """
    if not run.begun:
        write_atomically(run.config, settings.to_toml().encode())
        return
    differences = recorded_settings(run.config).differences(settings)
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
    before = read_json(run.environment)["dataset"]["fingerprint"]
    if before != log.fingerprint:
        raise RunError(
            f"{run.path}: was trained on another data set than {log.path} is now (fingerprint "
            f"{before[:12]} then, {log.fingerprint[:12]} now); choose another folder, or "
            "remove this one"
        )


def describe_log(log: RequestLog, settings: RunSettings) -> dict[str, str]:
    """Return path, name and fingerprint of a data set, as recorded in the files of a run."""
    return {
        "path": str(settings.data.path),
        "name": log.manifest.name,
        "fingerprint": log.fingerprint,
    }
