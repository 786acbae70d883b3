"""Section on the requests that lose most ground truth."""

import shlex

import numpy as np

from cascaderank.reports._html.blocks import DataTable, Section
from cascaderank.reports._html.reported_run import ReportedRun
from cascaderank.reports._html.wording import number, percent

_SHOWN = 15


def worst_section(reported: ReportedRun) -> Section:
    """Return the section on the requests that lose the largest number of good candidates."""
    size, joint = reported.values("ground_truth"), reported.values("joint_recall")
    missing = np.where(np.isnan(joint), -1.0, size * (1 - joint))
    # Stable, so that equal losses are in the order of the log.
    worst = np.argsort(-missing, kind="stable")[:_SHOWN]
    worst = worst[missing[worst] > 0]
    lost = {name: reported.values(f"lost/{name}") for name in reported.stages}
    total, defined = missing[missing > 0].sum(), ~np.isnan(joint)
    whole = int((joint[defined] == 0).sum())
    tenth = np.sort(missing[defined])[::-1][: max(1, int(defined.sum()) // 10)].sum()
    ids = [str(reported.request_ids[int(i)]) for i in worst]
    numbers = [f"{int(reported.test.per_request['row'][int(i)])}" for i in worst]
    with_row, notes = ids != numbers, []
    if with_row:
        notes.append("Row: number of the request in the data set, from 0.")
    if ids:
        command = shlex.join(["cascaderank", "explain", str(reported.path), "--request", ids[0]])
        notes.append(f"Why candidates of a request were cut: {command}")
    finding = "No request loses ground truth."
    if total > 0:
        finding = (
            f"{whole:,} of {int(defined.sum()):,} requests lose all of their ground truth; the "
            f"worst tenth of the requests has {percent(tenth / total)} of all losses."
        )
    return Section(
        key="worst",
        title="Worst requests",
        finding=finding,
        tables=(
            DataTable(
                caption="Requests that lose the largest number of good candidates",
                head=(
                    "Request",
                    *(("Row",) if with_row else ()),
                    "Ground truth",
                    "Lost",
                    "Joint recall",
                    *(f"Lost by {name}" for name in reported.stages),
                ),
                rows=tuple(
                    (
                        name,
                        *((row,) if with_row else ()),
                        f"{size[i]:g}",
                        f"{missing[i]:.3g}",
                        number(joint[i]),
                        *(number(of_stage[i]) for of_stage in lost.values()),
                    )
                    for name, row, i in zip(ids, numbers, worst, strict=True)
                ),
            ),
        )
        if len(worst)
        else (),
        notes=tuple(notes),
    )
