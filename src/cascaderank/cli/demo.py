"""``cascaderank demo``: the whole path in one command."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, Bars, Changes, emit, emit_json, say, user_errors


@user_errors
def demo(
    run: Annotated[Path, typer.Option(help="Folder of the demo.")] = Path("runs/demo"),
    requests: Annotated[int, typer.Option(min=100, help="How many to simulate.")] = 20_000,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a funnel, train LCRON and a baseline with equal budgets, and print the table."""
    from cascaderank.data.sources import SOURCES
    from cascaderank.experiments.compare import compare
    from cascaderank.reports.comparison_files import write_comparison
    from cascaderank.reports.comparison_tables import comparison_tables
    from cascaderank.settings.run import read_settings

    log = run / "log"
    settings = read_settings(
        Path(__file__).with_name("demo.toml"), [f"data.path={log}", *(changes or [])]
    )
    if not (log / "manifest.json").exists():
        say("simulating a funnel of two stages ...")
        SOURCES["synthetic"](None, log, requests=requests, name="synthetic funnel")
    with Bars() as bars:
        result = compare(settings, run / "runs", progress=bars)
    write_comparison(result, run / "runs")
    if as_json:
        emit_json(result.to_json())
        return
    emit(*comparison_tables(result))
    say(f"the log is in {log}, the runs in {run / 'runs'}")
