"""``cascaderank profile``: what runs cost to serve."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascaderank.cli.shell import AsJson, Bars, emit, emit_json, numbers, say, user_errors
from cascaderank.errors import ConfigError

if TYPE_CHECKING:
    from cascaderank.evaluation.profile import Profile


@user_errors
def profile(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders that `train` wrote.")
    ],
    lists: Annotated[
        str, typer.Option(help="Candidates of a request, with commas.")
    ] = "10,100,1000",
    batch: Annotated[int, typer.Option(min=1, help="Requests at once, beside single ones.")] = 16,
    history: Annotated[
        int | None,
        typer.Option(min=1, help="Entries of histories; those the run kept if not given."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long each cell is timed, roughly.")] = 0.5,
    plot: Annotated[
        Path | None, typer.Option(help="PNG to draw recall against cost in; extra `report`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what each stage of a run does per request and candidate, and how long it takes here.

    Times are of made-up requests, scored on the CPU of this machine. Several runs are set side by
    side, with the recall that each had on its test requests.
    """
    from rich.text import Text

    from cascaderank.evaluation.profile import cells, profile_cascade
    from cascaderank.extras import require
    from cascaderank.reports.profile_tables import profile_tables, tradeoff_table
    from cascaderank.runs.folder import read_json
    from cascaderank.runs.load import load_run

    if plot is not None:
        require("matplotlib", extra="report")  # before minutes of timing
    lengths = sorted(set(numbers("--lists", lists)))
    found = {}
    with Bars() as bars:
        loaded = {
            str(path): (run, read_json(run.folder.report)["test"])
            for path in runs
            for run in [load_run(path)]
        }
        for name, (run, test) in loaded.items():
            bars.start("timing", cells(len(run.cascade.stages), lists=len(lengths), batch=batch))
            of = profile_cascade(
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
            found[name] = float("nan") if recall is None else float(recall), of
    if as_json:
        emit_json({"runs": [_told(name, recall, of) for name, (recall, of) in found.items()]})
    else:
        for name, (_, of) in found.items():
            if len(found) > 1:
                emit(Text(f"{name}\n", style="bold"))
            emit(*profile_tables(of))
        if len(found) > 1:
            emit(tradeoff_table(found))
    if plot is not None:
        _draw(plot, found)


def _told(run: str, recall: float, of: "Profile") -> dict[str, object]:
    return {"run": run, "joint_recall": None if math.isnan(recall) else recall, **of.to_json()}


def _draw(path: Path, found: Mapping[str, tuple[float, "Profile"]]) -> None:
    from cascaderank.reports.profile_plot import profile_png

    content = profile_png(found)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(
            f"--plot: {path} cannot be written: {error.strerror or error}; name another file"
        ) from None
    say(f"recall against cost is drawn in {path}")
