"""Train with components of one's own: `python train.py CSV FOLDER`, beside `my_loss.py` and others.

Importing a module registers its component under the name that `config.toml` uses. The imports come
before `read_settings`, which checks all names and options.
"""

import sys
from pathlib import Path

import my_loss  # noqa: F401 - registers the loss 'hinge'
import my_metric  # noqa: F401 - registers the metric 'rbp'
import my_source  # noqa: F401 - registers the source 'sessions'
import my_stage  # noqa: F401 - registers the stage 'bilinear'

from cascaderank import read_settings, train_run
from cascaderank.data.sources import SOURCES


def main(csv: Path, folder: Path) -> None:
    """Convert the CSV file to a request log, train on it, and print the report."""
    SOURCES["sessions"](csv, folder / "sessions", min_candidates=2)
    settings = read_settings(
        Path(__file__).with_name("config.toml"), [f"data.path={folder / 'sessions'}"]
    )
    result = train_run(settings, folder / "run")
    print(result.folder.report.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
