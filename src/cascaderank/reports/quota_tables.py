"""Tables of quotas under a budget, at most 80 characters wide."""

import math
from typing import TYPE_CHECKING

from cascaderank.errors import counted
from cascaderank.evaluation.quotas import EvaluatedQuotas, QuotaReport, UnevenReport
from cascaderank.evaluation.quotas.quota_evaluation import thinned
from cascaderank.evaluation.statistics.bootstrap import Summary
from cascaderank.reports.cells import excluded, interval, share
from cascaderank.reports.noted_table import noted_table
from cascaderank.reports.profile_tables import short
from cascaderank.training.quota_run import Retrained

if TYPE_CHECKING:
    from rich.table import Table

UNITS = {"products": "multiply-adds", "ms": "milliseconds"}
"""Names of the units of cost."""

_POINTS, _DRIFT = 12, 0.005


def quota_tables(report: QuotaReport) -> tuple["Table", ...]:
    """Return tables of the best quotas, the front, the cascade without a stage, and uneven quotas.

    Examples:
        >>> import torch
        >>> from cascaderank.evaluation.quotas import ScoredRequests, StageCost, report_quotas
        >>> _ = torch.manual_seed(0)
        >>> scores = torch.randn(2, 50, 20)
        >>> requests = ScoredRequests.of(scores, scores.sum(0), k=3)
        >>> costs = {name: StageCost(candidates=(0, 1), costs=(0.0, 1.0)) for name in ("a", "b")}
        >>> found = report_quotas(requests, requests, costs, present=(10, 5), unit="products")
        >>> [table.row_count for table in quota_tables(found)][0]
        2
    """
    return _best(report), _front(report), _without(report), _uneven(report)


def retrained_table(retrained: Retrained) -> "Table":
    """Return a table of the test recall before and after training again with other quotas."""
    notes = [f"Gain of training again, with the new quotas: {_gain(retrained.gain)}."]
    if retrained.unchanged:
        notes.append("The weights are the same: the objective does not use the quotas.")
    table = noted_table("Trained again", notes)
    table.add_column("")
    _recall_columns(table, "test")
    for name, summary in (
        ("present run and quotas", retrained.before),
        ("present run, new quotas", retrained.chosen),
        ("trained again", retrained.after),
    ):
        table.add_row(name, share(summary.mean), interval(summary.low, summary.high))
    return table


def _best(report: QuotaReport) -> "Table":
    goal = report.goal
    aim = f"at most {_cost(goal.value, report)} per request"
    if goal.kind == "recall":
        aim = f"a recall of at least {goal.value:g}"
    stages = ", ".join(report.stages)
    vectors = "all vectors of quotas"
    if not report.exhaustive:
        vectors = f"{report.evaluated:,} vectors of quotas, refined to integers around the best"
    notes = [
        f"Quotas of {stages}. The last one is the length of the final list and is kept.",
        f"Chosen on {counted(report.validation, 'validation request')}, from {vectors};",
        f"test: {counted(report.requests, 'other request')}, with intervals over requests.",
        f"Gain of the best on the test requests: {_gain(report.best.gain)}.",
    ]
    if report.best.test.undefined:
        notes.append(f"{excluded(report.best.test.undefined)} from the recall.")
    notes += [f"Note: {note}." for note in report.notes]
    table = noted_table(f"Quotas for {aim}", notes)
    _point_columns(table, report)
    table.add_row("present", *_point(report.present, report))
    table.add_row("best", *_point(report.best, report), style="bold")
    return table


def _front(report: QuotaReport) -> "Table":
    points = thinned(report.front, report.best, points=_POINTS)
    scale = 10.0 ** math.floor(math.log10(max(report.best.cost, 1e-9)))
    unit = short(round(scale)) if scale >= 1 else f"{scale:g}"
    name = UNITS[report.unit]
    table = noted_table(
        "Recall against cost",
        [f"recall per {unit}: validation recall that {unit} more {name} buy, up to the next row"],
    )
    _point_columns(table, report)
    table.add_column(f"recall per\n{unit}", justify="right", no_wrap=True)
    for i, point in enumerate(points):
        after, rate = points[i + 1 : i + 2], ""
        if after:
            rate = share((after[0].recall - point.recall) / (after[0].cost - point.cost) * scale)
        first = "best" if point == report.best else ""
        table.add_row(first, *_point(point, report), rate, style="bold" if first else None)
    return table


def _without(report: QuotaReport) -> "Table":
    from rich.markup import escape

    table = noted_table(
        "Without a stage, with the best quotas of the others",
        ["gain: over the best quotas of all stages, on the test requests"],
    )
    table.add_column("stage left out", overflow="fold", max_width=20)
    table.add_column("quotas", overflow="fold")
    for heading in ("cost", "test", "gain", "95% interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, point in report.without.items():
        if point is None:
            table.add_row(escape(name), "", "", "", "", "not reachable")
            continue
        table.add_row(
            escape(name),
            _quotas(point),
            _cost(point.cost, report, unit=False),
            share(point.test.mean),
            share(point.gain.mean, sign="+"),
            interval(point.gain.low, point.gain.high, sign="+"),
        )
    return table


def _uneven(report: QuotaReport) -> "Table":
    from rich.markup import escape

    uneven = report.uneven
    kept = ", ".join(
        f"{escape(name)} {low:,} to {high:,} (median {median:,})"
        for name, (low, median, high) in zip(report.stages, uneven.kept, strict=False)
    )
    table = noted_table(
        "Uneven: requests keep different numbers, by a rule fitted on validation",
        [
            f"Kept by 80% of the requests: {kept}.",
            f"Gain over even quotas of the same cost: {_gain(uneven.gain)}.",
            *_drift(uneven),
        ],
    )
    table.add_column("")
    table.add_column("mean cost", justify="right", no_wrap=True)
    _recall_columns(table, "test")
    for name, cost, summary in (
        ("even", uneven.cost, uneven.even),
        ("uneven", uneven.cost, uneven.test),
    ):
        table.add_row(
            name,
            _cost(cost, report, unit=False),
            share(summary.mean),
            interval(summary.low, summary.high),
        )
    return table


def _drift(uneven: UnevenReport) -> list[str]:
    """Return a note if the mean cost of test requests is not that of the even quotas."""
    ratio = uneven.cost / uneven.budget - 1
    if abs(ratio) < _DRIFT:
        return []
    return [f"Cost on test requests, which differ from validation: {ratio:+.1%}."]


def _point_columns(table: "Table", report: QuotaReport) -> None:
    table.add_column("", no_wrap=True)
    table.add_column("quotas", overflow="fold", max_width=20)
    table.add_column(f"cost,\n{report.unit}", justify="right", no_wrap=True)
    table.add_column("vali-\ndation", justify="right", no_wrap=True)
    _recall_columns(table, "test")


def _recall_columns(table: "Table", name: str) -> None:
    for heading in (name, "95% interval"):
        table.add_column(heading, justify="right", no_wrap=True)


def _point(point: EvaluatedQuotas, report: QuotaReport) -> tuple[str, ...]:
    return (
        _quotas(point),
        _cost(point.cost, report, unit=False),
        share(point.recall),
        share(point.test.mean),
        interval(point.test.low, point.test.high),
    )


def _quotas(point: EvaluatedQuotas) -> str:
    return " ".join(map(str, point.quotas))


def _gain(gain: Summary) -> str:
    within = interval(gain.low, gain.high, sign="+")
    return f"{share(gain.mean, sign='+')} {within}".strip()


def _cost(cost: float, report: QuotaReport, *, unit: bool = True) -> str:
    text = f"{cost:,.4g}" if report.unit == "ms" else short(round(cost))
    return f"{text} {UNITS[report.unit]}" if unit else text
