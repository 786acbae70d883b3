"""Compare the time of this library with peers, with claimed growth, and with lower bounds.

`make bench` runs all groups and writes the measured part of `docs/performance.md`. The two
implementations of a pair run alternately, so that other load slows both; times are medians. The
agreement of their results is checked first.
"""

import argparse
import json
from pathlib import Path
from time import perf_counter

import torch

from comparisons import loader_rows, loss_rows, metric_rows, step_rows, top_k_rows
from floor import floors, measured_rates
from growth import growth_series
from measuring import Bench, log_progress, machine
from tables import (
    MEASURED,
    Table,
    as_json,
    floor_table,
    growth_table,
    heading,
    markdown,
    row_table,
    text,
    write,
)

BESIDE = {
    "top_k": ("Top k and objectives, forward and backward", top_k_rows),
    "losses": ("Losses of learning to rank, forward and backward", loss_rows),
    "metrics": ("Metrics, forward", metric_rows),
    "step": ("Training", step_rows),
    "loader": ("Batches of 256", loader_rows),
}
GROUPS = (*BESIDE, "growth", "floor")


def main() -> None:
    arguments = parsed()
    torch.manual_seed(0)
    start, environment = perf_counter(), machine()
    turns, seconds = (5, 0.5) if arguments.quick else (9, 2.0)
    bench = Bench(turns, seconds, arguments.scale, arguments.quick, arguments.processor)
    environment["clock"] = "processor time" if arguments.processor else "wall-clock time"
    if arguments.quick:
        environment["clock"] = f"{environment['clock']}; a quick run: fewer rows, sizes and turns"
    results: dict[str, object] = {"machine": environment, "quick": arguments.quick}
    tables: list[Table] = []
    if not arguments.json:
        print(heading(environment))
    for group in arguments.only:
        table, results[group] = measured(group, bench)
        tables.append(table)
        if not arguments.json:
            print(f"\n{text(table)}", flush=True)
    results["seconds"] = round(perf_counter() - start)
    log_progress(f"{results['seconds']} s")
    if arguments.json:
        print(json.dumps(results, indent=1, allow_nan=False))
    if arguments.page:
        write(arguments.page, MEASURED, heading(environment), map(markdown, tables))


def measured(group: str, bench: Bench) -> tuple[Table, object]:
    """Return the results of a group as a table and as JSON-compatible values."""
    if group == "growth":
        series = list(growth_series(bench))
        return growth_table(series), [as_json(one) for one in series]
    if group == "floor":
        rates, rows = measured_rates(bench), list(floors(bench))
        values = [{**as_json(row), "milliseconds": row.milliseconds(rates)} for row in rows]
        return floor_table(rows, rates), {"rates": as_json(rates), "rows": values}
    title, rows_of = BESIDE[group]
    compared = list(rows_of(bench))
    return row_table(title, compared), [as_json(row) for row in compared]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only",
        type=lambda words: words.split(","),
        default=list(GROUPS),
        help=f"some of {','.join(GROUPS)}",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rows and turns")
    parser.add_argument(
        "--processor", action="store_true", help="measure processor time, for a shared machine"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--page", type=Path, help="page whose measured part is replaced")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the lists of a batch")
    arguments = parser.parse_args()
    if unknown := [group for group in arguments.only if group not in GROUPS]:
        parser.error(f"--only: no group '{unknown[0]}'; there are {', '.join(GROUPS)}")
    if arguments.scale <= 0:
        parser.error(f"--scale must be positive; got {arguments.scale}")
    if arguments.page and (arguments.only != list(GROUPS) or arguments.scale != 1):
        parser.error("--page takes all groups and whole batches: omit --only and --scale")
    return arguments


if __name__ == "__main__":
    main()
