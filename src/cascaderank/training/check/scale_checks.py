"""Findings about temperature, learning rate and number of steps, by the rules of the docs."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import counted
from cascaderank.objectives import OBJECTIVES
from cascaderank.settings.run import RunSettings
from cascaderank.sorting import find_operator
from cascaderank.training.check.findings import Finding, note, warning
from cascaderank.training.length import batch_size_of, training_length

_LIST_LENGTH: Final = 40
_TRIED_AT_40: Final = (1.0, 1000.0)
"""Temperatures of NeuralSort that the paper of LCRON tried, in lists of 40 candidates. Logits of
NeuralSort are proportional to the length, see ``docs/training.md``, Temperature."""
_OF_SCORES: Final = (0.01, 10.0)
"""Ten times beyond .1 and 1, the temperatures in units of scores of ``docs/choose.md``."""
_RATES: Final = (1e-4, 0.1)
"""Learning rates that are usual: the grid of ARF starts at 1e-4, that of ``docs/training.md`` ends
at .1. Training itself warns from 1 on."""
_FEW_STEPS: Final = 100
"""Steps below which a run warns that training was short."""
_IN_UNITS_OF_SCORES: Final = ("cut_likelihood", "conditional_survival", "dftopk")


def scale_findings(settings: RunSettings, log: RequestLog, requests: int) -> Iterator[Finding]:
    """Yield findings about numbers that are out of proportion to the data.

    Args:
        settings: settings of the run.
        log: request log; only its manifest is read.
        requests: number of training requests.
    """
    if all(stage.model == "boosted_trees" for stage in settings.stages.values()):
        return
    length = log.manifest.candidates / log.manifest.requests
    yield from _temperature(settings, length)
    rate = settings.train.learning_rate
    if not _RATES[0] <= rate <= _RATES[1] and rate < 1:
        yield note(
            "learning rate",
            f"train.learning_rate is {rate:g}; 0.001 to 0.1 is usual. Compare it with the default, "
            "0.01, on the validation requests.",
        )
    batches = -(-requests // batch_size_of(settings.train, requests))
    steps = training_length(settings.train, batches).epochs * batches
    if steps < _FEW_STEPS:
        yield warning(
            "steps",
            f"training takes {counted(steps, 'step')} at most. Raise train.epochs, or lower "
            "train.batch_size; their defaults take some 3,000 steps.",
        )


def _temperature(settings: RunSettings, length: float) -> Iterator[Finding]:
    name, options = settings.objective.name, settings.objective.options
    if options.get("published"):  # the numbers of the paper are meant
        return
    for option in ("temperature", "score_temperature"):
        if option not in options or options.get("relative_temperature"):
            continue
        given = options[option]
        values = [given[end] for end in ("start", "end")] if isinstance(given, Mapping) else [given]
        values = [value for value in values if isinstance(value, int | float)]
        if option == "temperature" and _grows(name, options):
            low, high = (bound * length / _LIST_LENGTH for bound in _TRIED_AT_40)
            usual = "its default is proportional to the length of each list"
        elif option == "score_temperature" or _in_scores(name, options):
            low, high = _OF_SCORES
            usual = "0.1 to 1 is usual"
        else:
            continue
        wrong = [value for value in values if not low <= value <= high]
        if wrong:
            effect = (
                "only candidates next to a cut have a gradient"
                if wrong[0] < low
                else "all candidates are about as likely to be kept"
            )
            yield warning(
                "temperature",
                f"objective.{option} is {wrong[0]:g} for lists of {length:.0f} candidates, so "
                f"{effect}; {usual}. Leave it out, or tune it on the validation requests.",
            )


def _operator(name: str, options: Mapping[str, Any]) -> str | None:
    parameter = OBJECTIVES.options(name).get("operator")
    default = None if parameter is None else parameter.default
    operator = options.get("operator", default)
    return operator if isinstance(operator, str) else None


def _grows(name: str, options: Mapping[str, Any]) -> bool:
    operator = _operator(name, options)
    return operator is not None and find_operator(operator).grows_with_length


def _in_scores(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the temperature of an objective is in units of scores."""
    return name in _IN_UNITS_OF_SCORES or _operator(name, options) in ("sigmoid", "threshold")
