"""Section on the cost of each stage, beside what it loses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from cascaderank.evaluation import profile_cascade
from cascaderank.reports._html.blocks import DataTable, Picture, Section
from cascaderank.reports._html.drawing import columns_of, shortened, stage_colour
from cascaderank.reports._html.reported_run import ReportedRun
from cascaderank.reports._html.wording import number, percent, size

_SECONDS = 0.05  # of a measurement


@final
@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Cost of a stage for one request."""

    model: str
    parameters: int
    candidates: int
    """Number of candidates that the stage scores."""
    multiply_adds: int
    look_ups: int
    milliseconds: float
    """Median time on this machine."""


def stage_costs(reported: ReportedRun, *, list_length: int) -> dict[str, StageCost]:
    """Count and time the stages of a run for one request.

    Args:
        reported: the run; its cascade is on the CPU.
        list_length: number of candidates of the request.
    """
    quotas = reported.run.quotas
    inputs = [min(list_length, n) for n in (list_length, *quotas[:-1])]
    profile = profile_cascade(
        reported.run.cascade,
        reported.run.schema,
        lists=sorted(set(inputs)),
        batch=1,
        history=reported.settings.data.history_length,
        seconds=_SECONDS,
    )
    costs = {}
    for (name, stage), candidates in zip(profile.stages.items(), inputs, strict=True):
        timing = next(t for t in stage.timings if t.candidates == candidates)
        costs[name] = StageCost(
            model=stage.model,
            parameters=stage.parameters,
            candidates=candidates,
            multiply_adds=stage.multiply_adds.of(candidates),
            look_ups=stage.look_ups.of(candidates),
            milliseconds=1e3 * timing.p50,
        )
    return costs


def cost_section(reported: ReportedRun, costs: Mapping[str, StageCost]) -> Section:
    """Return the section on the cost of each stage.

    Args:
        reported: the run.
        costs: result of :func:`stage_costs`.
    """
    time = sum(cost.milliseconds for cost in costs.values())
    products = sum(cost.multiply_adds for cost in costs.values())
    dearest = max(costs, key=lambda name: costs[name].milliseconds)
    length = next(iter(costs.values())).candidates
    in_words = ", ".join(
        f"{name} {size(cost.multiply_adds)} multiply-adds and {cost.milliseconds:.2f} ms"
        for name, cost in costs.items()
    )
    return Section(
        key="cost",
        title="Cost per stage",
        finding=f"A request with {length:,} candidates takes {time:.2f} ms on this machine; "
        f"{dearest} takes {percent(costs[dearest].milliseconds / time)} of it.",
        pictures=(
            Picture(
                name="cost",
                caption=f"Cost of one request with {length:,} candidates by stage, and the ground "
                f"truth that the stage loses: {in_words}.",
                height=0.9 + 0.36 * len(costs),
                narrow_height=3 * (0.75 + 0.32 * len(costs)),
                draw=lambda figure, narrow: _draw(figure, reported, costs, narrow=narrow),
            ),
        ),
        tables=(
            DataTable(
                caption=f"Cost of one request with {length:,} candidates",
                head=(
                    "Stage",
                    "Model",
                    "Parameters",
                    "Candidates",
                    "Multiply-adds",
                    "Share",
                    "Look-ups",
                    "Milliseconds",
                    "Share",
                    "Lost here",
                ),
                rows=tuple(
                    (
                        name,
                        cost.model,
                        size(cost.parameters),
                        f"{cost.candidates:,}",
                        size(cost.multiply_adds),
                        percent(cost.multiply_adds / products) if products else "-",
                        size(cost.look_ups),
                        f"{cost.milliseconds:.3f}",
                        percent(cost.milliseconds / time),
                        number(reported.losses[name]),
                    )
                    for name, cost in costs.items()
                ),
                text_columns=2,
            ),
        ),
        notes=(
            "Times are medians of scoring alone on synthetic requests, measured while the report "
            "was written; cascaderank profile measures longer and for other lengths.",
        ),
    )


def _draw(
    figure: Any, reported: ReportedRun, costs: Mapping[str, StageCost], *, narrow: bool
) -> None:
    panels: Sequence[tuple[str, list[float], Any]] = (
        ("multiply-adds", [float(c.multiply_adds) for c in costs.values()], size),
        ("milliseconds", [c.milliseconds for c in costs.values()], lambda x: f"{x:.2f}"),
        ("ground truth lost", [reported.losses[name] for name in costs], number),
    )
    names = [shortened(name, narrow=narrow) for name in costs]
    for i, (axes, (title, values, form)) in enumerate(
        zip(columns_of(figure, 3, narrow=narrow), panels, strict=True)
    ):
        colours = [stage_colour(t) for t in range(len(values))]
        axes.barh(range(len(values)), values, color=colours, height=0.65)
        for row, value in enumerate(values):
            axes.annotate(
                form(value), (value, row), xytext=(4, 0), textcoords="offset points", va="center"
            )
        axes.set_title(title)
        axes.set_yticks(range(len(values)), names if narrow or i == 0 else [""] * len(values))
        axes.invert_yaxis()
        axes.set_xlim(0, 1.35 * max(values) or 1)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="y", length=0)
