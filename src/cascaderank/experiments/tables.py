"""A comparison as a table that fits 100 columns."""

import re

from rich import box
from rich.markup import escape
from rich.table import Table

from cascaderank.experiments.summary import Comparison


def comparison_table(comparison: Comparison) -> Table:
    """Lay out a comparison: a row per method, a column per stage.

    Args:
        comparison: what :func:`~cascaderank.experiments.compare.compare` gave.

    Returns:
        A table for ``rich`` to print.
    """
    c = comparison
    first = next((m.name for m in c.methods if m.gain is None and m.seconds is not None), "")
    caption = (
        "Recall of the ground truth. [..]: 95 % interval over requests; ±: deviation over seeds.\n"
        f"Stage columns: in the stage's own top over the whole list. Gain: over {first}."
    )
    if c.undefined:
        caption += f"\n{c.undefined} requests without ground truth are left out."
    table = Table(
        title=f"{c.dataset}: {c.requests} test requests, {c.folds} fold(s), {c.seeds} seed(s)",
        caption=escape(caption),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
        caption_justify="left",
        width=100,
    )
    table.add_column("method", no_wrap=True)
    table.add_column("joint recall", justify="right", no_wrap=True)
    stages = list(c.methods[0].stage_recall) if c.methods else []
    for stage in stages:
        table.add_column(stage, justify="right", no_wrap=True)
    table.add_column("of\nceiling", justify="right", no_wrap=True)
    table.add_column("gain", justify="right", no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    for m in c.methods:
        cells = [
            m.name,
            _with_interval(m.joint_recall, m.low, m.high, deviation=m.seed_deviation),
            *(_number(m.stage_recall[stage]) for stage in stages),
            "" if m.share_of_ceiling is None else f"{m.share_of_ceiling:.0%}",
            _with_interval(m.gain, m.gain_low, m.gain_high, sign="+"),
            "" if m.seconds is None else f"{m.seconds:.0f}",
        ]
        table.add_row(*map(escape, cells))
    table.add_section()
    table.add_row(f"ceiling ({c.ceiling_kind})", _number(c.ceiling))
    return table


def _with_interval(
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    deviation: float | None = None,
    sign: str = "",
) -> str:
    if value is None or low is None or high is None:
        return ""
    around = "" if deviation is None else f" ± {_number(deviation)}"
    ends = f"[{_number(low, places=3)}, {_number(high, places=3)}]"
    return f"{_number(value, sign=sign)}{around}\n{ends}"


def _number(value: float | None, *, sign: str = "", places: int = 4) -> str:
    """As tables of the field write shares: without the zero before the point."""
    return "" if value is None else re.sub(r"^([+-]?)0\.", r"\1.", f"{value:{sign}.{places}f}")
