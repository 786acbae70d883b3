"""The files of a comparison, in its folder."""

from pathlib import Path

from cascaderank.experiments.summary import Comparison
from cascaderank.training.run_folder import write_json


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write ``comparison.json`` into the folder of a comparison.

    Args:
        comparison: what was found.
        folder: is there already.
    """
    write_json(folder / "comparison.json", comparison.to_json())
