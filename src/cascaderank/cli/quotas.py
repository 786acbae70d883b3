"""``cascaderank quotas``: how many candidates each stage should pass on, under a budget."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cascaderank.cli.interrupts import after_interrupt, kept_runs
from cascaderank.cli.shell import (
    AsJson,
    Bars,
    emit,
    emit_json,
    finite,
    notify,
    user_errors,
)
from cascaderank.errors import ConfigError
from cascaderank.limits import LARGEST

if TYPE_CHECKING:
    from cascaderank.evaluation.quotas import Goal, QuotaReport
    from cascaderank.evaluation.quotas.stage_costs import Unit


@user_errors
def quotas(
    run: Annotated[Path, typer.Argument(help="Folder of a complete run.")],
    dataset: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a data set with labels. Default: the one that the run was trained on."
        ),
    ] = None,
    budget_products: Annotated[
        float | None,
        typer.Option(callback=finite, help="Largest mean number of multiply-adds per request."),
    ] = None,
    budget_ms: Annotated[
        float | None,
        typer.Option(
            callback=finite,
            help="Largest mean milliseconds per request, measured on this machine as in `profile`.",
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(callback=finite, help="Joint recall to reach at the lowest cost."),
    ] = None,
    unit: Annotated[
        Literal["products", "ms"],
        typer.Option(help="Unit of cost without a budget: multiply-adds or milliseconds."),
    ] = "products",
    values: Annotated[
        int,
        typer.Option(
            min=2,
            max=10_000,
            help="Quotas to evaluate for each stage before the last two; refined to integers "
            "around the best.",
        ),
    ] = 40,
    requests: Annotated[
        int,
        typer.Option(
            min=1,
            max=LARGEST,
            help="Largest number of validation and of test requests; a random sample of more.",
        ),
    ] = 10_000,
    seconds: Annotated[
        float,
        typer.Option(
            min=1e-6,
            max=86_400,
            callback=finite,
            help="Duration of each measurement of milliseconds.",
        ),
    ] = 0.2,
    write: Annotated[
        Path | None, typer.Option(help="Config file to write: that of the run with these quotas.")
    ] = None,
    retrain: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a new run: trains again with these quotas, and compares both runs."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="PNG or SVG file for a plot of the front; needs the extra `report`."),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="CSV or Parquet file for the front.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files that exist.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Choose the quotas of a run: the highest recall under a budget, or the cheapest of a recall.

    Quotas are chosen on the validation requests and evaluated on the test requests. Without a
    budget or a recall, the budget is the cost of the present quotas.
    """
    from cascaderank.extras import require
    from cascaderank.reports.quota_tables import quota_tables, retrained_table
    from cascaderank.runs.load import load_run
    from cascaderank.runs.new_files import check_free, new_file
    from cascaderank.training.quota_run import (
        claim_retraining,
        retrain_with_quotas,
        run_quotas,
        with_quotas,
    )

    goal, unit = _goal(budget_products, budget_ms, recall, unit)
    check_free([path for path in (write, plot, to) if path is not None], overwrite=overwrite)
    _check_suffix("--plot", plot, (".png", ".svg"))
    _check_suffix("--to", to, (".csv", ".parquet"))
    if plot is not None:
        require("matplotlib", extra="report")  # fail before minutes of work
    with Bars() as bars:
        report = run_quotas(
            run,
            dataset,
            goal=goal,
            unit=unit,
            values=values,
            most=requests,
            seconds=seconds,
            progress=bars,
        )
    best = report.best.quotas
    if retrain is not None:
        claim_retraining(run, best, retrain)  # before anything is printed
    if not as_json:
        emit(*quota_tables(report))
    for path, what in ((plot, "plot"), (to, "front")):
        if path is not None:
            content = _plot(report, path) if what == "plot" else _front(report, path)
            with new_file(path) as hidden:
                hidden.write_bytes(content)
            notify(f"wrote the {what} to {path}")
    if write is not None:
        settings = with_quotas(load_run(run).settings, best)
        with new_file(write) as hidden:
            hidden.write_text(settings.to_toml(), encoding="utf-8")
        notify(f"wrote the config to {write}; train it with: cascaderank train {write}")
    retrained = None
    if retrain is not None:
        after_interrupt(lambda: kept_runs(retrain))
        with Bars() as bars:
            retrained = retrain_with_quotas(run, best, retrain, progress=bars)
        if not as_json:
            emit(retrained_table(retrained))
        notify(f"wrote the run to {retrain}")
    if as_json:
        again = {} if retrained is None else {"retrained": retrained.to_json()}
        emit_json({"run": str(run), **report.to_json(), **again})


def _goal(
    budget_products: float | None,
    budget_ms: float | None,
    recall: float | None,
    unit: "Unit",
) -> tuple["Goal | None", "Unit"]:
    """Return the goal of the options, and the unit of its cost.

    Raises:
        ConfigError: if there are several goals, or one is out of range.
    """
    from cascaderank.evaluation.quotas import Goal

    given = {"--budget-products": budget_products, "--budget-ms": budget_ms, "--recall": recall}
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) > 1:
        raise ConfigError(f"set one of {', '.join(given)}; got {' and '.join(chosen)}")
    for name, value in chosen.items():
        if name == "--recall":
            return Goal(kind="recall", value=value), unit
        return Goal(kind="budget", value=value), "ms" if name == "--budget-ms" else "products"
    return None, unit


def _check_suffix(option: str, path: Path | None, suffixes: tuple[str, ...]) -> None:
    if path is not None and path.suffix.lower() not in suffixes:
        raise ConfigError(
            f"{option}: the name of the file must end with {' or '.join(suffixes)}; got '{path}'"
        )


def _plot(report: "QuotaReport", path: Path) -> bytes:
    from cascaderank.reports.quota_plot import quota_plot

    return quota_plot(report, "svg" if path.suffix.lower() == ".svg" else "png")


def _front(report: "QuotaReport", path: Path) -> bytes:
    content = io.BytesIO()
    frame = report.frame()
    if path.suffix.lower() == ".csv":
        frame.write_csv(content)
    else:
        frame.write_parquet(content)
    return content.getvalue()
