"""``cascaderank demo``: simulate, train, compare."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.interrupts import after_interrupt, kept_data_set, kept_runs
from cascaderank.cli.shell import AsJson, Bars, Changes, emit, emit_json, notify, user_errors
from cascaderank.limits import LARGEST


@user_errors
def demo(
    run: Annotated[Path, typer.Option(help="Folder of the data set and the runs.")] = Path(
        "runs/demo"
    ),
    requests: Annotated[
        int, typer.Option(min=100, max=LARGEST, help="Number of requests to simulate.")
    ] = 20_000,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a two-stage funnel, and compare LCRON with independently trained stages (bce)."""
    from cascaderank.data.sources import SOURCES
    from cascaderank.experiments.compare import compare
    from cascaderank.reports.comparison_files import write_comparison
    from cascaderank.reports.comparison_tables import comparison_tables
    from cascaderank.settings.run import read_settings

    log = run / "log"
    after_interrupt(kept_data_set(log))
    after_interrupt(lambda: kept_runs(run / "runs"))
    settings = read_settings(
        Path(__file__).with_name("demo.toml"), [f"data.path={log}", *(changes or [])]
    )
    if not (log / "manifest.json").exists():
        notify("simulating a two-stage funnel ...")
        SOURCES["synthetic"](None, log, requests=requests, name="synthetic funnel")
    with Bars() as bars:
        result = compare(settings, run / "runs", progress=bars)
    write_comparison(result, run / "runs")
    if as_json:
        emit_json(result.to_json())
        return
    emit(*comparison_tables(result))
    notify(f"wrote the data set to {log} and the runs to {run / 'runs'}")
