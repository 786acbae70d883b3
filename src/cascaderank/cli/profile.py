"""``cascaderank profile``: the serving cost of runs."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascaderank.cli.shell import (
    AsJson,
    Bars,
    emit,
    emit_json,
    finite,
    notify,
    numbers,
    user_errors,
)
from cascaderank.limits import LARGEST

if TYPE_CHECKING:
    from cascaderank.evaluation.profile import Profile


@user_errors
def profile(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of complete runs.")],
    lists: Annotated[
        str, typer.Option(help="Numbers of candidates per request, separated by commas.")
    ] = "10,100,1000",
    batch: Annotated[
        int,
        typer.Option(
            min=1, max=LARGEST, help="Requests per batch, timed in addition to single requests."
        ),
    ] = 16,
    history: Annotated[
        int | None,
        typer.Option(
            min=1, max=LARGEST, help="Entries per history. Default: data.history_length of the run."
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            min=1e-6,
            max=86_400,
            callback=finite,
            help="Approximate duration of each measurement, in seconds.",
        ),
    ] = 0.5,
    plot: Annotated[
        Path | None,
        typer.Option(help="PNG file for a plot of recall against cost; needs the extra `report`."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --plot if it exists.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Count the operations of each stage of a run, and measure its latency on this machine.

    Latencies are measured on the CPU with synthetic requests. Several runs are compared, with their
    recall on the test requests.
    """
    from rich.text import Text

    from cascaderank.evaluation.profile import cells, profile_cascade
    from cascaderank.extras import require
    from cascaderank.reports.profile_tables import profile_tables, tradeoff_table
    from cascaderank.runs.folder import read_json
    from cascaderank.runs.load import load_run
    from cascaderank.runs.new_files import check_free

    if plot is not None:
        check_free([plot], overwrite=overwrite)
        require("matplotlib", extra="report")  # fail before minutes of measurement
    lengths = sorted(set(numbers("--lists", lists)))
    profiles = {}
    with Bars() as bars:
        loaded = {
            str(path): (run, read_json(run.folder.report)["test"])
            for path in runs
            for run in [load_run(path)]
        }
        for name, (run, test) in loaded.items():
            bars.start("timing", cells(len(run.cascade.stages), lists=len(lengths), batch=batch))
            result = profile_cascade(
                run.cascade,
                run.schema,
                lists=lengths,
                batch=batch,
                history=run.settings.data.history_length if history is None else history,
                seconds=seconds,
                progress=bars.advance,
            )
            bars.stop()
            recall = test["metrics"]["joint_recall"]["mean"]
            profiles[name] = float("nan") if recall is None else float(recall), result
    if as_json:
        emit_json({"runs": [_record(name, *profiled) for name, profiled in profiles.items()]})
    else:
        for name, (_, result) in profiles.items():
            if len(profiles) > 1:
                emit(Text(f"{name}\n", style="bold"))
            emit(*profile_tables(result))
        if len(profiles) > 1:
            emit(tradeoff_table(profiles))
    if plot is not None:
        _plot(plot, profiles)


def _record(run: str, recall: float, result: "Profile") -> dict[str, object]:
    return {"run": run, "joint_recall": None if math.isnan(recall) else recall, **result.to_json()}


def _plot(path: Path, profiles: Mapping[str, tuple[float, "Profile"]]) -> None:
    from cascaderank.reports.profile_plot import profile_png
    from cascaderank.runs.new_files import new_file

    content = profile_png(profiles)
    with new_file(path) as hidden:
        hidden.write_bytes(content)
    notify(f"wrote the plot to {path}")
