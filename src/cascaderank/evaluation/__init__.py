"""Evaluation: judge a cascade as a whole, and say which stage lost what."""

from cascaderank.evaluation.attribution import Attribution, attribute
from cascaderank.evaluation.bootstrap import bootstrap_interval
from cascaderank.evaluation.cascade import evaluate
from cascaderank.evaluation.evaluator import Evaluator
from cascaderank.evaluation.report import Report, StageReport, Summary
from cascaderank.evaluation.tables import funnel_table, summary_table

__all__ = [
    "Attribution",
    "Evaluator",
    "Report",
    "StageReport",
    "Summary",
    "attribute",
    "bootstrap_interval",
    "evaluate",
    "funnel_table",
    "summary_table",
]
