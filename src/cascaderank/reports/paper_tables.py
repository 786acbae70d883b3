"""Tables of a comparison in Markdown and LaTeX."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cascaderank.experiments.against_reference import ComparedMetric
from cascaderank.experiments.metric_results import DECIDED
from cascaderank.experiments.results import Comparison, MethodResult
from cascaderank.reports import cells
from cascaderank.reports.comparison_tables import final_heading


def markdown(comparison: Comparison) -> str:
    """Return a comparison as GitHub Markdown tables, with the best trained method in bold.

    The tables are those of :func:`latex`, joint recall, the final list, and the stages, and joint
    recall by day if the folds are days.

    Args:
        comparison: result of the comparison.
    """
    c, lines = comparison, [f"**{_plain(cells.title(comparison))}**", ""]
    for table, columns in _tables(c).items():
        lines += [] if table == _RECALL else [f"{_plain(_CAPTIONS[table])}:", ""]
        lines += [*_markdown_table(c, table, columns), ""]
    chosen = [f"- {_plain(m.name)}: {_plain(_tuned(m))}" for m in c.methods if _tuned(m)]
    if chosen:
        edges = any(cells.at_edge(m) for m in c.methods)
        heading = "Chosen on validation requests" + f" ({cells.EDGE})" * edges
        lines += [f"{heading}:", "", *chosen, ""]
    return "\n".join([*lines, " ".join(map(_plain, cells.notes(c))), ""])


def _markdown_table(c: Comparison, table: str, columns: "Sequence[_Column]") -> list[str]:
    best = cells.best(c)
    lines = [
        _line(["method", *(_plain(f"{x.group} {x.name}".strip()) for x in columns)]),
        _line([":--", *["--:"] * len(columns)]),
    ]
    for m in c.methods:
        texts = [_plain(cells.name(m)), *(column.text(m) for column in columns)]
        if m.name == best:
            bold = 2 if table == _RECALL else 1
            texts[:bold] = [f"**{text}**" for text in texts[:bold]]
        lines.append(_line(texts))
    if table == _RECALL:
        ceiling = [f"ceiling ({c.ceiling_kind})", cells.share(c.ceiling)]
        lines.append(_line([*ceiling, *[""] * (len(columns) - 1)]))
    return lines


def latex(comparison: Comparison) -> str:
    r"""Return a comparison as LaTeX tables for ``\usepackage{booktabs}``.

    The first table has joint recall with its interval, the gain over the reference with an
    interval, and p. The second has the metrics of the final list, with gains and p, and the third
    the stages and the search of all items. The best trained method in each column of a metric is
    bold. Methods that are significantly better than the reference have a dagger, those that are
    significantly worse a double dagger; the caption defines both.

    Args:
        comparison: result of the comparison.
    """
    tables = [
        _latex_table(comparison, table, [x for x in columns if x.in_latex])
        for table, columns in _tables(comparison).items()
        if any(x.in_latex for x in columns)
    ]
    return "\n".join([r"% needs \usepackage{booktabs}", *tables])


def _latex_table(c: Comparison, table: str, columns: "Sequence[_Column]") -> str:
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(c, table)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        *_headings(columns),
        r"\midrule",
    ]
    groups = [[m for m in c.methods if not m.trained], [m for m in c.methods if m.trained]]
    for methods in filter(None, groups):
        if methods is groups[1] and groups[0]:
            lines.append(r"\midrule")
        for m in methods:
            texts = [_row_cell(c, column, m) for column in columns]
            if table == _RECALL:
                texts[0] += {"better": r"$^\dagger$", "worse": r"$^\ddagger$", "": ""}[
                    cells.mark(m)
                ]
            name = _escaped(m.name) + r"\textsuperscript{\S}" * m.sees_more
            lines.append(" & ".join([name, *texts]) + r" \\")
    if table == _RECALL:
        ceiling = [f"ceiling ({c.ceiling_kind})", cells.share(c.ceiling)]
        lines.append(r"\midrule")
        lines.append(" & ".join([*ceiling, *[""] * (len(columns) - 1)]).rstrip() + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join([*lines, ""])


_RECALL, _DAYS, _FINAL, _STAGES = "recall", "days", "final", "stages"
_DAGGERS = {"better": r"$^\dagger$", "worse": r"$^\ddagger$", "": ""}
_CAPTIONS = {
    _RECALL: "Joint recall with its standard deviation over seeds",
    _DAYS: "Joint recall by test day, mean over seeds",
    _FINAL: "Metrics of the final list, which the cascade returns: what a stage cuts is not "
    "retrieved; ideal DCG and ground truth are over all candidates",
    _STAGES: "Metrics of each stage alone over all candidates, also those that an earlier stage "
    "cuts",
}
"""Caption of each LaTeX table, in order."""


@dataclass(frozen=True, kw_only=True)
class _Column:
    name: str
    text: Callable[[MethodResult], str]
    group: str = ""
    """Common heading of adjacent columns, such as a stage; empty for none."""
    best_of: Callable[[MethodResult], float] | None = None
    """Value whose maximum is the best of the column; ``None`` if none is highlighted."""
    in_latex: bool = True
    """Whether the column is part of the LaTeX table."""


def _tables(c: Comparison) -> dict[str, list[_Column]]:
    """Columns of each table that has any."""
    tables = {
        _RECALL: _columns(c),
        _DAYS: _day_columns(c),
        _FINAL: _final_columns(c),
        _STAGES: _stage_columns(c),
    }
    return {table: columns for table, columns in tables.items() if columns}


def _columns(c: Comparison) -> list[_Column]:
    columns = [
        _Column(
            name="joint recall",
            text=lambda m: cells.with_deviation(m.joint_recall, m.seed_deviation),
            best_of=lambda m: m.joint_recall,
        ),
        _Column(
            name=f"{c.confidence:.0%} interval",
            text=lambda m: cells.interval(m.low, m.high),
        ),
    ]
    if c.published:
        columns.append(
            _Column(
                name="published",
                text=lambda m: (
                    cells.with_deviation(m.published.mean, m.published.std) if m.published else ""
                ),
            )
        )
    if any(m.gain is not None for m in c.methods):
        columns += [
            _Column(name="gain", text=_gain),
            _Column(name="p", text=lambda m: cells.p_value(m.p_holm)),
        ]
    return [
        *columns,
        _Column(name="s", text=lambda m: cells.seconds(m.seconds)),
        _Column(name="MB", text=lambda m: cells.megabytes(m.peak_memory), in_latex=False),
    ]


def _day_columns(c: Comparison) -> list[_Column]:
    return [
        _Column(
            name=day,
            text=lambda m, i=place: cells.share(m.by_fold[i]),  # type: ignore[misc]
            in_latex=False,  # too wide for a page; the plot has the same values
        )
        for place, day in enumerate(cells.days(c))
    ]


def _final_columns(c: Comparison) -> list[_Column]:
    columns = []
    for place, v in enumerate(c.methods[0].final_metrics if c.methods else ()):
        group = f"final {final_heading(v.metric)}"
        columns.append(
            _Column(
                name="",
                group=group,
                text=lambda m, i=place: cells.share(m.final_metrics[i].mean),  # type: ignore[misc]
                best_of=lambda m, i=place: m.final_metrics[i].mean,  # type: ignore[misc]
            )
        )
        if any(m.gain is not None for m in c.methods):
            columns += [
                _Column(
                    name="gain",
                    group=group,
                    text=lambda m, i=place: _gain(m.final_metrics[i]),  # type: ignore[misc]
                ),
                _Column(
                    name="p",
                    group=group,
                    text=lambda m, i=place: cells.p_value(m.final_metrics[i].p_holm),  # type: ignore[misc]
                ),
            ]
    return columns


def _stage_columns(c: Comparison) -> list[_Column]:
    columns = []
    for stage in c.methods[0].stage_recall if c.methods else ():
        columns.append(
            _Column(
                name="recall",
                group=stage,
                text=lambda m, stage=stage: cells.share(m.stage_recall[stage]),  # type: ignore[misc]
                best_of=lambda m, stage=stage: m.stage_recall[stage],  # type: ignore[misc]
            )
        )
        if cells.shows_ndcg(c):
            columns.append(
                _Column(
                    name="NDCG",
                    group=stage,
                    text=lambda m, stage=stage: cells.share(m.stage_ndcg[stage]),  # type: ignore[misc]
                    best_of=lambda m, stage=stage: m.stage_ndcg[stage],  # type: ignore[misc]
                )
            )
    for place, v in enumerate(c.methods[0].stage_metrics if c.methods else ()):
        columns.append(
            _Column(
                name=v.metric,
                group=v.stage,
                text=lambda m, i=place: cells.share(m.stage_metrics[i].mean),  # type: ignore[misc]
                best_of=lambda m, i=place: m.stage_metrics[i].mean,  # type: ignore[misc]
            )
        )
    for place, s in enumerate(next((m.search for m in c.methods if m.search), ())):
        columns.append(
            _Column(
                name=s.metric,
                group="all items",
                text=lambda m, i=place: (  # type: ignore[misc]
                    cells.with_deviation(m.search[i].mean, m.search[i].deviation)
                    if m.search
                    else ""
                ),
                best_of=lambda m, i=place: m.search[i].mean if m.search else math.nan,  # type: ignore[misc]
            )
        )
    return columns


def _gain(of: MethodResult | ComparedMetric) -> str:
    """Gain over the reference with its interval; empty if there is none."""
    ends = cells.interval(of.gain_low, of.gain_high, sign="+")
    return f"{cells.share(of.gain, sign='+')} {ends}".strip()


def _tuned(m: MethodResult) -> str:
    text, evaluated = cells.chosen(m), cells.evaluated_points(m)
    return text + f" (of {evaluated} tried)" * bool(text and evaluated)


def _row_cell(c: Comparison, column: _Column, m: MethodResult) -> str:
    text = _escaped(column.text(m)).replace(r" $\pm$ ", r"\,$\pm$\,")
    text = re.sub(r"-(?=[.\d])", "$-$", text)  # a minus sign, not a hyphen
    if column.best_of is None or not m.trained:
        return text
    value = column.best_of
    # The best is compared as printed: equal printed values are equally good.
    highest = max(
        (cells.share(value(o)) for o in c.methods if o.trained and value(o) == value(o)), default=""
    )
    return rf"\textbf{{{text}}}" if cells.share(value(m)) == highest else text


def _headings(columns: Sequence[_Column]) -> list[str]:
    """Heading lines: group headings over their columns, if any, and the column names."""
    spans: list[tuple[str, int, int]] = []
    for place, column in enumerate(columns, start=2):  # the first column is the method
        if column.group and spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1], place)
        elif column.group:
            spans.append((column.group, place, place))
    lines = []
    if spans:
        start, end = spans[0][1], spans[-1][2]
        over = [rf"\multicolumn{{{e - s + 1}}}{{c}}{{{_escaped(group)}}}" for group, s, e in spans]
        gaps = [""] * (start - 1) + over + [""] * (len(columns) + 1 - end)
        lines.append(" & ".join(gaps).rstrip() + r" \\")
        lines.append(" ".join(rf"\cmidrule(lr){{{s}-{e}}}" for _, s, e in spans))
    return [*lines, " & ".join(["method", *(_escaped(x.name) for x in columns)]) + r" \\"]


def _caption(c: Comparison, table: str) -> str:
    text = [f"{cells.title(c)}.", f"{_CAPTIONS[table]}."]
    if table != _STAGES and any(m.gain is not None for m in c.methods):
        text.append(
            f"Gain: over {c.reference}, with its {c.confidence:.0%} interval over requests and "
            "seeds; p: paired randomisation test over requests, Holm-adjusted."
        )
    if table == _RECALL and any(cells.mark(m) for m in c.methods):
        text.append(f"@dagger@ better, @ddagger@ worse than {c.reference}: {cells.MARKED}.")
    if any(m.sees_more for m in c.methods):
        text.append(f"{cells.SEES_MORE}: uses features that a stage of the cascade may not use.")
    if table == _FINAL:
        text += [
            f"decided: over the {v.requests:,} of {c.requests:,} requests with more candidates "
            "than the last quota."
            for v in c.methods[0].final_metrics
            if v.metric == DECIDED
        ]
    if table == _RECALL and c.published:
        text.append(f"Published: {c.published['source']}; {c.published['note']}.")
        if "ndcg" in c.published:
            text.append(f"{c.published['ndcg']}.")
    if c.undefined:
        text.append(f"{cells.excluded(c.undefined)}.")
    caption = _escaped(" ".join(text))
    return caption.replace("@dagger@", r"$^\dagger$").replace("@ddagger@", r"$^\ddagger$")


def _line(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _plain(text: str) -> str:
    """Escape the Markdown markup in a text."""
    text = " ".join(text.splitlines())
    return "".join(f"\\{letter}" if letter in r"\|*_`[]<>#$" else letter for letter in text)


_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "§": r"\S{}",
}


def _escaped(text: str) -> str:
    """Escape the LaTeX markup in a text."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.splitlines()))
