"""Section on training: the loss, every term and the validation metrics by epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cascaderank.reports._html.blocks import DataTable, Picture, Section
from cascaderank.reports._html.drawing import LINES, MARKERS, MUTED, STAGES, columns_of
from cascaderank.reports._html.reported_run import ReportedRun
from cascaderank.reports._html.wording import number

_LONG = 8  # epochs of a table that is folded


def training_section(reported: ReportedRun) -> Section:
    """Return the section on the curves of training."""
    epochs, training = reported.epochs, reported.record["training"]
    if not epochs:
        return Section(key="training", title="Training", finding="The run has no epochs.")
    terms = _series(epochs, "train")
    validation = _series(epochs, "validation")
    weights = _series(epochs, "weights")
    best = int(training["best_epoch"])
    finding = (
        f"{training['epochs']} epochs, {training['steps']:,} steps, {training['seconds']:,.0f} s; "
        f"the weights are those of epoch {best + 1}"
    )
    finding += (
        f", with a validation value of {number(training['validation'])}."
        if training["validation"] is not None
        else "; there are no validation requests."
    )
    panels = 2 if validation else 1
    last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in terms.items())
    caption = f"Loss and terms of the objective by epoch; at the end {last}."
    if validation:
        ends = ", ".join(f"{name} {number(values[-1])}" for name, values in validation.items())
        caption += f" Validation metrics; at the end {ends}. Dotted line: the best epoch."
    columns = {
        **{f"train {name}": values for name, values in terms.items()},
        **{f"weight of {name}": values for name, values in weights.items()},
        **{f"validation {name}": values for name, values in validation.items()},
    }
    return Section(
        key="training",
        title="Training: every term, epoch by epoch",
        finding=finding,
        pictures=(
            Picture(
                name="training",
                caption=caption,
                height=3.2,
                narrow_height=3.0 * panels,
                draw=lambda figure, narrow: _draw(figure, terms, validation, best, narrow=narrow),
            ),
        ),
        tables=(
            DataTable(
                caption="Terms, weights and validation metrics by epoch",
                head=("Epoch", "Steps", *columns),
                rows=tuple(
                    (
                        str(i + 1),
                        f"{epoch['step']:,}",
                        *(_value(values[i]) for values in columns.values()),
                    )
                    for i, epoch in enumerate(epochs)
                ),
                folded=len(epochs) > _LONG,
                marked=(best,) if best < len(epochs) else (),
            ),
        ),
        notes=("The loss is the weighted sum of the terms; terms are shown before weighting.",),
    )


def _series(epochs: Sequence[Mapping[str, Any]], part: str) -> dict[str, list[float]]:
    """Return the values by name over the epochs; NaN where an epoch does not have the name."""
    names = dict.fromkeys(name for epoch in epochs for name in epoch.get(part) or {})
    found = {
        name: [_finite((epoch.get(part) or {}).get(name)) for epoch in epochs] for name in names
    }
    return {name: values for name, values in found.items() if not all(map(math.isnan, values))}


def _finite(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _value(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _draw(
    figure: Any,
    terms: dict[str, list[float]],
    validation: dict[str, list[float]],
    best: int,
    *,
    narrow: bool,
) -> None:
    panels = [("training loss and terms", terms)]
    if validation:
        panels.append(("validation", validation))
    for axes, (title, series) in zip(
        columns_of(figure, len(panels), narrow=narrow), panels, strict=True
    ):
        handles = []
        for i, values in enumerate(series.values()):
            style = LINES[i // len(STAGES) % len(LINES)]
            mark = MARKERS[i % len(MARKERS)]
            handles += axes.plot(
                range(1, len(values) + 1), values, style, color=STAGES[(i - 1) % len(STAGES)],
                marker=mark, ms=4, markevery=max(1, len(values) // 10),
            )  # fmt: skip
        axes.axvline(best + 1, color=MUTED, lw=1, ls=":")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(axis="y")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(
            handles, list(series), loc="upper center", bbox_to_anchor=(0.5, -0.2),
            ncols=1 if narrow or len(series) < 4 else 2,
        )  # fmt: skip
