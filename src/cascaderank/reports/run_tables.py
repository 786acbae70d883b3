"""Tables about one run: the weights of its fields, and what pruning removed."""

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from cascaderank.stages import Pruned
from cascaderank.training.field_selection import SelectedFields
from cascaderank.training.pruning import pruning_record


def fields_table(stages: Mapping[str, SelectedFields]) -> Table:
    """Return the weight of each field of each stage, largest first, and whether it is kept."""
    table = _table("Fields", {"stage": "left", "field": "left", "weight": "right", "kept": "left"})
    for name, selected in stages.items():
        for field, weight in sorted(selected.importance.items(), key=lambda item: -item[1]):
            table.add_row(
                escape(name),
                escape(field),
                f"{weight:.3f}",
                "yes" if field in selected.kept else "",
            )
    return table


def pruning_table(stages: Mapping[str, Pruned]) -> Table:
    """Return parameters and multiply-adds of each pruned stage, before and after pruning."""
    table = _table("Pruned", {"stage": "left", "": "left", "before": "right", "after": "right"})
    for name, pruned in stages.items():
        for quantity, (before, after) in pruning_record(pruned).items():
            table.add_row(escape(name), quantity.replace("_", " "), f"{before:,}", f"{after:,}")
    return table


def _table(title: str, columns: Mapping[str, str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for column, justify in columns.items():
        if justify == "right":
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table
