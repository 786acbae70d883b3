"""Read the settings that a run recorded, also those of earlier versions."""

import os

from cascaderank.settings.run import RunSettings, read_settings

_ABSOLUTE_TEMPERATURES = {"lcron": 50.0, "arf": 200.0, "arf_v2": 200.0, "permutation": 200.0}
"""Default temperature of version 0.2 by objective, the same for lists of every length."""


def recorded_settings(path: str | os.PathLike[str]) -> RunSettings:
    """Read the ``config.toml`` of a run, with the defaults of the version that wrote it.

    Runs record all settings, so a setting that is missing did not exist. Version 0.2 had no
    ``relevance.include_zero``: label 0 could be ground truth, and default temperatures did not
    depend on the length of the list.

    Args:
        path: file that a run wrote.

    Raises:
        ConfigError: if the file cannot be read or has mistakes.
    """
    settings = read_settings(path)
    if "include_zero" in settings.relevance.model_fields_set:
        return settings
    changes: dict[str, object] = {}
    if settings.ground_truth != settings.relevance:
        changes["relevance.include_zero"] = True
    objective = settings.objective
    if (
        objective.name in _ABSOLUTE_TEMPERATURES
        and "temperature" not in objective.options
        and not objective.options.get("relative_temperature")
    ):
        changes["objective.temperature"] = _ABSOLUTE_TEMPERATURES[objective.name]
    return settings.changed(changes) if changes else settings
