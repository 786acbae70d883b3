"""Tables of off-policy values and differences for the terminal, at most 80 characters wide."""

import math
from typing import TYPE_CHECKING, Final

from cascaderank.evaluation.off_policy_report import OffPolicyDifference, OffPolicyValue
from cascaderank.reports.noted_table import interval_of, noted_table

if TYPE_CHECKING:
    from rich.table import Table

_TITLES: Final = {"ips": "IPS", "snips": "SNIPS", "beta_ips": "β-IPS", "dr": "DR"}
_FEW: Final = 200
"""Effective number of exposures below which intervals were too narrow in simulations."""


def off_policy_tables(result: OffPolicyValue | OffPolicyDifference) -> tuple["Table", ...]:
    """Return a table of estimates with intervals, and one of the overlap with the logging policy.

    Examples:
        >>> import numpy as np
        >>> from cascaderank.evaluation import ExposureLog, off_policy_value
        >>> exposed = np.eye(2, dtype=bool)[[0, 1] * 50]
        >>> half = exposed * 0.0 + 0.5
        >>> log = ExposureLog(rewards=exposed * 1.0, exposed=exposed, propensities=half)
        >>> estimates, overlap = off_policy_tables(off_policy_value(log, exposed * 0 + [0.9, 0.1]))
        >>> list(estimates.columns[0].cells)
        ['logging policy', 'IPS', 'SNIPS', 'β-IPS']
        >>> list(overlap.columns[2].cells)
        ['61.0']
    """
    if isinstance(result, OffPolicyValue):
        return _values(result), _overlap({"target": result})
    return _differences(result), _overlap({"first": result.first, "second": result.second})


def _values(value: OffPolicyValue) -> "Table":
    table = noted_table(f"Off-policy value, {value.requests:,} requests")
    table.add_column("")
    for heading in ("mean", f"{value.confidence:.0%} interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, summary in {"logging policy": value.logged, **value.estimates}.items():
        table.add_row(_TITLES.get(name, name), _number(summary.mean), interval_of(summary, ".4g"))
    return table


def _differences(found: OffPolicyDifference) -> "Table":
    first, second = found.first, found.second
    table = noted_table(f"First policy minus second, {first.requests:,} requests")
    table.add_column("")
    for heading in ("first", "second", "difference", f"{first.confidence:.0%} interval", "better"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, summary in found.estimates.items():
        table.add_row(
            _TITLES[name],
            _number(first.estimates[name].mean),
            _number(second.estimates[name].mean),
            _number(summary.mean),
            interval_of(summary, ".4g"),
            found.better(name),
        )
    return table


def _overlap(values: dict[str, OffPolicyValue]) -> "Table":
    some = next(iter(values.values()))
    notes = []
    for name, value in values.items():
        overlap = value.overlap
        if not value.supported:
            notes.append(
                f"{name}: {overlap.unsupported:.1%} of its exposures have a propensity below "
                f"{some.epsilon:g}, above {some.most_unsupported:.1%}: not ranked"
            )
        if overlap.effective_sample_size < _FEW:
            notes.append(f"{name}: few effective exposures, so intervals are too narrow")
        if overlap.weight_ratio.low > 1 or overlap.weight_ratio.high < 1:
            notes.append(f"{name}: weights differ from their expectation; check the propensities")
    limit = f"clipped\nat {some.clip:g}" if math.isfinite(some.clip) else "clipped"
    table = noted_table("Overlap with the logging policy", notes)
    table.add_column("")
    for heading in (
        "exposures",
        "effective",
        limit,
        "largest\nweight",
        "unsup-\nported",
        "weights /\nexpected",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, value in values.items():
        overlap = value.overlap
        table.add_row(
            name,
            f"{overlap.exposures:,}",
            f"{overlap.effective_sample_size:,.1f}",
            f"{overlap.clipped:.2%}",
            _number(overlap.largest_weight),
            f"{overlap.unsupported:.2%}",
            f"{overlap.weight_ratio.mean:.3f}",
        )
    return table


def _number(value: float) -> str:
    return f"{value:.4g}"
