"""Tables of a comparison for the terminal, at most 80 characters wide."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from cascaderank.experiments.against_reference import ComparedMetric
from cascaderank.experiments.metric_results import DECIDED, StageMetric
from cascaderank.experiments.results import Comparison
from cascaderank.experiments.retrieval_metrics import SearchMetric
from cascaderank.reports import cells
from cascaderank.reports.table_width import WIDTH, column_groups

_LONGEST_HEADING = 24  # longer names of stages and metrics are folded


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Return the tables of a comparison: recall, by day, final list, stages, retrieval, and cost.

    Args:
        comparison: result of :func:`~cascaderank.experiments.compare.compare`.

    Returns:
        Tables for ``rich``, each with one row per method.
    """
    return [
        recall_table(comparison),
        *day_tables(comparison),
        *final_tables(comparison),
        *stage_tables(comparison),
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
        style = "bold" if m.name == best else None
        table.add_row(*map(escape, [cells.name(m), *row]), style=style)
    table.add_section()
    table.add_row(escape(f"ceiling ({c.ceiling_kind})"), cells.share(c.ceiling))
    return table


def day_tables(comparison: Comparison) -> list[Table]:
    """Return tables of joint recall by test day; none if the folds are no days."""
    headings = [day.replace("-", "-\n", 1) for day in cells.days(comparison)]
    if not headings:
        return []
    rows = {cells.name(m): [cells.share(r) for r in m.by_fold] for m in comparison.methods}
    return _tables_of("\nJoint recall by test day", "Means over seeds.", headings, rows)


def final_tables(comparison: Comparison) -> list[Table]:
    """Return tables of the metrics of the list that the cascade returns, with gains and p."""
    methods = comparison.methods
    metrics = methods[0].final_metrics if methods else ()
    headings = [final_heading(v.metric).replace(" ", "\n", 1) for v in metrics]
    rows = {cells.name(m): [_tested_cell(v) for v in m.final_metrics] for m in methods}
    lines = ["[..]: interval; below it the gain, then p of the paired test."]
    lines += [
        f"decided: over the {v.requests:,} of {comparison.requests:,} requests with more "
        "candidates than\nthe last quota; in the others no candidate is cut."
        for v in metrics
        if v.metric == DECIDED
    ]
    lines.append(
        "What a stage cuts is not retrieved; ideal DCG and ground truth: over all\n"
        "candidates. NDCG linear: cut off at the size of the ground truth, if it has one."
    )
    return _tables_of("\nFinal list, which the cascade returns", "\n".join(lines), headings, rows)


def final_heading(metric: str) -> str:
    """Return the heading of a metric of the final list.

    Examples:
        >>> final_heading("joint_recall_decided"), final_heading("ndcg@10")
        ('decided joint recall', 'ndcg@10')
    """
    return {DECIDED: "decided joint recall", "ndcg_linear": "NDCG linear"}.get(metric, metric)


def stage_tables(comparison: Comparison) -> list[Table]:
    """Return tables of recall and NDCG of each stage, and of the ground truth between stages."""
    with_ndcg = cells.shows_ndcg(comparison)
    caption = (
        "recall, NDCG: of the stage alone over all candidates, at its quota and at the\n"
        "size of the ground truth, linear gain; not of the final list."
        if with_ndcg
        else "recall: of the stage alone over all candidates, at its quota."
    )
    methods = comparison.methods
    stages = list(methods[0].stage_recall) if methods else []
    # Survival equals the recall of the stage after the first, and the joint recall after the last.
    between = stages[1:-1]
    if between:
        caption += "\nalive: share of the ground truth that remains after the stage."
    headings = [
        f"{stage}\nrecall" + "  NDCG" * with_ndcg + " alive" * (stage in between)
        for stage in stages
    ]
    rows = {}
    for m in methods:
        values = {s: [m.stage_recall[s], *[m.stage_ndcg[s]] * with_ndcg] for s in stages}
        for stage in between:
            values[stage].append(m.stage_survival[stage])
        rows[cells.name(m)] = [
            " ".join(f"{cells.share(v):>5}" for v in values[stage]) for stage in stages
        ]
    return _tables_of("\nStages", caption, headings, rows)


def metric_tables(comparison: Comparison) -> list[Table]:
    """Return tables of the additional metrics of single stages over all candidates, with gains."""
    methods = comparison.methods
    metrics = methods[0].stage_metrics if methods else ()
    several = len({v.stage for v in metrics}) > 1
    headings = [f"{v.stage}\n{v.metric}" if several else v.metric for v in metrics]
    rows = {cells.name(m): [_metric_cell(v) for v in m.stage_metrics] for m in methods}
    caption = (
        "[..]: interval; below it the gain, if any. Also candidates that an earlier stage\n"
        "cuts are ranked: not of the final list."
    )
    return _tables_of("\nSingle stages over all candidates", caption, headings, rows)


def _tested_cell(v: ComparedMetric | SearchMetric) -> str:
    p = "" if v.p_holm is None else f"p {cells.p_value(v.p_holm)}"
    return "\n".join(line for line in (_metric_cell(v), p) if line)


def _metric_cell(v: ComparedMetric | StageMetric | SearchMetric) -> str:
    gain = f"{cells.share(v.gain, sign='+')} {cells.interval(v.gain_low, v.gain_high, sign='+')}"
    lines = [f"{cells.share(v.mean)} {cells.interval(v.low, v.high)}", gain]
    return "\n".join(line.strip() for line in lines if line.strip())


def search_tables(comparison: Comparison) -> list[Table]:
    """Return tables of full-catalogue retrieval of the first stage, with intervals, gains and p."""
    methods = [m for m in comparison.methods if m.search]
    headings = [v.metric for v in methods[0].search] if methods else []
    rows = {m.name: [_tested_cell(v) for v in m.search] for m in methods}
    caption = (
        "[..]: interval; below it the gain, then p of Welch's t test over repeated runs,\n"
        "Holm-adjusted; it generalises to other seeds, not to other requests."
    )
    return _tables_of("\nSearch of all items by the first stage", caption, headings, rows)


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
    longest = max(len("method"), *(len(cells.name(m)) for m in rows))
    names.ratio, names.width = None, min(20, longest)
    table.add_column(
        "chosen" * tuned, overflow="fold", ratio=1
    )  # an empty column takes the remaining width
    for m in rows:
        row = [cells.name(m), cells.seconds(m.seconds), cells.megabytes(m.peak_memory)]
        row += [cells.evaluated_points(m), cells.chosen(m, between="\n")] * tuned
        table.add_row(*map(escape, row))
    return table


def _table(title: str, caption: str) -> Table:
    table = Table(
        title=escape(title),
        caption=escape(caption) or None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        width=WIDTH,
    )
    table.add_column("method", overflow="fold", ratio=1)
    return table


def _tables_of(
    title: str, caption: str, headings: Sequence[str], rows: Mapping[str, Sequence[str]]
) -> list[Table]:
    """Return as many tables as the columns need; rows are given by the name of the method."""
    columns = [[heading, *(row[i] for row in rows.values())] for i, heading in enumerate(headings)]
    widths = [max(map(_width, column)) for column in columns]
    groups = column_groups(widths)
    tables = []
    for chosen in groups:
        table = _table(title, caption if chosen is groups[-1] else "")
        for heading, width in zip(headings[chosen], widths[chosen], strict=True):
            table.add_column(escape(heading), justify="right", overflow="fold", width=width)
        for name, row in rows.items():
            table.add_row(*map(escape, [name, *row[chosen]]))
        tables.append(table)
    return tables


def _width(text: str) -> int:
    """Return the width of a cell, whose lines are folded at the longest heading."""
    return min(_LONGEST_HEADING, max(map(len, text.splitlines()), default=0))
