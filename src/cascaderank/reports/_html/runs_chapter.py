"""The first chapter of a report of several runs: their results side by side."""

import os
from collections.abc import Sequence
from typing import Any

from cascaderank.evaluation import Summary, bootstrap_interval
from cascaderank.reports._html.blocks import Chapter, DataTable, Picture, Section
from cascaderank.reports._html.drawing import BLUE, columns_of, shortened
from cascaderank.reports._html.reported_run import ReportedRun, different_parts, read_run, run_name
from cascaderank.reports._html.wording import number, span


def runs_chapter(folders: Sequence[str | os.PathLike[str]]) -> Chapter:
    """Return the chapter that shows several runs side by side.

    Gains over the first run are paired by request, for runs with the same test requests.

    Args:
        folders: folders of complete runs, at least two.

    Raises:
        RunError: if a folder does not hold a complete run.
    """
    runs = [read_run(folder) for folder in folders]
    names = [
        run_name(i, part, run.settings.objective.name)
        for i, (part, run) in enumerate(zip(different_parts(folders), runs, strict=True), start=1)
    ]
    joint = [run.test.metrics["joint_recall"] for run in runs]
    gains = [_gain(run, runs[0]) for run in runs]
    best = max(range(len(runs)), key=lambda i: joint[i].mean)
    rows = []
    for name, run, recall, gain in zip(names, runs, joint, gains, strict=True):
        worst = max(run.losses, key=lambda stage: run.losses[stage])
        rows.append(
            (
                name,
                run.settings.objective.name,
                run.dataset["name"],
                worst,
                number(run.losses[worst]),
                number(recall.mean),
                span(recall),
                "-" if gain is None else number(gain.mean, sign="+"),
                "-" if gain is None else span(gain, sign="+"),
            )
        )
    in_words = ", ".join(f"{name} {number(s.mean)}" for name, s in zip(names, joint, strict=True))
    section = Section(
        key="side-by-side",
        title="Runs side by side",
        pictures=(
            Picture(
                name="runs",
                caption=f"Joint recall with intervals over requests: {in_words}.",
                height=0.9 + 0.36 * len(runs),
                narrow_height=1.0 + 0.4 * len(runs),
                draw=lambda figure, narrow: _draw(figure, names, joint, narrow=narrow),
            ),
        ),
        tables=(
            DataTable(
                caption="Runs",
                head=(
                    "Run",
                    "Objective",
                    "Data set",
                    "Loses most",
                    "Lost there",
                    "Joint recall",
                    "Interval",
                    "Gain over the first",
                    "Interval",
                ),
                rows=tuple(rows),
                text_columns=4,
                marked=(best,),
            ),
        ),
        notes=(
            "Gains are paired by request, and given for runs with the test requests of the first. "
            "Intervals are over requests, and do not cover the variation between training seeds.",
        ),
    )
    return Chapter(
        key="runs",
        title=f"{len(runs)} runs",
        subject="; ".join(f"{name}: {run.path}" for name, run in zip(names, runs, strict=True)),
        verdict=f"{names[best]} has the highest joint recall, {number(joint[best].mean)}.",
        sections=(section,),
    )


def _gain(run: ReportedRun, first: ReportedRun) -> Summary | None:
    """Return the gain over the first run; ``None`` for itself and for other test requests."""
    same = run.dataset["fingerprint"] == first.dataset["fingerprint"]
    if run is first or not same or not run.request_ids.equals(first.request_ids):
        return None
    return bootstrap_interval(
        run.values("joint_recall") - first.values("joint_recall"),
        resamples=run.test.bootstrap,
        seed=run.settings.evaluation.seed,
        confidence=run.test.confidence,
    )


def _draw(figure: Any, names: Sequence[str], joint: Sequence[Summary], *, narrow: bool) -> None:
    (axes,) = columns_of(figure, 1, narrow=narrow)
    for row, summary in enumerate(joint):
        axes.plot([summary.low, summary.high], [row, row], color=BLUE, lw=2)
        axes.plot(summary.mean, row, "o", color=BLUE, ms=6)
        axes.annotate(
            number(summary.mean), (summary.mean, row), xytext=(0, 6), ha="center",
            textcoords="offset points", fontsize=8.5,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), [shortened(name, narrow=narrow) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.8)
    axes.margins(x=0.12)
    axes.grid(axis="x")
    axes.set_xlabel("joint recall")
