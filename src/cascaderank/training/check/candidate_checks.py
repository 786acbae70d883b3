"""Findings about lists of candidates: ground truth, quotas, and duplicates."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.ragged import flattened, lengths_of
from cascaderank.data.split import Rows
from cascaderank.errors import counted
from cascaderank.relevance import ground_truth
from cascaderank.runs.item_keys import item_keys
from cascaderank.schema import Role
from cascaderank.settings.run import RunSettings
from cascaderank.training.check.findings import MANY, MOST, Finding, error, note, percent, warning
from cascaderank.training.check.sample import Sample

_IDENTIFYING = 5
"""Item features from which equal values of all of them mean the same item."""
_SOME = 0.05
"""Fraction of requests from which candidates with equal features are reported."""


def candidate_findings(settings: RunSettings, sample: Sample) -> Iterator[Finding]:
    """Yield findings about the lists of candidates of a sample.

    Args:
        settings: settings of the run.
        sample: requests of the log.
    """
    yield from _without_ground_truth(settings, sample)
    yield from _uncut(settings, sample)
    yield from _duplicates(settings, sample)


def _without_ground_truth(settings: RunSettings, sample: Sample) -> Iterator[Finding]:
    split = sample.data.split
    parts = {"training": split.train, "validation": split.validation, "test": split.test}
    empty = {name: _empty(settings, sample, rows) for name, rows in parts.items()}
    rule = "Lower relevance.threshold, choose another data.target, or leave such requests out."
    for name, of_part in empty.items():
        if len(of_part) and of_part.all():
            yield (error if sample.whole else warning)(
                "ground truth",
                f"no {name} request that was read has ground truth, so "
                f"{'nothing is learned' if name == 'training' else 'no metric is defined'}. {rule}",
            )
    some = {
        name: float(of_part.mean())
        for name, of_part in empty.items()
        if len(of_part) and MANY <= of_part.mean() < 1
    }
    if some:
        shares = ", ".join(f"{percent(share)} of the {name}" for name, share in some.items())
        yield warning(
            "ground truth",
            f"{shares} requests have no ground truth; metrics leave them out, and objectives learn "
            f"little from them. {rule}",
        )


def _empty(settings: RunSettings, sample: Sample, rows: Rows) -> NDArray[np.bool_]:
    truth = settings.ground_truth
    parts = [
        (
            ground_truth(batch.labels, k=truth.top, threshold=truth.threshold, mask=batch.mask) > 0
        ).any(-1)
        for batch in (sample.data.loader(rows).epoch(0) if len(rows) else ())
        if batch.labels is not None
    ]
    return ~np.concatenate(parts) if parts else np.zeros(0, dtype=bool)


def _uncut(settings: RunSettings, sample: Sample) -> Iterator[Finding]:
    """Find stages before the last that drop nothing; of the last, training warns itself."""
    lengths = np.diff(sample.data.encoded.offsets)
    for name, stage in list(settings.stages.items())[:-1]:
        short = int((lengths <= stage.quota).sum())
        if short >= MOST * len(lengths):
            yield warning(
                "quotas",
                f"stage '{name}' keeps {stage.quota} candidates, and {short:,} of "
                f"{counted(len(lengths), 'list')} have no more, so it drops nothing there. Lower "
                f"stages.{name}.quota, or leave the stage out.",
            )


def _duplicates(settings: RunSettings, sample: Sample) -> Iterator[Finding]:
    frame = sample.frame
    column = item_keys(sample.data.log, settings).column
    if column is not None:
        distinct = frame[column].list.n_unique().to_numpy()
        doubled = int((distinct < frame[column].list.len().to_numpy()).sum())
        if doubled:
            yield warning(
                "duplicates",
                f"{doubled:,} of {counted(frame.height, 'request')} have a candidate twice, by "
                f"'{column}'; both take a place of a quota. Prepare the data set with one row "
                "per request and item, the one of the highest level or label.",
            )
        return
    items = [f.name for f in sample.data.schema.of(Role.ITEM) if not f.several]
    if len(items) < _IDENTIFYING:
        return
    rows = np.repeat(np.arange(frame.height), lengths_of(frame[items[0]]))
    flat = pl.DataFrame([pl.Series("", rows), *(flattened(frame[name]) for name in items)])
    doubled = len(np.unique(rows[flat.is_duplicated().to_numpy()]))
    if doubled >= _SOME * frame.height:
        yield note(
            "duplicates",
            f"in {doubled:,} of {counted(frame.height, 'request')}, candidates have equal values "
            f"of all {len(items)} features, so no stage can order them. If they are the same item, "
            "prepare the data set with one row per request and item.",
        )
