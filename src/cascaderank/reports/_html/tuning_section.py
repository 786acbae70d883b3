"""Section on tuning: validation recall over the grid of each method."""

import math
from typing import Any

import numpy as np

from cascaderank.reports._html.blocks import DataTable, Picture, Section
from cascaderank.reports._html.comparison_record import ComparisonRecord, MethodRecord
from cascaderank.reports._html.drawing import INK, ORANGE, columns_of
from cascaderank.reports._html.wording import number

Axes = dict[str, list[Any]]


def grid_of(method: MethodRecord) -> tuple[Axes, dict[tuple[Any, ...], float]]:
    """Return the axes of a method's grid, and the validation recall by point, mean over folds.

    Args:
        method: method of a comparison.
    """
    tried = [point for fold in method.tuning for point in fold.tried]
    names = list(dict.fromkeys(name for point in tried for name in point.values))
    axes = {
        name: _ordered({_plain(point.values[name]) for point in tried if name in point.values})
        for name in names
    }
    axes = {name: values for name, values in axes.items() if len(values) > 1}
    found: dict[tuple[Any, ...], list[float]] = {}
    for point in tried:
        if point.validation is not None:
            key = tuple(_plain(point.values.get(name)) for name in axes)
            found.setdefault(key, []).append(point.validation)
    return axes, {key: float(np.mean(values)) for key, values in found.items()}


def tuning_section(found: ComparisonRecord) -> Section:
    """Return the section on tuning."""
    grids = {m.name: (m, *grid_of(m)) for m in found.trained}
    grids = {name: grid for name, grid in grids.items() if grid[1] and grid[2]}
    if not grids:
        return Section(
            key="tuning", title="Tuning", finding="No method was tuned over several values."
        )
    edges = [
        f"{m.name} ({', '.join(dict.fromkeys(a for fold in m.tuning for a in fold.at_edge))})"
        for m, _, _ in grids.values()
        if any(fold.at_edge for fold in m.tuning)
    ]
    rows = [
        (
            name,
            _described(axes, key),
            number(value, places=4),
        )
        for name, (_, axes, points) in grids.items()
        for key, value in sorted(points.items(), key=lambda item: -item[1])
    ]
    best = {name: max(points, key=points.__getitem__) for name, (_, _, points) in grids.items()}
    in_words = "; ".join(
        f"{name} is best with {_described(axes, best[name])}"
        for name, (_, axes, _) in grids.items()
    )
    tall = {name: _rows(axes) for name, (_, axes, _) in grids.items()}
    return Section(
        key="tuning",
        title="Tuning: validation recall over the grid",
        finding=f"At the edge of the values tried, so that a better one may lie beyond: "
        f"{'; '.join(edges)}."
        if edges
        else "No chosen value is at the edge of the values tried.",
        pictures=tuple(
            Picture(
                name=f"tuning-{i}",
                caption=f"Validation recall of {name} by {' and '.join(map(_short, axes))}"
                + (", the best of the other settings" if len(axes) > 2 else "")
                + f"; framed: the best, {number(max(points.values(), default=math.nan))}.",
                height=1.1 + 0.34 * tall[name],
                narrow_height=1.2 + 0.36 * tall[name],
                draw=_drawer(axes, points),
            )
            for i, (name, (_, axes, points)) in enumerate(grids.items())
        ),
        tables=(
            DataTable(
                caption="Validation recall by point",
                head=("Method", "Values", "Validation recall"),
                rows=tuple(rows),
                text_columns=2,
                folded=len(rows) > 10,
            ),
        ),
        notes=(f"Means over folds and tuning seeds. {in_words}.",),
    )


def _described(axes: Axes, point: tuple[Any, ...]) -> str:
    """Return the values of a point, such as ``"learning_rate 0.01, temperature 20"``."""
    pairs = zip(axes, point, strict=True)
    return ", ".join(f"{_short(axis)} {_text(value)}" for axis, value in pairs)


def _drawer(axes: Axes, points: dict[tuple[Any, ...], float]) -> Any:
    return lambda figure, narrow: _draw(figure, axes, points, narrow=narrow)


def _rows(axes: Axes) -> int:
    return len(list(axes.values())[1]) if len(axes) > 1 else 1


def _draw(figure: Any, axes: Axes, points: dict[tuple[Any, ...], float], *, narrow: bool) -> None:
    """Draw a heat map over the first two axes: the best of all points with their values."""
    (panel,) = columns_of(figure, 1, narrow=narrow)
    names = list(axes)[:2]
    columns, rows = axes[names[0]], axes[names[1]] if len(names) > 1 else [None]
    values = np.full((len(rows), len(columns)), np.nan)
    for key, value in points.items():
        place = (rows.index(key[1]) if len(names) > 1 else 0, columns.index(key[0]))
        values[place] = np.nanmax([values[place], value])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    scaled = (values - low) / (high - low or 1.0)
    panel.pcolormesh(np.ma.masked_invalid(scaled), cmap="cividis", vmin=0, vmax=1, rasterized=False)
    for row, column in np.argwhere(~np.isnan(values)):
        panel.annotate(
            number(values[row, column]), (column + 0.5, row + 0.5), ha="center", va="center",
            color="#ffffff" if scaled[row, column] < 0.55 else "#000000", fontsize=9,
        )  # fmt: skip
    best = np.unravel_index(np.nanargmax(values), values.shape)
    x, y = int(best[1]), int(best[0])
    panel.plot([x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y], color=ORANGE, lw=2.5)
    panel.set_xticks(np.arange(len(columns)) + 0.5, [_text(v) for v in columns])
    panel.set_yticks(
        np.arange(len(rows)) + 0.5, [_text(v) for v in rows] if len(names) > 1 else [""]
    )
    panel.set_xlabel(_short(names[0]), color=INK)
    if len(names) > 1:
        panel.set_ylabel(_short(names[1]))
    panel.tick_params(length=0)
    for side in panel.spines.values():
        side.set_visible(False)


def _ordered(values: set[Any]) -> list[Any]:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(values):
        return sorted(numbers)
    return sorted(values, key=str)


def _plain(value: Any) -> Any:
    """Return a value that can be a key: lists and tables as text."""
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(setting: str) -> str:
    return setting.rpartition(".")[2]
