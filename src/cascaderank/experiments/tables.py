"""A comparison as tables that fit 100 columns."""

from rich import box
from rich.markup import escape
from rich.table import Table

from cascaderank.experiments import cells
from cascaderank.experiments.search import SearchMetric
from cascaderank.experiments.summary import Comparison, StageMetric

_METRICS_AT_ONCE = 3  # as many as 100 columns hold


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Lay out a comparison: joint recall, stages, metrics asked for, search, and cost with tuning.

    Args:
        comparison: what :func:`~cascaderank.experiments.compare.compare` gave.

    Returns:
        Tables for ``rich`` to print, a row per method in each.
    """
    return [
        recall_table(comparison),
        stage_table(comparison),
        *metric_tables(comparison),
        *search_tables(comparison),
        cost_table(comparison),
    ]


def recall_table(comparison: Comparison) -> Table:
    """Joint recall with its interval, what a paper reports, and the gain over the reference."""
    c, best = comparison, cells.best(comparison)
    compared = any(m.gain is not None for m in c.methods)
    table = _table(cells.title(c), "\n".join(cells.notes(c)))
    columns = ["joint recall", *["published"] * bool(c.published), "of\nceiling"]
    for column in [*columns, *["gain", "p"] * compared]:
        table.add_column(column, justify="right", no_wrap=True)
    for m in c.methods:
        row = [f"{cells.with_deviation(m.joint_recall, m.seed_deviation)}"]
        row[0] += f"\n{cells.interval(m.low, m.high)}"
        if c.published:
            row.append(
                cells.with_deviation(m.published.mean, m.published.std) if m.published else ""
            )
        row.append("" if m.share_of_ceiling is None else f"{m.share_of_ceiling:.0%}")
        if compared:
            ends = cells.interval(m.gain_low, m.gain_high, sign="+")
            row += [f"{cells.share(m.gain, sign='+')}\n{ends}".strip(), cells.p_value(m.p_holm)]
        table.add_row(*map(escape, [m.name, *row]), style="bold" if m.name == best else None)
    table.add_section()
    table.add_row(escape(f"ceiling ({c.ceiling_kind})"), cells.share(c.ceiling))
    return table


def stage_table(comparison: Comparison) -> Table:
    """Of each stage its own recall and NDCG, and what is alive between stages."""
    caption = (
        "recall, NDCG: of the stage alone over the whole list, in its quota and at the size of the "
        "ground\ntruth, linear gain."
    )
    table = _table("\nStages", caption)
    stages = list(comparison.methods[0].stage_recall) if comparison.methods else []
    between = stages[1:-1]  # after the first its own recall is alive, after the last the joint one
    if between:
        table.caption = f"{caption} alive: ground truth left after it."
    for stage in stages:
        heading = "recall  NDCG" + " alive" * (stage in between)
        table.add_column(f"{escape(stage)}\n{heading}", justify="right", no_wrap=True)
    for m in comparison.methods:
        row = []
        for stage in stages:
            values = [m.stage_recall[stage], m.stage_ndcg[stage]]
            values += [m.stage_survival[stage]] * (stage in between)
            row.append(" ".join(f"{cells.share(v):>5}" for v in values))
        table.add_row(*map(escape, [m.name, *row]))
    return table


def metric_tables(comparison: Comparison) -> list[Table]:
    """The metrics that were asked for, each of a stage alone, with interval and gain."""
    methods = comparison.methods
    count = len(methods[0].stage_metrics) if methods else 0
    tables = []
    for start in range(0, count, _METRICS_AT_ONCE):
        chosen = slice(start, start + _METRICS_AT_ONCE)
        caption = "[..]: interval; below it the gain, if there is one."
        table = _table("\nMetrics of stages alone", caption)
        several = len({v.stage for v in methods[0].stage_metrics}) > 1
        for v in methods[0].stage_metrics[chosen]:
            heading = f"{escape(v.stage)}\n{v.metric}" if several else v.metric
            table.add_column(heading, justify="right", no_wrap=True)
        for m in methods:
            row = [_metric_cell(v) for v in m.stage_metrics[chosen]]
            table.add_row(*map(escape, [m.name, *row]))
        tables.append(table)
    return tables


def _metric_cell(v: StageMetric | SearchMetric) -> str:
    gain = f"{cells.share(v.gain, sign='+')} {cells.interval(v.gain_low, v.gain_high, sign='+')}"
    lines = [f"{cells.share(v.mean)} {cells.interval(v.low, v.high)}", gain]
    return "\n".join(line.strip() for line in lines if line.strip())


def search_tables(comparison: Comparison) -> list[Table]:
    """What the first stage finds among all items, with interval, gain and its p over runs."""
    methods = [m for m in comparison.methods if m.search]
    count = len(methods[0].search) if methods else 0
    tables = []
    for start in range(0, count, _METRICS_AT_ONCE):
        chosen = slice(start, start + _METRICS_AT_ONCE)
        caption = (
            "[..]: interval; below it the gain, then p of Welch's t test over repeated runs,\n"
            "Holm-adjusted: it knows other seeds, and not other requests."
        )
        table = _table("\nSearch of all items by the first stage", caption)
        for v in methods[0].search[chosen]:
            table.add_column(v.metric, justify="right", no_wrap=True)
        for m in methods:
            row = [_search_cell(v) for v in m.search[chosen]]
            table.add_row(*map(escape, [m.name, *row]))
        tables.append(table)
    return tables


def _search_cell(v: SearchMetric) -> str:
    p = "" if v.p_holm is None else f"p {cells.p_value(v.p_holm)}"
    return "\n".join(line for line in (_metric_cell(v), p) if line)


def cost_table(comparison: Comparison) -> Table:
    """What the judged runs cost, and how they came to be the judged ones."""
    rows = [m for m in comparison.methods if m.trained or m.tuning]
    tuned = any(cells.chosen(m) for m in rows)
    caption = "s, MB: of training a judged run; mean and largest."
    if tuned:
        caption += " tried: points of the grid; the chosen one did best on validation requests."
    if any(cells.at_edge(m) for m in rows):
        caption += f"\n{cells.EDGE}."
    table = _table("\nCost and tuning" if tuned else "\nCost", caption)
    for column in ("s", "MB", *["tried"] * tuned):
        table.add_column(column, justify="right", no_wrap=True)
    names = table.columns[0]
    names.ratio, names.width = None, min(28, max(len("method"), *(len(m.name) for m in rows)))
    table.add_column("chosen" * tuned, overflow="fold", ratio=1)  # else it keeps the rest narrow
    for m in rows:
        row = [m.name, cells.seconds(m.seconds), cells.megabytes(m.peak_memory)]
        row += [cells.tried(m), cells.chosen(m, between="\n")] * tuned
        table.add_row(*map(escape, row))
    return table


def _table(title: str, caption: str) -> Table:
    table = Table(
        title=escape(title),
        caption=escape(caption),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
        width=100,
    )
    table.add_column("method", overflow="fold", ratio=1)
    return table
