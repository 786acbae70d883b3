"""The chapter of one run: all its sections, from its folder and one pass over its test requests."""

import os
from dataclasses import dataclass
from typing import final

import numpy as np

from cascaderank.evaluation import Slice, weak_slices
from cascaderank.progress import Progress, Silent
from cascaderank.reports._html.agreement_section import Agreement, agreement_section
from cascaderank.reports._html.blocks import Chapter, Section
from cascaderank.reports._html.calibration_section import Calibration, calibration_section
from cascaderank.reports._html.cost_section import StageCost, cost_section, stage_costs
from cascaderank.reports._html.cut_section import CutDistances, cut_section
from cascaderank.reports._html.data_section import TiedScores, data_section
from cascaderank.reports._html.feature_shift import FeatureShift, feature_shifts
from cascaderank.reports._html.funnel_section import attribution_section, funnel_section
from cascaderank.reports._html.quota_section import QuotaCurves, quota_section
from cascaderank.reports._html.reported_run import ReportedRun, dataset_of, read_run, run_name
from cascaderank.reports._html.scoring_pass import evenly, score_requests
from cascaderank.reports._html.slice_groupings import (
    GroundTruthItems,
    item_groupings,
    popularity_of,
    request_groupings,
    sliced_features,
)
from cascaderank.reports._html.slices_section import slices_section
from cascaderank.reports._html.sources_section import sources_section
from cascaderank.reports._html.training_section import training_section
from cascaderank.reports._html.weakest_stage import subject_of, verdict_of
from cascaderank.reports._html.worst_section import worst_section
from cascaderank.runs.build import build_run_objective
from cascaderank.runs.data import RunData
from cascaderank.runs.item_keys import item_keys
from cascaderank.runs.parts import part_of
from cascaderank.runs.seeding import pick_device
from cascaderank.schema import Kind, Role

MOST_REQUESTS = 20_000
"""Largest number of test requests that are scored for a report."""


@final
@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a pass over the test requests of a run found."""

    requests: int
    """Number of requests that were scored."""
    list_length: float
    """Mean number of candidates of all test requests."""
    planted: object
    """Value of ``planted`` in the manifest of the log."""
    quotas: QuotaCurves
    cuts: CutDistances
    calibration: Calibration | None
    """``None`` if the objective has no survival probability."""
    agreement: Agreement | None
    """``None`` for one stage."""
    tied: TiedScores
    slices: tuple[Slice, ...]
    shifts: tuple[FeatureShift, ...]


def run_chapter(
    folder: str | os.PathLike[str],
    *,
    key: str = "run",
    title: str | None = None,
    numbered: tuple[int, str] | None = None,
    dataset: str | os.PathLike[str] | None = None,
    with_data: bool = True,
    most_requests: int = MOST_REQUESTS,
    progress: Progress | None = None,
) -> Chapter:
    """Return the chapter of a run.

    Means and intervals over test requests are those of the run's own evaluation. Sections that
    need scores read the data set once.

    Args:
        folder: folder of a complete run.
        key: key of the chapter.
        title: title of the chapter; by default the objective and the data set.
        numbered: of several runs, the number of this one and the part of its path that differs;
            for the title.
        dataset: folder of the data set that the run was trained on; by default where it was then.
        with_data: whether the data set is read. Without it, sections that need scores are left out.
        most_requests: largest number of test requests that are scored, at equal distances.
        progress: receives the progress of the work.

    Raises:
        RunError: if the folder does not hold a complete run.
        DataError: if the data set is missing, damaged, or another one.
    """
    reported = read_run(folder)
    if numbered is not None:
        title = run_name(*numbered, reported.settings.objective.name)
    if not with_data:
        where = reported.dataset["path"]
        return _chapter(reported, key, title, where, None, data_section(reported, None))
    progress, where = progress or Silent(), dataset_of(reported, dataset)
    with part_of(reported.run, where, "test", progress=progress) as opened:
        data, _, rows = opened
        scored = _scored(reported, data, rows, most_requests, progress)
        section = data_section(reported, data, scored.shifts, scored.tied)
    return _chapter(reported, key, title, where, scored, section)


def _scored(
    reported: ReportedRun, data: RunData, rows: np.ndarray, most: int, progress: Progress
) -> Scored:
    run, names = reported.run, reported.stages
    chosen = evenly(rows, most)
    lengths = np.diff(data.encoded.offsets)[rows]
    items = GroundTruthItems(sliced_features(data.schema, Role.ITEM))
    quotas = QuotaCurves(run.quotas, longest=int(lengths.max()))
    cuts, tied = CutDistances(len(names)), TiedScores(len(names))
    agreement = Agreement(run.quotas) if len(names) > 1 else None
    objective = build_run_objective(reported.settings, data.log)
    calibration = Calibration.of(objective, run.quotas)
    device = pick_device(reported.settings.train.device)
    collectors = [c for c in (items, quotas, cuts, tied, agreement, calibration) if c is not None]
    score_requests(
        run.cascade.to(device), reported.settings, data, chosen, collectors,
        device=device, progress=progress,
    )  # fmt: skip
    run.cascade.to("cpu")
    groupings = [
        *request_groupings(reported, data),
        *item_groupings(items, data.schema, names, popularity=_popularity(reported, data, most)),
    ]
    return Scored(
        requests=len(chosen),
        list_length=float(lengths.mean()),
        planted=data.log.manifest.extra.get("planted"),
        quotas=quotas,
        cuts=cuts,
        calibration=calibration,
        agreement=agreement,
        tied=tied,
        slices=weak_slices(groupings),
        shifts=tuple(feature_shifts(data, data.schema.features)),
    )


def _popularity(reported: ReportedRun, data: RunData, most: int) -> tuple[str, np.ndarray] | None:
    """Return the feature that identifies items, and how often each code was a candidate."""
    name = item_keys(data.log, reported.settings).column
    if name is None or name not in data.schema.names:
        return None
    feature = data.schema[name]
    if feature.role is not Role.ITEM or feature.kind is not Kind.CATEGORICAL or feature.several:
        return None
    return name, popularity_of(data, name, evenly(data.split.train, most))


def _chapter(
    reported: ReportedRun,
    key: str,
    title: str | None,
    dataset: str,
    scored: Scored | None,
    about_data: Section,
) -> Chapter:
    verdict = verdict_of(reported, scored.planted if scored else None)
    test, evaluation = reported.test, reported.settings.evaluation
    length = scored.list_length if scored else max(reported.run.quotas)
    costs: dict[str, StageCost] = stage_costs(reported, list_length=round(length))
    sections = [
        funnel_section(reported, list_length=scored.list_length if scored else None),
        attribution_section(reported),
    ]
    remarks = list(verdict.remarks)
    if scored is not None:
        sections += [
            quota_section(reported.stages, scored.quotas),
            cut_section(reported.stages, scored.cuts),
            slices_section(scored.slices, requests=scored.requests),
        ]
        if scored.agreement is not None:
            sections.append(
                agreement_section(
                    reported.stages, scored.agreement,
                    resamples=evaluation.bootstrap, seed=evaluation.seed,
                )
            )  # fmt: skip
        sections.append(calibration_section(reported, scored.calibration))
        if scored.requests < test.requests:
            remarks.append(
                f"Quotas, distances, slices of items, agreement and calibration are over "
                f"{scored.requests:,} of {test.requests:,} test requests, at equal distances."
            )
    remarks.append(about_data.finding)
    sections += [
        worst_section(reported),
        training_section(reported),
        cost_section(reported, costs),
        about_data,
        sources_section(reported, dataset=dataset),
    ]
    return Chapter(
        key=key,
        title=title or f"{reported.settings.objective.name} on {reported.dataset['name']}",
        subject=subject_of(reported),
        verdict=verdict.sentence,
        remarks=tuple(remarks),
        facts=verdict.facts,
        sections=tuple(sections),
    )
