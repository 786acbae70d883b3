"""Tables of an evaluation report for the terminal, at most 80 characters wide."""

import math
from typing import TYPE_CHECKING

from cascaderank.data.loading.candidates import SEARCH_METRICS
from cascaderank.errors import counted
from cascaderank.evaluation.item_retrieval import EXACT, CatalogueReport
from cascaderank.evaluation.report import Report
from cascaderank.evaluation.statistics.bootstrap import Summary
from cascaderank.reports.cells import excluded
from cascaderank.reports.noted_table import interval_of, noted_table

if TYPE_CHECKING:
    from rich.table import Table


def report_tables(report: Report) -> tuple["Table", ...]:
    """Return the tables of a report: the funnel, the additional metrics if any, and the cascade."""
    named = any(stage.over_all_candidates for stage in report.stages.values())
    return funnel_table(report), *[metric_table(report)] * named, summary_table(report)


def metric_table(report: Report) -> "Table":
    """Return a table of the additional metrics over all candidates, by stage and metric.

    Examples:
        >>> import torch
        >>> from cascaderank.evaluation import Evaluator
        >>> evaluator = Evaluator(quotas=(1,), threshold=1, metrics=["mrr"])
        >>> evaluator.update(torch.ones(1, 2, 2), torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
        >>> table = metric_table(evaluator.report())
        >>> [list(column.cells) for column in table.columns][1:3]
        [['mrr'], ['0.5000']]
    """
    from rich.markup import escape

    notes = ["also candidates that an earlier stage cuts: not of the final list"]
    table = noted_table("Single stages over all candidates", notes)
    table.add_column("stage", max_width=24, overflow="fold")
    table.add_column("metric", overflow="fold")
    for heading in ("mean", f"{report.confidence:.0%} interval", "requests", "undefined"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, stage in report.stages.items():
        for metric, summary in stage.over_all_candidates.items():
            table.add_row(
                escape(name),
                escape(metric),
                _number(summary),
                interval_of(summary),
                f"{summary.requests:,}",
                f"{summary.undefined:,}",
            )
    return table


def funnel_table(report: Report) -> "Table":
    """Return a table of ranking metrics, losses and ceilings, one row per stage.

    Examples:
        >>> import torch
        >>> from rich.console import Console
        >>> from cascaderank.evaluation import Evaluator
        >>> evaluator = Evaluator(quotas=(3, 2), k=2)
        >>> scores = torch.tensor([[[4.0, 3.0, 2.0, 1.0]], [[1.0, 3.0, 2.0, 4.0]]])
        >>> evaluator.update(scores, torch.tensor([[2.0, 0.0, 1.0, 0.0]]))
        >>> table = funnel_table(evaluator.report())
        >>> [str(column.header).split() for column in table.columns][2:4]
        [['recall', '@quota', '@2'], ['NDCG', 'linear', '@2']]
    """
    from rich.markup import escape

    size = "" if report.k is None else f"@{report.k}"
    table = noted_table("Funnel", ["recall, NDCG: of the stage alone, over all candidates"])
    table.add_column("stage", max_width=24, overflow="fold")
    for heading in (
        "quota",
        f"recall\n@quota\n{size}",
        f"NDCG\nlinear\n{size}",
        f"NDCG\n2^y - 1\n{size}",
        "alive\nafter",
        "lost\nhere",
        "ranks\nshort",
        "joint,\nif\nperfect",
    ):
        table.add_column(heading.strip(), justify="right", no_wrap=True)
    for name, stage in report.stages.items():
        table.add_row(
            escape(name),
            f"{stage.quota:,}",
            _number(stage.recall),
            _number(stage.ndcg_linear),
            _number(stage.ndcg_exponential),
            _number(stage.survival),
            _number(stage.lost),
            _number(stage.depth, places=1),
            _number(stage.ceiling_if_perfect),
        )
    return table


def summary_table(report: Report) -> "Table":
    """Return a table of the metrics of the whole cascade, with intervals.

    The joint recall over lists longer than the last quota has a row if some lists are shorter. The
    caption contains the number of requests without ground truth and the notes of the report.

    Examples:
        >>> import torch
        >>> from cascaderank.evaluation import Evaluator
        >>> evaluator = Evaluator(quotas=(1,), threshold=1)
        >>> evaluator.update(torch.zeros(1, 2, 2), torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        >>> print(summary_table(evaluator.report()).caption.splitlines()[0])
        1 of 2 requests have no ground truth
    """
    from rich.markup import escape

    metrics = dict(report.metrics)
    joint, decided = metrics.get("joint_recall"), metrics.get("joint_recall_decided")
    if joint is not None and decided is not None and decided.requests == joint.requests:
        del metrics["joint_recall_decided"]
    notes = list(report.notes)
    if report.without_ground_truth:
        verb = "has" if report.requests == 1 else "have"
        requests = counted(report.requests, "request")
        notes.insert(0, f"{report.without_ground_truth:,} of {requests} {verb} no ground truth")
    if "joint_recall_decided" in metrics:
        notes.append("decided: of lists longer than the last quota; shorter ones lose nothing")
    if "ndcg_linear" in metrics:
        *_, last = report.stages.values()
        also = " and below" if last.over_all_candidates.keys() & metrics.keys() else ""
        notes.append(
            f"NDCG{also}: of the final list; what a stage cuts is not retrieved. "
            "Ideal DCG, ground truth: over all candidates"
        )
    table = noted_table("Cascade", notes)
    table.add_column("", overflow="fold")
    for heading in ("mean", f"{report.confidence:.0%} interval", "requests", "undefined"):
        table.add_column(heading, justify="right", no_wrap=True)
    size = "" if report.k is None else f"@{report.k}"
    titles = {
        "joint_recall": f"joint recall{size}",
        "joint_recall_decided": "  decided",
        "reachable": "the quotas allow",
        "ndcg_linear": f"NDCG{size}, linear",
        "ndcg_exponential": f"NDCG{size}, 2^y - 1",
    }
    for name, summary in metrics.items():
        table.add_row(
            escape(titles.get(name, name)),
            _number(summary),
            interval_of(summary),
            f"{summary.requests:,}",
            f"{summary.undefined:,}",
        )
    return table


def catalogue_table(report: CatalogueReport) -> "Table":
    """Return a table of full-catalogue retrieval metrics, one row per metric and cut-off."""
    cutoffs = list(dict.fromkeys(name.partition("@")[2] for name in report.metrics))
    notes = [f"{counted(report.items, 'item')}, {counted(report.requests, 'request')}"]
    undefined = max(summary.undefined for summary in report.metrics.values())
    if undefined:
        notes.append(excluded(undefined))
    if report.absent:
        count = "counts as a miss" if report.absent == 1 else "count as misses"
        notes.append(f"{counted(report.absent, 'ground-truth item')} outside the catalogue {count}")
    if report.index != EXACT:
        notes.append(f"index {report.index} retrieves {report.index_recall:.4f} of the exact lists")
    table = noted_table("Search of all items", notes)
    table.add_column("")
    for heading in ("mean", "interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for metric in SEARCH_METRICS:
        for cutoff in cutoffs:
            summary = report.metrics[f"{metric}@{cutoff}"]
            name = f"{metric.replace('_', ' ')}@{cutoff}"
            table.add_row(name, _number(summary), interval_of(summary))
    return table


def _number(summary: Summary | None, *, places: int = 4) -> str:
    """Format a mean; a dash if it is undefined."""
    if summary is None or math.isnan(summary.mean):
        return "-"
    return f"{summary.mean:,.{places}f}"
