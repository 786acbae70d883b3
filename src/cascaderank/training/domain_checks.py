"""Checks that a request log has candidates of every domain that an objective trains on."""

from collections.abc import Mapping
from typing import Any

from cascaderank.cascade import Cascade
from cascaderank.data.domains import DOMAINS, count_domains, no_feedback, no_levels
from cascaderank.errors import DataError
from cascaderank.objectives import OBJECTIVES
from cascaderank.runs.data import RunData
from cascaderank.settings.run import RunSettings
from cascaderank.stages import DomainStage


def check_domains(settings: RunSettings, data: RunData, cascade: Cascade) -> None:
    """Check, before training, that each domain of the objective has candidates.

    Objectives without the option ``exposed_level`` use no domains; every log passes.

    Args:
        settings: settings of the run.
        data: data of the run.
        cascade: cascade of the run.

    Raises:
        DataError: if the log has no levels; if the objective uses clicks and the log has no
            feedback; or if a domain of the objective has no candidate, or is expected to have none
            after sampling.
    """
    if "exposed_level" not in OBJECTIVES.options(settings.objective.name):
        return
    where = str(data.log.path)
    if data.encoded.levels is None:
        raise DataError(no_levels(where))
    options = dict(settings.objective.options)
    _check(options, settings, data, cascade)
    joint = options.pop("joint", None)
    if isinstance(joint, Mapping) and joint.get("name") == settings.objective.name:
        shared = {k: v for k, v in options.items() if k in ("exposed_level", "preranked_level")}
        _check({**shared, **joint}, settings, data, cascade)


def _check(
    options: Mapping[str, Any], settings: RunSettings, data: RunData, cascade: Cascade
) -> None:
    where = str(data.log.path)
    trained = {name: cascade.stages[name] for name in options.get("learns") or cascade.stage_names}
    click_stages = [
        f"'{name}' ({settings.stages[name].model})"
        for name, stage in trained.items()
        if options.get("event") == "click" or (isinstance(stage, DomainStage) and stage.domains > 1)
    ]
    if click_stages and data.encoded.feedback is None:
        stages = " and ".join(click_stages)
        raise DataError(no_feedback(where, f"clicks are the targets of {stages}"))
    counts = count_domains(
        data.encoded,
        exposed_level=options.get("exposed_level", len(data.log.manifest.level_names) - 1),
        preranked_level=options.get("preranked_level"),
    )
    rates = _sampling_rates(options)
    expected = {name: count * rates.get(name, 1.0) for name, count in counts.items()}
    required = set(counts) - ({"unexposed", "dropped"} if options.get("exposures_only") else set())
    if not click_stages:  # clicked candidates are exposed ones
        expected["unclicked"] += expected["click"]
        required.discard("click")
    empty = sorted(name for name in required if expected[name] < 1)
    if empty:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        sampled = f", sampled at {list(rates.values())}" if rates else ""
        raise DataError(
            f"{where}: the objective needs candidates of each domain; none is of the domain "
            f"{' or '.join(empty)} ({found}{sampled}); check objective.exposed_level and "
            f"objective.preranked_level{', and objective.sampling' if rates else ''}"
        )


def _sampling_rates(options: Mapping[str, Any]) -> dict[str, float]:
    """Return the sampling rate of each domain; empty if the objective does not sample."""
    sampling = options.get("sampling")
    if sampling is None:
        return {}
    checked = OBJECTIVES.checked_options("entire_chain", {"sampling": sampling})["sampling"]
    return dict(zip(DOMAINS, checked.rates, strict=False))
