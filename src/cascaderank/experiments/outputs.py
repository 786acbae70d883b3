"""The files of a comparison, in its folder.

::

    comparison.json    everything, for programs
    comparison.md      a table for issues and notes
    comparison.tex     a table for papers
    comparison.png     the same as a plot, if matplotlib is installed
    comparison.svg
"""

from pathlib import Path

from cascaderank.experiments.papers import latex, markdown
from cascaderank.experiments.plots import plot_files
from cascaderank.experiments.summary import Comparison
from cascaderank.training.run_folder import write_atomically, write_json


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write JSON, Markdown and LaTeX into the folder of a comparison.

    Args:
        comparison: what was found.
        folder: is there already.
    """
    write_json(folder / "comparison.json", comparison.to_json())
    write_atomically(folder / "comparison.md", markdown(comparison).encode())
    write_atomically(folder / "comparison.tex", latex(comparison).encode())


def write_plot(comparison: Comparison, folder: Path) -> None:
    """Write the plot into the folder of a comparison, as PNG and as SVG.

    Args:
        comparison: what was found.
        folder: is there already.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    for kind, content in plot_files(comparison).items():
        write_atomically(folder / f"comparison.{kind}", content)
