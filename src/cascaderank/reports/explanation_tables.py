"""Tables of explanations for the terminal, at most 80 characters wide."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import polars as pl
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cascaderank.errors import counted
from cascaderank.evaluation import (
    Explanation,
    FeatureEffect,
    ItemExplanation,
    LostGroundTruth,
    MarginalComparison,
    Rescue,
)
from cascaderank.reports.cells import excluded, share

_TRUTH: Final = "*"
_NAMED: Final = 3  # features that a sentence names
_MOST: Final = 15  # features of a table
_CHARACTERS: Final = 18  # of a value
_MARGINS: Final = "score, to cut: in the last stage that received it; +: above the cut, -: below it"


def candidate_tables(explanation: Explanation, *, top: int = 10) -> list[RenderableType]:
    """Return a table for the final list, and one for each stage with what it cut, last stage first.

    Args:
        explanation: result of :func:`~cascaderank.evaluation.explain`.
        top: number of rows of each table, beside up to twice as many of ground truth.
    """
    rows, stages = explanation.candidates, list(explanation.quotas)
    truth = rows["ground_truth"]
    known = truth.null_count() == 0
    of_ground_truth = pl.col("ground_truth").fill_null(0) > 0
    of_all = f", {(truth > 0).sum()} of ground truth" if known else ""
    quotas = ", ".join(f"{name} {quota}" for name, quota in explanation.quotas.items())
    tables: list[RenderableType] = [
        Text(
            f"request {explanation.request}: {counted(rows.height, 'candidate')}{of_all}; "
            f"quotas: {quotas}"
        )
    ]
    for t in range(len(stages), -1, -1):
        cut_by = stages[t] if t < len(stages) else None
        own = rows.filter(pl.col("cut_by").eq_missing(cut_by))
        if not own.height:
            continue
        reached = stages[: t + 1]
        title = (
            f"cut by {cut_by}, which keeps {explanation.quotas[cut_by]}" if cut_by else "final list"
        )
        of_truth = f", {(own['ground_truth'] > 0).sum()} of ground truth" if known else ""
        title = f"\n{title}: {counted(own.height, 'candidate')}{of_truth}"
        table = _table()
        table.collapse_padding = len(reached) > 2
        _add_columns(table, rows, reached, known=known)
        shown = own.with_row_index("place").filter(
            (pl.col("place") < top) | (of_ground_truth & (of_ground_truth.cum_sum() <= 2 * top))
        )
        before = -1
        for row in shown.iter_rows(named=True):
            _add_gap(table, row["place"] - before - 1)
            before = row["place"]
            table.add_row(*_cells(row, rows, reached, known=known))
        _add_gap(table, own.height - before - 1)
        tables += [Text(title, style="italic"), table]
    notes = [_MARGINS]
    if known:
        notes.insert(0, f"{_TRUTH}: ground truth")
    return [*tables, Text("\n" + "\n".join(notes), style="dim")]


def item_tables(explanation: Explanation) -> list[RenderableType]:
    """Return the fate of one candidate by stage, the features that decided, and what saves it.

    Args:
        explanation: result of :func:`~cascaderank.evaluation.explain` for an item.
    """
    item = explanation.item
    if item is None:
        return []
    found = _stages_of(explanation, item)
    comparison = item.comparison
    if comparison is not None:
        found.append(Text(f"\n{_sentence(item, comparison)}"))
        changed = [f for f in comparison.features if f.effect]
        if changed:
            found += _effects(item, comparison, changed)
    found.append(Text("\n" + "\n".join(rescue_sentences(explanation))))
    return found


def lost_tables(lost: LostGroundTruth) -> list[RenderableType]:
    """Return a table for each stage with the ground truth that it cut, worst first.

    Args:
        lost: result of :func:`~cascaderank.evaluation.lost_ground_truth`.
    """
    tables: list[RenderableType] = []
    for stage in lost.stages:
        title = (
            f"\n{stage.stage} (quota {stage.quota}) cut "
            f"{counted(stage.candidates, 'candidate')} of the ground truth, a share of "
            f"{share(stage.share)}"
        )
        table = _table()
        with_levels = "level" in stage.worst.columns
        table.add_column("request", overflow="fold", max_width=22)
        table.add_column("item", overflow="fold", max_width=22)
        table.add_column("level" if with_levels else "label", justify="right", max_width=12)
        table.add_column("rank", justify="right", no_wrap=True)
        table.add_column("ranks\nbelow", justify="right", no_wrap=True)
        table.add_column("score\nbelow", justify="right", no_wrap=True)
        for row in stage.worst.iter_rows(named=True):
            table.add_row(
                escape(str(row["request_id"])),
                escape(str(row["item_key"])),
                escape(row["level"]) if with_levels else _number(row["label"]),
                str(row["rank"]),
                str(row["ranks_below"]),
                _number(row["score_below"]) if row["score_below"] else "tie",
            )
        _add_gap(table, stage.candidates - stage.worst.height)
        tables += [Text(title, style="italic"), *([table] if stage.candidates else [])]
    notes = [f"{counted(lost.requests, 'request')}; ranks among the candidates of the stage"]
    if lost.undefined:
        notes.append(excluded(lost.undefined))
    return [*tables, Text("\n" + "\n".join(notes), style="dim")]


def rescue_sentences(explanation: Explanation) -> list[str]:
    """Return what would have kept a candidate, in sentences; for one of the final list, its rank.

    Args:
        explanation: result of :func:`~cascaderank.evaluation.explain` for an item.
    """
    item = explanation.item
    if item is None:
        return []
    if not item.rescue:
        return [f"It is number {item.rank_after} of the final list."]
    first, *others = item.rescue
    sentences = [_kept_by(first)]
    last = list(explanation.quotas)[-1]
    if others:
        needed = " and ".join(f"{r.quota} in {r.stage} (not {r.instead_of})" for r in others)
        sentences.append(
            f"To reach the final list, it also needs a quota of {needed}; it would then be number "
            f"{item.rank_after}."
        )
    elif first.stage != last:
        sentences.append(f"It would then have been number {item.rank_after} of the final list.")
    return sentences


def _kept_by(change: Rescue) -> str:
    quota = (
        f"A quota of {change.quota} (not {change.instead_of}) in {change.stage} would have kept it"
    )
    if change.score_gain > 0:
        return f"{quota}; so would a score higher by more than {_number(change.score_gain)}."
    return f"{quota}; its score equals that of the last one kept, so any higher score would, too."


def _sentence(item: ItemExplanation, comparison: MarginalComparison) -> str:
    """Return in words what the candidate lost to or won against, and why."""
    c, kept = comparison, comparison.other_rank
    if item.rescue and c.stage == item.rescue[0].stage:
        text = f"It lost to {c.other}, the last of {kept} that {c.stage} kept"
    else:
        text = f"It beat {c.other}, the best that {c.stage} cut"
    digits = _digits(c)
    text = f"{text}, by {abs(c.difference):.{digits}f}"
    if c.unavailable is not None:
        return f"{text}. No effects of features: {c.unavailable}."
    changed = [f for f in c.features if f.effect]
    if not changed:
        return f"{text}. All features of the two have equal values."
    sign = math.copysign(1, c.difference)
    text += f". {_part('Of that', [f for f in changed if f.effect * sign > 0], digits)}."
    against = [f for f in changed if f.effect * sign < 0]
    side = "In its favour" if sign < 0 else "Against it"
    opposite = _part(side, against, digits)
    return text if opposite.endswith("nothing") else f"{text} {opposite}."


def _part(start: str, features: Sequence[FeatureEffect], digits: int) -> str:
    """Return the sizes of the largest effects in words, and the sum of the others."""
    sizes = {f.feature: f"{abs(f.effect):.{digits}f}" for f in features}
    named = len(features) if len(features) == _NAMED + 1 else _NAMED  # never "1 other feature"
    parts = [f"{size} is {name}" for name, size in list(sizes.items())[:named] if float(size)]
    others = features[named:]
    rest = abs(math.fsum(f.effect for f in others))
    if float(f"{rest:.{digits}f}"):
        parts.append(f"{rest:.{digits}f} is {counted(len(others), 'other feature')}")
    return f"{start}, {', '.join(parts) or 'nothing'}"


def _stages_of(explanation: Explanation, item: ItemExplanation) -> list[RenderableType]:
    """Return the fate of a candidate: one row per stage."""
    row = explanation.candidates.row(item.row, named=True)
    facts = []
    if row["level"] is not None:
        facts.append(f"level {row['level']}")
    elif row["label"] is not None:
        facts.append(f"label {_number(row['label'])}")
    if row["ground_truth"] is not None:
        of_truth = row["ground_truth"] > 0
        facts.append("ground truth" if of_truth else "not ground truth")
        if 0 < row["ground_truth"] < 1:
            facts[-1] += f" by {share(row['ground_truth'], places=2)} (tied for the last places)"
    facts.append(f"cut by {row['cut_by']}" if row["cut_by"] else "kept by all stages")
    title = f"item {item.item} of request {explanation.request}: {', '.join(facts)}"
    table = _table()
    table.add_column("stage", overflow="fold", max_width=20)
    for name in ("quota", "rank", "score", "ranks\nto cut", "score\nto cut", "kept"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, quota in explanation.quotas.items():
        rank, margin = row[f"rank/{name}"], row[f"rank_margin/{name}"]
        table.add_row(
            escape(name),
            str(quota),
            "-" if rank is None else str(rank),
            _number(row[f"score/{name}"]),
            _signed(margin),
            _signed(row[f"score_margin/{name}"]),
            "-" if rank is None else "yes" if margin >= 0 else "no",
        )
    found: list[RenderableType] = [Text(f"{title}\n"), table]
    if item.copies > 1:
        copies = f"{item.copies} candidates have this key; the one that got furthest is explained"
        found.append(Text(copies, style="dim"))
    return found


def _effects(
    item: ItemExplanation, comparison: MarginalComparison, changed: Sequence[FeatureEffect]
) -> list[RenderableType]:
    """Return the effects of the features with different values."""
    digits = _digits(comparison)
    equal = len(comparison.features) - len(changed)
    notes = [
        f"effect: integrated gradients of the score in {comparison.stage}; sum: the difference"
    ]
    if equal:
        verb = "has equal values, and no effect" if equal == 1 else "have equal values, no effect"
        notes.append(f"{counted(equal, 'feature')} {verb}")
    table = _table()
    table.add_column("\nfeature", overflow="fold", max_width=32)
    table.add_column("effect on\nits score", justify="right", no_wrap=True)
    table.add_column(f"\n{escape(_short(item.item))}", justify="right", no_wrap=True)
    table.add_column(f"\n{escape(_short(comparison.other))}", justify="right", no_wrap=True)
    for f in changed[:_MOST]:
        table.add_row(
            escape(f.feature),
            f"{f.effect:+.{digits}f}",
            escape(_short(f.value)),
            escape(_short(f.other_value)),
        )
    if changed[_MOST:]:
        others = math.fsum(f.effect for f in changed[_MOST:])
        table.add_row(f"... {len(changed) - _MOST} more", f"{others:+.{digits}f}", "", "")
    if abs(comparison.rest) >= 0.5 * 10**-digits:
        table.add_row("error of the integral", f"{comparison.rest:+.{digits}f}", "", "")
    table.add_row("sum", f"{comparison.difference:+.{digits}f}", "", "")
    return [table, Text("\n".join(notes), style="dim")]


def _table() -> Table:
    return Table(box=None, header_style="bold", pad_edge=False)


def _add_columns(table: Table, rows: pl.DataFrame, reached: Sequence[str], *, known: bool) -> None:
    table.add_column("item", overflow="fold", min_width=12, max_width=22)
    if rows["level"].null_count() < rows.height:
        table.add_column("level", overflow="ellipsis", no_wrap=True, max_width=12)
    elif rows["label"].null_count() < rows.height:
        table.add_column("label", justify="right", no_wrap=True)
    if known:
        table.add_column("", no_wrap=True)
    for name in reached:
        table.add_column(f"rank in\n{escape(name)}", justify="right", overflow="fold", max_width=12)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("ranks\nto cut", justify="right", no_wrap=True)
    table.add_column("score\nto cut", justify="right", no_wrap=True)


def _cells(
    row: dict[str, Any], rows: pl.DataFrame, reached: Sequence[str], *, known: bool
) -> Iterable[str]:
    yield escape(str(row["item_key"]))
    if rows["level"].null_count() < rows.height:
        yield escape(row["level"])
    elif rows["label"].null_count() < rows.height:
        yield _number(row["label"])
    if known:
        yield _TRUTH if row["ground_truth"] > 0 else ""
    yield from (str(row[f"rank/{name}"]) for name in reached)
    last = reached[-1]
    yield _number(row[f"score/{last}"])
    yield _signed(row[f"rank_margin/{last}"])
    yield _signed(row[f"score_margin/{last}"])


def _add_gap(table: Table, hidden: int) -> None:
    if hidden > 0:
        table.add_row(f"... {hidden:,} more")


def _digits(comparison: MarginalComparison) -> int:
    """Return the decimal places that show three digits of the difference, at most 12."""
    size = abs(comparison.difference)
    return 3 if not size else min(max(2 - math.floor(math.log10(size)), 0), 12)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _signed(value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and not value:
        return "tie"
    return f"{value:+d}" if isinstance(value, int) else f"{value:+.3g}"


def _short(value: object) -> str:
    """Return a value of a feature in at most 18 characters."""
    if isinstance(value, list):
        numbers = value and all(isinstance(v, float) for v in value)
        value = f"{len(value)} numbers" if numbers else ", ".join(map(str, value)) or "none"
    text = (
        "missing" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    )
    return text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 3]}..."
