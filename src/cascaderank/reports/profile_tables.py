"""Tables of serving cost, at most 80 characters wide."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cascaderank.evaluation.profile import Profile, Timing

if TYPE_CHECKING:
    from rich.table import Table


def profile_tables(profile: Profile) -> tuple["Table", ...]:
    """Return tables of operation counts, of latencies, and of a request through the cascade."""
    return _counts(profile), _times(profile), _walks(profile)


def tradeoff_table(found: Mapping[str, tuple[float, Profile]]) -> "Table":
    """Return a table of joint recall and cost, one row per run.

    The cost is that of a request with the largest number of candidates profiled.

    Args:
        found: joint recall (NaN if undefined) and profile, by name of the run.
    """
    from rich.markup import escape

    longest = max((p.walks[-1].candidates for _, p in found.values()), default=0)
    table = _table(f"Recall and cost of a request with {longest:,} candidates", "run")
    for heading in ("joint\nrecall", "para-\nmeters", "multiply-\nadds", "look-\nups", *_LATENCY):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, (recall, profile) in found.items():
        walk = profile.walks[-1]
        table.add_row(
            escape(name),
            "-" if math.isnan(recall) else f"{recall:.4f}",
            short(profile.parameters),
            short(walk.multiply_adds),
            short(walk.look_ups),
            *_latency(walk.timing),
        )
    return table


def short(count: int) -> str:
    """Format a count; from 10,000, with four significant digits and a unit (K, M, G, T).

    Examples:
        >>> short(9_999), short(12_345), short(2_500_000_000)
        ('9,999', '12.35 K', '2.5 G')
    """
    if count < 10_000:
        return f"{count:,}"
    power = next(p for p in (4, 3, 2, 1) if count >= 1000**p)
    return f"{count / 1000**power:.4g} {' KMGT'[power]}"


_LATENCY = ("p50\nms", "p99\nms")


def _counts(profile: Profile) -> "Table":
    from rich.markup import escape

    table = _table(f"Operations of each stage (histories of {profile.history:,})", "stage")
    table.add_column("model", max_width=20, overflow="fold")
    for heading in (
        "para-\nmeters",
        "multiply-\nadds per\nrequest",
        "per\ncandidate",
        "look-ups\nper\nrequest",
        "per\ncandidate",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, stage in profile.stages.items():
        products, rows = stage.multiply_adds, stage.look_ups
        counts = (products.per_request, products.per_candidate, rows.per_request)
        table.add_row(
            escape(name),
            stage.model,
            short(stage.parameters),
            *map(short, (*counts, rows.per_candidate)),
        )
    return table


def _times(profile: Profile) -> "Table":
    from rich.markup import escape

    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    table = _table(f"Latency ({profile.machine}, {threads})", "stage")
    for heading in (
        "requests\nat once",
        "candi-\ndates",
        "µs per\ncandidate",
        "candidates\nper second",
        *_LATENCY,
        "calls",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, stage in profile.stages.items():
        for i, timing in enumerate(stage.timings):
            table.add_row(
                "" if i else escape(name),
                f"{timing.requests:,}",
                f"{timing.candidates:,}",
                f"{timing.microseconds_per_candidate:,.3f}",
                short(round(timing.candidates_per_second)),
                *_latency(timing),
                f"{timing.calls:,}",
            )
    return table


def _walks(profile: Profile) -> "Table":
    table = _table("A request through the cascade", None)
    for heading in ("candi-\ndates", "multiply-\nadds", "look-\nups", *_LATENCY, "calls"):
        table.add_column(heading, justify="right", no_wrap=True)
    for walk in profile.walks:
        table.add_row(
            f"{walk.candidates:,}",
            short(walk.multiply_adds),
            short(walk.look_ups),
            *_latency(walk.timing),
            f"{walk.timing.calls:,}",
        )
    return table


def _table(title: str, first: str | None) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    if first is not None:
        table.add_column(first, max_width=28, overflow="fold")
    return table


def _latency(timing: Timing) -> tuple[str, str]:
    return _milliseconds(timing.p50), _milliseconds(timing.p99)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.{3 if seconds < 0.1 else 1}f}"
