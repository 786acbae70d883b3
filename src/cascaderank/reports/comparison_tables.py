"""Tables of a comparison for the terminal, at most 100 characters wide."""

from rich import box
from rich.markup import escape
from rich.table import Table

from cascaderank.experiments.metric_results import StageMetric
from cascaderank.experiments.results import Comparison
from cascaderank.experiments.retrieval_metrics import SearchMetric
from cascaderank.reports import cells

_METRICS_PER_TABLE = 3  # as fit into 100 characters


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Return the tables of a comparison: recall, stages, additional metrics, retrieval, and cost.

    Args:
        comparison: result of :func:`~cascaderank.experiments.compare.compare`.

    Returns:
        Tables for ``rich``, each with one row per method.
    """
    return [
        recall_table(comparison),
        stage_table(comparison),
        *metric_tables(comparison),
        *search_tables(comparison),
        cost_table(comparison),
    ]


def recall_table(comparison: Comparison) -> Table:
    """Return a table of joint recall, published values and gains over the reference."""
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
    """Return a table of recall and NDCG of each stage, and of the ground truth between stages."""
    caption = (
        "recall, NDCG: of the stage alone over the whole list, at its quota and at the size of the "
        "ground\ntruth, linear gain."
    )
    table = _table("\nStages", caption)
    stages = list(comparison.methods[0].stage_recall) if comparison.methods else []
    # Survival equals the recall of the stage after the first, and the joint recall after the last.
    between = stages[1:-1]
    if between:
        table.caption = f"{caption} alive: share of the ground truth that remains after it."
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
    """Return tables of the additional metrics of single stages, with intervals and gains."""
    methods = comparison.methods
    count = len(methods[0].stage_metrics) if methods else 0
    tables = []
    for start in range(0, count, _METRICS_PER_TABLE):
        chosen = slice(start, start + _METRICS_PER_TABLE)
        caption = "[..]: interval; below it the gain, if any."
        table = _table("\nMetrics of single stages", caption)
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
    """Return tables of full-catalogue retrieval of the first stage, with intervals, gains and p."""
    methods = [m for m in comparison.methods if m.search]
    count = len(methods[0].search) if methods else 0
    tables = []
    for start in range(0, count, _METRICS_PER_TABLE):
        chosen = slice(start, start + _METRICS_PER_TABLE)
        caption = (
            "[..]: interval; below it the gain, then p of Welch's t test over repeated runs,\n"
            "Holm-adjusted; it generalises to other seeds, not to other requests."
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
    """Return a table of training cost and tuning of the evaluated runs."""
    rows = [m for m in comparison.methods if m.trained or m.tuning]
    tuned = any(cells.chosen(m) for m in rows)
    caption = "s, MB: mean seconds and maximum memory of training an evaluated run."
    if tuned:
        caption += "\ntried: points of the grid; the chosen one has the highest validation recall."
    if any(cells.at_edge(m) for m in rows):
        caption += f"\n{cells.EDGE}."
    table = _table("\nCost and tuning" if tuned else "\nCost", caption)
    for column in ("s", "MB", *["tried"] * tuned):
        table.add_column(column, justify="right", no_wrap=True)
    names = table.columns[0]
    names.ratio, names.width = None, min(28, max(len("method"), *(len(m.name) for m in rows)))
    table.add_column(
        "chosen" * tuned, overflow="fold", ratio=1
    )  # an empty column takes the remaining width
    for m in rows:
        row = [m.name, cells.seconds(m.seconds), cells.megabytes(m.peak_memory)]
        row += [cells.evaluated_points(m), cells.chosen(m, between="\n")] * tuned
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
