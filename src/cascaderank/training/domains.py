"""Whether a log can teach what an objective of domains is to learn."""

from cascaderank.cascade import Cascade
from cascaderank.config import RunSettings
from cascaderank.data.domains import count_domains, no_feedback, no_levels
from cascaderank.errors import DataError
from cascaderank.objectives import OBJECTIVES
from cascaderank.stages import DomainStage
from cascaderank.training.run_data import RunData


def check_domains(settings: RunSettings, data: RunData, cascade: Cascade) -> None:
    """Check that each domain to be learnt has candidates, before any work is done.

    Args:
        settings: of the run; an objective that has no ``exposed_level`` is fine with any log.
        data: of the run.
        cascade: that is to learn.

    Raises:
        DataError: if the log lacks levels or, where clicks are learnt, feedback; or no candidate of
            it is of a domain that is to be learnt.
    """
    if "exposed_level" not in OBJECTIVES.options(settings.objective.name):
        return
    where, options = str(data.log.path), settings.objective.options
    if data.encoded.levels is None:
        raise DataError(no_levels(where))
    learners = [cascade.stages[name] for name in options.get("learns") or cascade.stage_names]
    clicks = options.get("event") == "click" or any(
        isinstance(stage, DomainStage) and stage.domains > 1 for stage in learners
    )
    if clicks and data.encoded.feedback is None:
        raise DataError(no_feedback(where, "there is a stage that learns it"))
    counts = count_domains(
        data.encoded,
        exposed_level=options.get("exposed_level", len(data.log.manifest.level_names) - 1),
        preranked_level=options.get("preranked_level"),
    )
    wanted = set(counts) - ({"unexposed", "dropped"} if options.get("exposures_only") else set())
    if not clicks:
        counts["unclicked"] += counts["click"]
        wanted.discard("click")
    empty = sorted(name for name in wanted if not counts[name])
    if empty:
        raise DataError(
            f"{where}: no candidate is of the domain {' or '.join(empty)} "
            f"({', '.join(f'{name} {count}' for name, count in counts.items())}), so there is "
            "nothing to tell it by; check objective.exposed_level and objective.preranked_level"
        )
