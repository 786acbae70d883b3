"""Evaluation: judge a cascade as a whole, and say which stage lost what."""

from cascaderank.evaluation.attribution import Attribution, attribute
from cascaderank.evaluation.bootstrap import (
    Summary,
    bootstrap_interval,
    bootstrap_intervals,
    two_way_bootstrap,
)
from cascaderank.evaluation.cascade import evaluate
from cascaderank.evaluation.consistency import ranking_consistency
from cascaderank.evaluation.evaluator import Evaluator
from cascaderank.evaluation.gauc import gauc
from cascaderank.evaluation.report import Report, StageReport
from cascaderank.evaluation.significance import PairedTest, holm, paired_test
from cascaderank.evaluation.tables import funnel_table, report_tables, summary_table

__all__ = [
    "Attribution",
    "Evaluator",
    "PairedTest",
    "Report",
    "StageReport",
    "Summary",
    "attribute",
    "bootstrap_interval",
    "bootstrap_intervals",
    "evaluate",
    "funnel_table",
    "gauc",
    "holm",
    "paired_test",
    "ranking_consistency",
    "report_tables",
    "summary_table",
    "two_way_bootstrap",
]
