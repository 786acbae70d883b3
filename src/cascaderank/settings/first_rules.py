"""Rules of the first config for a log: targets, ground truth and quotas."""

import json
from typing import NamedTuple

import numpy as np

from cascaderank.data.labels import Relabelling, Target, needs
from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import DataError
from cascaderank.settings.log_facts import LogFacts


class Truth(NamedTuple):
    """Ground truth by rule."""

    setting: str
    """``"top"`` or ``"threshold"``."""
    value: float
    """Value of the setting."""
    size: int
    """Number of candidates in the median request that has any."""
    reason: str
    """One sentence on the rule."""

    def within(self, last: int) -> str:
        """Return the setting as TOML, given the last quota."""
        value = min(self.value, last) if self.setting == "top" else self.value
        return f"{self.setting} = {value:g}"


def truth_of(log: RequestLog, facts: LogFacts, target: Target) -> Truth:
    """Return the ground truth of a log by the rules of :func:`first_config`.

    Args:
        log: request log.
        facts: facts about it, for this target.
        target: definition of the labels.

    Raises:
        DataError: if no label is above 0.
    """
    if target == "funnel" and facts.at_top_level is not None:
        own = facts.at_top_level[facts.at_top_level > 0]
        size = int(np.median(own)) if own.size else 1
        name = log.manifest.level_names[-1]
        return Truth(
            "top", size, size, f"As many as reach the level '{name}' in the median request."
        )
    if facts.grades is None:
        size = max(1, facts.median_length // 8)
        reason = "An eighth of the median length of the lists, since labels have many values."
        return Truth("top", size, size, reason)
    threshold = _threshold(log, facts, target)
    reaching = facts.reaching(threshold)
    grades = ", ".join(f"{grade:g}" for grade in facts.grades)
    return Truth(
        "threshold",
        threshold,
        int(np.median(reaching[reaching > 0])),
        f"Labels are {grades}; {facts.share_with(threshold):.0%} of the requests have one of at "
        f"least {threshold:g}.",
    )


def quotas_for(length: int, truth: int) -> tuple[int, int]:
    """Return the quotas of two stages, first stage first.

    Args:
        length: median length of the lists, at least 1.
        truth: size of the ground truth.

    Examples:
        >>> quotas_for(40, 5), quotas_for(40, 20), quotas_for(3, 3), quotas_for(1, 1)
        ((20, 10), (30, 20), (3, 2), (2, 1))
    """
    quarter = max(1, length // 4)
    last = max(quarter, min(truth, length - 1))
    first = length // 2 if last == quarter else (length + last + 1) // 2
    return max(last + 1, first), last


_MEANINGS = {
    "funnel": "the level, then the position in the level. To learn the whole order of the logged "
    "system.",
    "level": "the level alone; candidates of one level are equal. To learn which candidates the "
    "logged system kept, without the order of its last stage.",
    "label": "the explicit labels, such as grades. To learn judgments of relevance.",
    "feedback": "the response of the user, such as 1 for a click. To learn what users respond to "
    "instead of what the logged system preferred; candidates that were not shown have no "
    "response, so they count as not relevant.",
}


def meaning_of(target: Target) -> str:
    """Return what a target is, and what it is for."""
    if isinstance(target, str):
        return _MEANINGS[target]
    return (
        "the level, with one label more for feedback in the highest level. To learn the funnel and "
        "the response together."
    )


def targets_of(log: RequestLog) -> dict[str, Target]:
    """Return the targets that the log has the columns for, by their TOML."""
    found: dict[str, Target] = {}
    for name in _MEANINGS:
        try:
            needs(name, log.manifest.columns)
        except DataError:
            continue
        found[json.dumps(name)] = name
    if {"level", "feedback"} <= set(log.manifest.columns):
        z = range(len(log.manifest.level_names) + 1)
        found[f'{{ by = "feedback", z = {[*z]} }}'] = Relabelling(by="feedback", z=tuple(z))
    return found


def _threshold(log: RequestLog, facts: LogFacts, target: Target) -> float:
    positive = [grade for grade in facts.grades or () if grade > 0]
    if not positive:
        raise DataError(
            f"{log.path}: expected labels above 0 by target '{target}', found none; no candidate "
            "can be ground truth; check the column of labels, or choose another data.target"
        )
    preferred = positive[0]
    if target == "level" or isinstance(target, Relabelling):
        preferred = positive[-1]
    elif target == "label" and positive[-1] >= 3:
        preferred = next(grade for grade in positive if grade >= 2)
    lower = [grade for grade in positive if grade <= preferred]
    return next((g for g in reversed(lower) if facts.share_with(g) >= 0.5), lower[0])
