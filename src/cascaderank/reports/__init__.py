"""Reports: tables, plots and files for people, from the numbers that other rooms compute.

Tables are :mod:`rich` tables of at most 80 columns; plots and pages need the extra ``report``.
"""

from cascaderank.reports.check_tables import check_table
from cascaderank.reports.comparison_files import write_comparison, write_plot
from cascaderank.reports.comparison_plot import plot_joint_recall, plot_survival
from cascaderank.reports.comparison_tables import comparison_tables
from cascaderank.reports.dataset_tables import dataset_table
from cascaderank.reports.evaluation_tables import (
    catalogue_table,
    funnel_table,
    report_tables,
    summary_table,
)
from cascaderank.reports.heatmap_plot import heatmap_png, plot_heatmap
from cascaderank.reports.heatmap_tables import heatmap_markdown, heatmap_tables
from cascaderank.reports.html_report import WrittenReport, write_report
from cascaderank.reports.importance_tables import importance_tables
from cascaderank.reports.listing_tables import runs_table
from cascaderank.reports.off_policy_tables import off_policy_tables
from cascaderank.reports.paper_tables import latex, markdown
from cascaderank.reports.profile_plot import plot_tradeoff, profile_png
from cascaderank.reports.profile_tables import profile_tables, tradeoff_table
from cascaderank.reports.run_tables import fields_table, pruning_table

__all__ = [
    "WrittenReport",
    "catalogue_table",
    "check_table",
    "comparison_tables",
    "dataset_table",
    "fields_table",
    "funnel_table",
    "heatmap_markdown",
    "heatmap_png",
    "heatmap_tables",
    "importance_tables",
    "latex",
    "markdown",
    "off_policy_tables",
    "plot_heatmap",
    "plot_joint_recall",
    "plot_survival",
    "plot_tradeoff",
    "profile_png",
    "profile_tables",
    "pruning_table",
    "report_tables",
    "runs_table",
    "summary_table",
    "tradeoff_table",
    "write_comparison",
    "write_plot",
    "write_report",
]
