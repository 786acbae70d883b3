"""Writes the files of a comparison into its folder.

::

    comparison.json    all results, for programs
    comparison.md      Markdown table
    comparison.tex     LaTeX table
    comparison.png     plot, if matplotlib is installed
    comparison.svg     the same plot
"""

from pathlib import Path

from cascaderank.experiments.results import Comparison
from cascaderank.reports.comparison_plot import plot_files
from cascaderank.reports.paper_tables import latex, markdown
from cascaderank.runs.folder import write_atomically, write_json


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write a comparison as JSON, Markdown and LaTeX files.

    Args:
        comparison: result of the comparison.
        folder: existing folder.
    """
    write_json(folder / "comparison.json", comparison.to_json())
    write_atomically(folder / "comparison.md", markdown(comparison).encode())
    write_atomically(folder / "comparison.tex", latex(comparison).encode())


def write_plot(comparison: Comparison, folder: Path) -> None:
    """Write the plot of a comparison as PNG and SVG files.

    Args:
        comparison: result of the comparison.
        folder: existing folder.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    for kind, content in plot_files(comparison).items():
        write_atomically(folder / f"comparison.{kind}", content)
