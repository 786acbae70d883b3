"""Heat maps of losses over (m, k), as tables for the terminal and of Markdown."""

from rich.markup import escape
from rich.table import Table

from cascaderank.errors import counted
from cascaderank.experiments.heatmap import Heatmap
from cascaderank.reports.table_width import column_groups


def heatmap_tables(found: Heatmap) -> list[Table]:
    """Return tables for the terminal; the best model of each column is bold.

    Args:
        found: result of :func:`~cascaderank.experiments.heatmap.heatmap`.
    """
    heads = [f"{m}@{k}" for m, k in found.grid]
    tables = []
    for result in found.losses:
        title = (
            f"{result.loss}: consistency {result.consistency:.2f}, regret {result.regret:.4f}\n"
            f"Recall@m@k, {found.requests:,} test requests, {_folds_and_seeds(found)}"
        )
        best = [max(column) for column in zip(*result.recall, strict=True)]
        for chosen in column_groups([max(len(head), 5) for head in heads]):
            table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False)
            table.add_column("trained for")
            for head in heads[chosen]:
                table.add_column(head, justify="right", no_wrap=True)
            for head, row in zip(heads, result.recall, strict=True):
                cells = zip(row[chosen], best[chosen], strict=True)
                table.add_row(head, *(f"[bold]{x:.3f}" if x == b else f"{x:.3f}" for x, b in cells))
            tables.append(table)
    return tables


def heatmap_markdown(found: Heatmap) -> str:
    """Return a heat map as Markdown tables, with the best model of each column in bold."""
    heads = [f"{a}@{b}" for a, b in found.grid]
    runs = _folds_and_seeds(found)
    lines = [f"**{found.dataset}: Recall@m@k, {found.requests:,} test requests, {runs}**"]
    for result in found.losses:
        lines += [
            "",
            f"`{result.loss}`: consistency {result.consistency:.2f}, regret {result.regret:.4f}",
            "",
            f"| trained for | {' | '.join(heads)} |",
            f"| :-- |{' --: |' * len(heads)}",
        ]
        best = [max(column) for column in zip(*result.recall, strict=True)]
        for head, row in zip(heads, result.recall, strict=True):
            texts = [
                f"**{x:.3f}**" if x == top else f"{x:.3f}" for x, top in zip(row, best, strict=True)
            ]
            lines.append(f"| {head} | {' | '.join(texts)} |")
    return "\n".join([*lines, ""])


def _folds_and_seeds(found: Heatmap) -> str:
    return f"{counted(found.folds, 'fold')}, {counted(found.seeds, 'seed')}"
