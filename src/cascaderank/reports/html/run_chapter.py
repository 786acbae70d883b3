"""The chapter of one run."""

import os

from cascaderank.progress import Progress
from cascaderank.reports.html.blocks import Chapter
from cascaderank.reports.html.funnel_section import attribution_section, funnel_section
from cascaderank.reports.html.reported_run import read_run
from cascaderank.reports.html.sources_section import sources_section
from cascaderank.reports.html.training_section import training_section
from cascaderank.reports.html.weakest_stage import subject_of, verdict_of
from cascaderank.reports.html.worst_section import worst_section


def run_chapter(
    folder: str | os.PathLike[str], *, key: str = "run", progress: Progress | None = None
) -> Chapter:
    """Return the chapter of a run."""
    reported = read_run(folder)
    verdict = verdict_of(reported)
    return Chapter(
        key=key,
        title=f"{reported.settings.objective.name} on {reported.dataset['name']}",
        subject=subject_of(reported),
        verdict=verdict.sentence,
        remarks=verdict.remarks,
        facts=verdict.facts,
        sections=(
            funnel_section(reported),
            attribution_section(reported),
            training_section(reported),
            worst_section(reported),
            sources_section(reported, dataset=reported.dataset["path"]),
        ),
    )
