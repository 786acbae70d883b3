"""Files for people in the folder of a comparison, beside its ``comparison.json``.

::

    comparison.md      a table for issues and notes
    comparison.tex     a table for papers
    comparison.png     a plot, if matplotlib is installed
    comparison.svg
"""

import os
from pathlib import Path

from cascaderank.experiments.results import Comparison
from cascaderank.reports.comparison_plot import plot_files
from cascaderank.reports.paper_tables import latex, markdown
from cascaderank.runs.folder import write_atomically


def write_comparison(comparison: Comparison, folder: str | os.PathLike[str]) -> None:
    """Write the tables of a comparison, as Markdown and LaTeX, beside its ``comparison.json``.

    Args:
        comparison: result of :func:`cascaderank.experiments.compare.compare`.
        folder: existing folder of the comparison.
    """
    write_atomically(Path(folder) / "comparison.md", markdown(comparison).encode())
    write_atomically(Path(folder) / "comparison.tex", latex(comparison).encode())


def write_plot(comparison: Comparison, folder: str | os.PathLike[str]) -> None:
    """Write the plot of a comparison as PNG and SVG files.

    Args:
        comparison: result of :func:`cascaderank.experiments.compare.compare`.
        folder: existing folder of the comparison.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    for kind, content in plot_files(comparison).items():
        write_atomically(Path(folder) / f"comparison.{kind}", content)
