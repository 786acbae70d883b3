"""The chapter of a comparison."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cascaderank.errors import DataError, counted
from cascaderank.evaluation import Slice, weak_slices
from cascaderank.progress import Progress
from cascaderank.reports._html.blocks import Chapter, DataTable, Fact, Section
from cascaderank.reports._html.comparison_record import (
    COMPARISON,
    ComparisonRecord,
    MethodRecord,
    mended_by_stage,
    read_comparison,
    runs_of,
)
from cascaderank.reports._html.comparison_sections import (
    effort_section,
    lists_section,
    stages_section,
)
from cascaderank.reports._html.gains_section import better, gains_section
from cascaderank.reports._html.reported_run import ReportedRun, dataset_of, read_run
from cascaderank.reports._html.slice_groupings import Floats, request_groupings
from cascaderank.reports._html.slices_section import gain_slices_section
from cascaderank.reports._html.tuning_section import tuning_section
from cascaderank.reports._html.wording import ends, number, percent
from cascaderank.runs.parts import part_of


def comparison_chapter(
    folder: str | os.PathLike[str],
    *,
    dataset: str | os.PathLike[str] | None = None,
    with_data: bool = True,
    key: str = "comparison",
    progress: Progress | None = None,
) -> tuple[Chapter, Path | None]:
    """Return the chapter of a comparison, and the folder of a run of its best method.

    Args:
        folder: folder of a complete comparison.
        dataset: folder of its data set; by default where it was then.
        with_data: whether the data set is read, for slices of the gain.
        key: key of the chapter.
        progress: receives the progress of the work.

    Returns:
        The chapter, and the run of the best method with the first seed on the first fold; ``None``
        if no method has a run that can be loaded.

    Raises:
        RunError: if the folder does not hold a complete comparison.
        DataError: if no trained method has a defined joint recall.
    """
    found = read_comparison(folder)
    if not found.trained:
        raise DataError(f"{Path(folder) / COMPARISON}: no trained method has a joint recall")
    best = found.trained[0]
    sections = [gains_section(found), stages_section(found), lists_section(found)]
    with_runs = (m for m in found.trained if any(runs_of(folder, found, m)))
    shown = next(with_runs, None)
    slices = _gain_slices(folder, found, dataset, progress) if with_data else None
    if slices is not None:
        sections.append(slices)
    sections += [tuning_section(found), effort_section(found), _warnings(found)]
    sections.append(_sources(folder, found))
    run = None if shown is None else next(runs_of(folder, found, shown))
    chapter = Chapter(
        key=key,
        title=f"Comparison on {found.dataset}",
        subject=f"{', '.join(m.name for m in found.trained)}, evaluated on "
        f"{counted(found.requests, 'test request')} of {found.dataset}: "
        f"{counted(found.folds, 'fold')}, {counted(found.seeds, 'seed')}.",
        verdict=_verdict(best, found),
        remarks=(
            _stage_sentence(best, mended_by_stage(folder, found, best)),
            *[f"{best.name} uses features that a stage of the cascade may not use."]
            * best.sees_more,
        ),
        facts=_facts(best, found),
        sections=tuple(sections),
    )
    return chapter, run


def _verdict(best: MethodRecord, found: ComparisonRecord) -> str:
    if best.name == found.reference:
        return f"{best.name}, the reference, is best: joint recall {number(best.joint_recall)}."
    word = better(best, found)
    doubt = "" if word else "; the difference may be chance"
    return (
        f"{best.name} is best: joint recall {number(best.joint_recall)}, "
        f"{number(best.gain, sign='+')} over {found.reference}{doubt}."
    )


def _stage_sentence(best: MethodRecord, mended: Mapping[str, float]) -> str:
    worst = max(best.lost, key=lambda name: best.lost[name])
    total = sum(best.lost.values())
    gives = f"; mending it alone would give {number(mended[worst])}" if mended else ""
    return (
        f"With {best.name}, {worst} loses most: {number(best.lost[worst])} of {number(total)}"
        f"{gives}."
    )


def _facts(best: MethodRecord, found: ComparisonRecord) -> tuple[Fact, ...]:
    share = best.share_of_ceiling if best.share_of_ceiling is not None else float("nan")
    gain = number(best.gain, sign="+") if best.gain is not None else "-"
    worst = max(best.lost, key=lambda name: best.lost[name])
    losses = ", ".join(f"{name} loses {number(x)}" for name, x in best.lost.items())
    return (
        Fact(
            name=f"Joint recall of {best.name}",
            value=number(best.joint_recall),
            detail=f"interval {ends(best.low, best.high)}; {percent(share)} of the ceiling "
            f"{number(found.ceiling)}",
        ),
        Fact(
            name=f"Gain over {found.reference}",
            value=gain,
            detail=f"interval {ends(best.gain_low, best.gain_high, sign='+')}"
            if best.gain is not None
            else f"{best.name} is the reference",
        ),
        Fact(name="Weakest stage", value=worst, detail=f"with {best.name}: {losses}"),
    )


def _gain_slices(
    folder: str | os.PathLike[str],
    found: ComparisonRecord,
    dataset: str | os.PathLike[str] | None,
    progress: Progress | None,
) -> Section | None:
    """Return the section on slices of the gain of the best method, on the first fold.

    ``None`` if the runs of the best method or of the reference cannot be loaded, or their data.
    """
    best = next((m for m in found.trained if m.name != found.reference), None)
    if best is None:
        return None
    one, other = (
        [read_run(path) for path in runs_of(folder, found, method)]
        for method in (best, found.method(found.reference))
    )
    if not one or not other or one[0].stages != other[0].stages:
        return None
    gain = _mean(one, "joint_recall") - _mean(other, "joint_recall")
    details = {
        name: _mean(one, f"lost/{name}") - _mean(other, f"lost/{name}") for name in one[0].stages
    }
    with part_of(one[0].run, dataset_of(one[0], dataset), "test", progress=progress) as (
        data,
        _,
        _,
    ):
        groupings = request_groupings(one[0], data, values=gain, details=details)
        slices: tuple[Slice, ...] = weak_slices(groupings)
    return gain_slices_section(slices, method=best.name, reference=found.reference)


def _mean(runs: Sequence[ReportedRun], name: str) -> Floats:
    mean: Floats = np.mean([run.values(name) for run in runs], axis=0)
    return mean


def _warnings(found: ComparisonRecord) -> Section:
    rows = tuple((str(i), text) for i, text in enumerate(found.warnings, start=1))
    table = DataTable(caption="Warnings", head=("", "What was found"), rows=rows, text_columns=2)
    return Section(
        key="warnings",
        title="Warnings",
        finding="" if rows else "No warnings.",
        tables=(table,) if rows else (),
    )


def _sources(folder: str | os.PathLike[str], found: ComparisonRecord) -> Section:
    rows = [
        ("Comparison", str(folder)),
        ("Data set", found.dataset),
        ("Test requests", f"{found.requests:,}, and {found.undefined:,} without ground truth"),
        ("Folds", ", ".join(found.fold_names)),
        ("Seeds", f"0 to {found.seeds - 1}" if found.seeds > 1 else "0"),
        ("Reference", found.reference),
        *(
            (f"Chosen for {m.name}", "; ".join(sorted({_point(t.chosen) for t in m.tuning})))
            for m in found.trained
            if any(t.chosen for t in m.tuning)
        ),
    ]
    return Section(
        key="sources",
        title="Methods, seeds and commands",
        tables=(
            DataTable(
                caption="How the numbers were made", head=("What", "Value"), rows=tuple(rows),
                text_columns=2,
            ),
        ),
        notes=(
            "Means over test requests and seeds. Intervals: bootstrap over requests and seeds. p: "
            "paired randomisation test over requests, adjusted by Holm for all methods.",
        ),
        listings=(
            (
                "Commands",
                f"cascaderank compare config.toml --run {folder}\n"
                f"cascaderank report {folder} --to report.html",
            ),
        ),
    )  # fmt: skip


def _point(chosen: dict[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in chosen.items()) or "defaults"
