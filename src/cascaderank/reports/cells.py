"""Formatting of the numbers of a comparison, shared by all tables."""

import math
import re
from collections import Counter
from typing import Any, Final

from cascaderank.errors import counted
from cascaderank.experiments.results import Comparison, MethodResult

SIGNIFICANT: Final = 0.05
"""Significance level of adjusted p values; a mark also requires that the interval excludes 0."""

MARKED: Final = (
    "Holm-adjusted p < .05, and 0 outside the interval of the gain over requests and seeds"
)
"""Meaning of a significance mark."""

SEES_MORE: Final = "§"
"""Follows the name of a method that uses more features than a stage of the cascade may use."""

EDGE: Final = "edge: the lowest or highest value tried; a better one may lie beyond"
"""Meaning of ``(edge)`` after a chosen value."""


def name(method: MethodResult) -> str:
    """Return the name of a method, with a mark if it uses features that a stage may not use."""
    return f"{method.name} {SEES_MORE}" if method.sees_more else method.name


def share(value: float | None, *, sign: str = "", places: int = 4) -> str:
    """Format a value in [0, 1] without the zero before the decimal point.

    Examples:
        >>> share(0.87321), share(-0.0042, sign="+", places=3), share(float("nan")), share(None)
        ('.8732', '-.004', '-', '')
    """
    if value is None:
        return ""
    if math.isnan(value):
        return "-"
    return re.sub(r"^([+-]?)0\.", r"\1.", f"{value:{sign}.{places}f}")


def with_deviation(mean: float, deviation: float | None) -> str:
    """Format a mean with its standard deviation, if given.

    Examples:
        >>> with_deviation(0.8732, 0.0005)
        '.8732 ± .0005'
    """
    return share(mean) if deviation is None else f"{share(mean)} ± {share(deviation)}"


def interval(low: float | None, high: float | None, *, sign: str = "") -> str:
    """Format the ends of an interval; empty if there is none.

    Examples:
        >>> interval(0.8712, 0.8758)
        '[.871, .876]'
    """
    if low is None or high is None or math.isnan(low):
        return ""
    return f"[{share(low, sign=sign, places=3)}, {share(high, sign=sign, places=3)}]"


def p_value(p: float | None) -> str:
    """Format a p value to three decimal places.

    Examples:
        >>> p_value(0.0312), p_value(0.0001), p_value(1.0), p_value(None)
        ('.031', '<.001', '1.00', '')
    """
    if p is None or math.isnan(p):
        return "" if p is None else "-"
    if p < 0.001:
        return "<.001"
    return share(p, places=2 if p > 0.9995 else 3)


def megabytes(size: float | None) -> str:
    """Format a size in bytes as MB (1,000,000 bytes)."""
    return "" if size is None else f"{size / 1e6:,.0f}"


def seconds(duration: float | None) -> str:
    """Format a duration in seconds, with one decimal place below ten seconds."""
    return "" if duration is None else f"{duration:,.{0 if duration >= 10 else 1}f}"


def evaluated_points(method: MethodResult) -> str:
    """Format the number of grid points that were evaluated for a method, the maximum over folds."""
    most = max((len(t["tried"]) for t in method.tuning), default=0)
    return str(most) if most else ""


def chosen(method: MethodResult, *, between: str = ", ") -> str:
    """Format the chosen values, with the number of folds if the folds differ.

    A value is followed by ``(edge)`` if it is the lowest or highest value tried.
    """
    points = [
        " ".join(
            f"{name.rpartition('.')[2]}={_value(value)}{' (edge)' * (name in tuned['at_edge'])}"
            for name, value in tuned["chosen"].items()
        )
        for tuned in method.tuning
    ]
    counts = Counter(points)
    if len(counts) < 2:
        return next(iter(counts), "")
    return between.join(f"{point}: {n} of {len(points)}" for point, n in counts.most_common())


def at_edge(method: MethodResult) -> bool:
    """Return whether a chosen value is the lowest or highest value tried, in any fold."""
    return any(tuned["at_edge"] for tuned in method.tuning)


def best(comparison: Comparison) -> str:
    """Return the name of the trained method with the highest joint recall."""
    known = [m for m in comparison.methods if m.trained and not math.isnan(m.joint_recall)]
    return max(known, key=lambda m: m.joint_recall).name if known else ""


def mark(method: MethodResult) -> str:
    """Return ``"better"`` or ``"worse"`` for a significant gain over the reference, else ``""``.

    The test generalises to other requests only, so the interval over requests and seeds must also
    exclude 0. With one seed, nothing is marked.
    """
    m = method
    if len(m.by_seed) < 2:
        return ""
    if m.p_holm is None or m.gain is None or m.gain_low is None or m.gain_high is None:
        return ""
    if not m.p_holm < SIGNIFICANT:
        return ""
    return "better" if m.gain_low > 0 else "worse" if m.gain_high < 0 else ""


def excluded(undefined: int) -> str:
    """Return a note on requests without ground truth.

    Examples:
        >>> excluded(1)
        '1 request without ground truth is excluded'
    """
    verb = "is" if undefined == 1 else "are"
    return f"{counted(undefined, 'request')} without ground truth {verb} excluded"


def title(comparison: Comparison) -> str:
    """Return the title: data set, number of test requests, folds and seeds."""
    c = comparison
    sizes = (c.requests, "test request"), (c.folds, "fold"), (c.seeds, "seed")
    return f"{c.dataset}: {', '.join(counted(*size) for size in sizes)}"


def notes(comparison: Comparison) -> list[str]:
    """Return notes that define the numbers, one sentence each."""
    c = comparison
    over = f"[..]: {c.confidence:.0%} interval over requests"
    sentences = [f"±: standard deviation over seeds. {over} and seeds."]
    if c.seeds == 1:
        sentences = [f"{over}; with one seed, no interval covers the variance between seeds."]
    if any(m.gain is not None for m in c.methods):
        sentences.append(
            f"Gain: over {c.reference}; p: paired randomisation test over requests, Holm-adjusted."
        )
    if c.published:
        sentences.append(f"Published: {c.published['source']}; {c.published['note']}.")
        if "ndcg" in c.published:
            sentences.append(f"{c.published['ndcg']}.")
    if any(m.sees_more for m in c.methods):
        sentences.append(f"{SEES_MORE}: uses features that a stage of the cascade may not use.")
    if c.absent:
        of_stages = {found.metric for method in c.methods for found in method.stage_metrics}
        always = {"joint_recall_decided", "ndcg_linear"} | of_stages
        old, large = [m for m in c.absent if m in always], [m for m in c.absent if m not in always]
        if old:
            sentences.append(f"Not in runs that version 0.2 wrote: {', '.join(old)}.")
        if large:
            sentences.append(f"Omitted, as labels are too large for 2^y - 1: {', '.join(large)}.")
    if c.undefined:
        sentences.append(f"{excluded(c.undefined)}.")
    return sentences


def days(comparison: Comparison) -> list[str]:
    """Return the test days of a comparison whose folds are days; empty for other folds."""
    names = comparison.fold_names
    by_day = len(names) > 1 and all(name.startswith("day ") for name in names)
    return [name.removeprefix("day ") for name in names] if by_day else []


def shows_ndcg(comparison: Comparison) -> bool:
    """Return whether NDCG of the stages is shown: not beside a published one of other gains."""
    return comparison.published is None or "ndcg" not in comparison.published


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
