"""Tables of feature importance for the terminal, at most 80 characters wide."""

import math
from itertools import groupby

from rich.markup import escape
from rich.table import Table

from cascaderank.errors import counted
from cascaderank.evaluation import FeatureImportance, Importance
from cascaderank.reports.cells import excluded


def importance_tables(importance: Importance) -> list[Table]:
    """Return a table for each stage, with the losses of each feature, largest first.

    Args:
        importance: result of :func:`~cascaderank.evaluation.permutation_importance`.
    """
    tables = []
    for stage, features in groupby(importance.features, key=lambda f: f.stage):
        table = Table(
            title=f"\n{escape(stage)}: joint recall {importance.joint_recall:.4f}, "
            f"own recall {importance.recall[stage]:.4f}",
            title_justify="left",
            box=None,
            header_style="bold",
            pad_edge=False,
        )
        table.add_column("feature", overflow="fold", max_width=36)
        table.add_column("of", no_wrap=True)
        table.add_column("loss of\njoint recall", justify="right", no_wrap=True)
        table.add_column("loss of\nown recall", justify="right", no_wrap=True)
        for f in features:
            table.add_row(
                escape(f.feature),
                f.role,
                _loss(f, f.joint_recall_loss, f.joint_recall_error),
                _loss(f, f.recall_loss, f.recall_error),
            )
        tables.append(table)
    if tables:
        notes = [
            "loss: by permuted values of one feature in one stage; "
            f"{counted(importance.repeats, 'permutation')}, "
            f"{counted(importance.requests, 'request')}",
            "±: standard error over requests. Correlated features share their importance.",
        ]
        if any(f.constant for f in importance.features):
            notes.append(
                "constant: no permutation changes a value, inside requests for an item feature"
            )
        if importance.undefined:
            notes.append(excluded(importance.undefined))
        tables[-1].caption, tables[-1].caption_justify = "\n".join(notes), "left"
    return tables


def _loss(feature: FeatureImportance, loss: float, error: float) -> str:
    if feature.constant:
        return "constant"
    text = f"{round(loss, 4) + 0:+.4f}"  # no negative zero
    return text if math.isnan(error) else f"{text} ± {error:.4f}"
