"""Section on the data: sizes, what differs between training and test, and warnings."""

from collections.abc import Sequence
from typing import final

import numpy as np
import torch

from cascaderank.errors import counted
from cascaderank.reports._html.blocks import DataTable, Section
from cascaderank.reports._html.feature_shift import MANY_UNKNOWN, SHIFTED, FeatureShift
from cascaderank.reports._html.reported_run import ReportedRun
from cascaderank.reports._html.scoring_pass import ScoredBatch
from cascaderank.reports._html.wording import percent, size
from cascaderank.runs.data import RunData

_MANY = 0.2  # of lists
_SHOWN = 12


@final
class TiedScores:
    """Number of lists whose scores are all equal, or equal on both sides of the cut, by stage.

    Args:
        stages: number of stages.
    """

    def __init__(self, stages: int) -> None:
        self.lists, self.constant, self.at_cut = np.zeros((3, stages), dtype=np.int64)

    def add(self, scored: ScoredBatch, /) -> None:
        """Add a batch; only lists of at least two received candidates count."""
        for stage, quota in enumerate(scored.quotas):
            reached = scored.reached[stage]
            number = reached.sum(-1)
            values = scored.scores[stage]
            highest = values.masked_fill(~reached, -torch.inf).amax(-1)
            lowest = values.masked_fill(~reached, torch.inf).amin(-1)
            self.lists[stage] += int((number > 1).sum())
            self.constant[stage] += int(((highest == lowest) & (number > 1)).sum())
            kept = scored.kept[stage]
            last = values.masked_fill(~kept, torch.inf).amin(-1)
            next_ = values.masked_fill(~(reached & ~kept), -torch.inf).amax(-1)
            self.at_cut[stage] += int(((last == next_) & (number > quota)).sum())

    def warnings(self, names: Sequence[str]) -> list[str]:
        """Return a warning for each stage with many such lists."""
        found = []
        for t, name in enumerate(names):
            of = counted(int(self.lists[t]), "test list")
            if self.constant[t] > _MANY * self.lists[t]:
                found.append(
                    f"Stage {name} gives all candidates that it receives the same score in "
                    f"{self.constant[t]:,} of {of}."
                )
            elif self.at_cut[t] > _MANY * self.lists[t]:
                found.append(
                    f"Stage {name} has equal scores on both sides of its cut in "
                    f"{self.at_cut[t]:,} of {of}, so that the order of the list decides."
                )
        return found


def data_warnings_of(
    reported: ReportedRun, shifts: Sequence[FeatureShift], tied: TiedScores | None
) -> list[str]:
    """Return the warnings of the run, of its data and of its scores.

    Args:
        reported: the run.
        shifts: shifts of the features.
        tied: tied scores of the test requests; ``None`` if they were not scored.
    """
    found = [text[:1].upper() + text[1:] for text in reported.result.warnings]
    found += tied.warnings(reported.stages) if tied else []
    found += [
        f"{d.feature} differs between training and test: population stability index {d.index:.2f} "
        f"(above {SHIFTED} is a shift)."
        for d in shifts
        if d.index > SHIFTED
    ]
    found += [
        f"{d.feature}: {percent(d.unknown[1])} of the test values are unknown or missing, and "
        f"{percent(d.unknown[0])} of those of training."
        for d in shifts
        if d.unknown[1] > max(MANY_UNKNOWN, 2 * d.unknown[0])
    ]
    constant = [d.feature for d in shifts if d.constant]
    if constant:
        found.append(f"One value in all training requests read: {', '.join(constant)}.")
    return found


def data_section(
    reported: ReportedRun,
    data: RunData | None,
    shifts: Sequence[FeatureShift] = (),
    tied: TiedScores | None = None,
) -> Section:
    """Return the section on the data.

    Args:
        reported: the run.
        data: its data set; ``None`` if the report is made without it.
        shifts: shifts of the features, largest first.
        tied: tied scores of the test requests; ``None`` if they were not scored.
    """
    warnings = data_warnings_of(reported, shifts, tied)
    tables = [_sizes(reported, data)]
    if shifts:
        tables.append(
            DataTable(
                caption="Features in training and test, largest shift first",
                head=("Feature", "Of", "Kind", "Stability index", "Unknown in training", "in test"),
                rows=tuple(
                    (
                        d.feature,
                        d.role,
                        d.kind,
                        f"{d.index:.3f}",
                        percent(d.unknown[0], places=1),
                        percent(d.unknown[1], places=1),
                    )
                    for d in shifts
                ),
                text_columns=3,
                folded=len(shifts) > _SHOWN,
                marked=tuple(i for i, d in enumerate(shifts) if d.index > SHIFTED),
            )
        )
    if warnings:
        tables.insert(
            0,
            DataTable(
                caption="Warnings",
                head=("", "What was found"),
                rows=tuple((str(i), text) for i, text in enumerate(warnings, start=1)),
                text_columns=2,
            ),
        )
    notes = (
        "Stability index: sum over bins of the difference of the shares in training and test times "
        "the log of their ratio, less its mean for two random samples; unknown: out of vocabulary "
        "or missing.",
    )
    return Section(
        key="data",
        title="Data and warnings",
        finding=f"{counted(len(warnings), 'warning')} about the data and the training."
        if warnings
        else "No warnings about the data and the training.",
        tables=tuple(tables),
        notes=(*reported.test.notes, *(notes if shifts else ())),
    )


def _sizes(reported: ReportedRun, data: RunData | None) -> DataTable:
    sizes, truth = reported.record["requests"], reported.values("ground_truth")
    rows = [
        (f"Requests for {part}", f"{sizes[part]:,}") for part in ("train", "validation", "test")
    ]
    rows += [
        ("Test requests without ground truth", f"{reported.test.without_ground_truth:,}"),
        ("Ground truth of a test request", _quantiles(truth)),
    ]
    if data is not None:
        lengths = np.diff(data.encoded.offsets)
        for part in ("train", "test"):
            chosen = lengths[getattr(data.split, part)]
            rows.append((f"Candidates of a {part} request", _quantiles(chosen.astype(np.float64))))
        manifest = data.log.manifest
        rows.append(("Candidates in the log", f"{manifest.candidates:,}"))
        if manifest.level_names:
            rows.append(("Levels, lowest first", ", ".join(manifest.level_names)))
        if manifest.time_range is not None:
            rows.append(("Time", " to ".join(f"{t:%Y-%m-%d %H:%M}" for t in manifest.time_range)))
        rows.append(("Labels", str(reported.settings.data.target)))
    rows.append(("Parameters", ", ".join(
        f"{name} {size(count)}" for name, count in reported.record["parameters"].items()
    )))  # fmt: skip
    return DataTable(caption="Data", head=("", "Value"), rows=tuple(rows), text_columns=2)


def _quantiles(values: np.typing.NDArray[np.float64]) -> str:
    if not len(values):
        return "-"
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    if values.min() == values.max():
        return f"{values[0]:g}"
    return (
        f"mean {values.mean():.1f}; 10 % {low:g}, median {middle:g}, 90 % {high:g}, "
        f"most {values.max():g}"
    )
