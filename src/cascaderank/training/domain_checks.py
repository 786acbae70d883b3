"""Whether a log can teach what an objective of domains is to learn."""

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
    """Check that each domain to be learnt has candidates, before any work is done.

    Args:
        settings: of the run; an objective that has no ``exposed_level`` is fine with any log.
        data: of the run.
        cascade: that is to learn.

    Raises:
        DataError: if the log lacks levels or, where clicks are learnt, feedback; or no candidate of
            it, or none that sampling leaves, is of a domain that is to be learnt.
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
        of_all = {k: v for k, v in options.items() if k in ("exposed_level", "preranked_level")}
        _check({**of_all, **joint}, settings, data, cascade)


def _check(
    options: Mapping[str, Any], settings: RunSettings, data: RunData, cascade: Cascade
) -> None:
    where = str(data.log.path)
    learners = {name: cascade.stages[name] for name in options.get("learns") or cascade.stage_names}
    clicks = [
        f"'{name}' ({settings.stages[name].model})"
        for name, stage in learners.items()
        if options.get("event") == "click" or (isinstance(stage, DomainStage) and stage.domains > 1)
    ]
    if clicks and data.encoded.feedback is None:
        raise DataError(no_feedback(where, f"clicks are what {' and '.join(clicks)} would learn"))
    counts = count_domains(
        data.encoded,
        exposed_level=options.get("exposed_level", len(data.log.manifest.level_names) - 1),
        preranked_level=options.get("preranked_level"),
    )
    told, rates = ", ".join(f"{name} {count}" for name, count in counts.items()), _rates(options)
    expected = {name: count * rates.get(name, 1.0) for name, count in counts.items()}
    wanted = set(counts) - ({"unexposed", "dropped"} if options.get("exposures_only") else set())
    if not clicks:
        expected["unclicked"] += expected["click"]
        wanted.discard("click")
    empty = sorted(name for name in wanted if expected[name] < 1)
    if empty:
        sampled = f", sampled at {list(rates.values())}" if rates else ""
        raise DataError(
            f"{where}: no candidate is of the domain {' or '.join(empty)} ({told}{sampled}), so "
            "there is nothing to tell it by; check objective.exposed_level, "
            f"objective.preranked_level{' and objective.sampling' if rates else ''}"
        )


def _rates(options: Mapping[str, Any]) -> dict[str, float]:
    sampling = options.get("sampling")
    if sampling is None:
        return {}
    checked = OBJECTIVES.checked_options("entire_chain", {"sampling": sampling})["sampling"]
    return dict(zip(DOMAINS, checked.rates, strict=False))
