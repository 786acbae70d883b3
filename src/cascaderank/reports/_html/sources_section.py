"""Section on how the numbers were made: methods, seeds, versions, commands and settings."""

from typing import Any

from cascaderank import __version__
from cascaderank.regular_files import read_file
from cascaderank.reports._html.blocks import DataTable, Section
from cascaderank.reports._html.reported_run import ReportedRun


def sources_section(reported: ReportedRun, *, dataset: str) -> Section:
    """Return the section on methods, seeds, versions and commands of a run.

    Args:
        reported: the run.
        dataset: folder of the data set that the report was made with.
    """
    environment, test = reported.environment, reported.test
    packages = environment.get("packages", {})
    rows = [
        ("Run", str(reported.path)),
        ("Data set", f"{reported.dataset['name']}, {dataset}"),
        ("Fingerprint of the data", reported.dataset["fingerprint"]),
        ("Objective", reported.settings.objective.name),
        ("Seed of training", str(environment.get("seed", "-"))),
        (
            "Device and threads",
            f"{environment.get('device', '-')}, {environment.get('threads', '-')}",
        ),
        ("Python", str(environment.get("python", "-"))),
        ("Packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
        ("Git commit", _commit(environment.get("git"))),
        ("Report written by", f"cascaderank {__version__}"),
    ]
    return Section(
        key="sources",
        title="Methods, seeds, versions and commands",
        tables=(
            DataTable(
                caption="How the numbers were made",
                head=("What", "Value"),
                rows=tuple(rows),
                text_columns=2,
            ),
        ),
        notes=(
            f"Intervals: percentile bootstrap over requests, {test.bootstrap:,} replicates, seed "
            f"{reported.settings.evaluation.seed}, level {test.confidence:g}. They do not cover "
            "the variation between training seeds; cascaderank compare with several seeds does.",
            "Slices: one-sided permutation tests by the first three moments, Holm-adjusted over "
            "all slices.",
        ),
        listings=(
            (
                "Commands",
                f"cascaderank train config.toml --run {reported.path}\n"
                f"cascaderank evaluate {reported.path} {dataset}\n"
                f"cascaderank report {reported.path} --to report.html",
            ),
            ("Settings of the run (config.toml)", read_file(reported.run.folder.config).decode()),
        ),
    )


def _commit(git: Any) -> str:
    if not isinstance(git, dict):
        return str(git) if git else "-"
    return f"{git.get('commit') or '-'}{', with uncommitted changes' if git.get('changed') else ''}"
