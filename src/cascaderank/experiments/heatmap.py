"""Heat maps: losses trained for Recall@m@k at one (m, k), evaluated at all (m, k) of a grid."""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank._moved import moved_name
from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import ConfigError
from cascaderank.evaluation.report import over_all_candidates
from cascaderank.experiments.folds import check_runs, folds_of
from cascaderank.objectives import OBJECTIVES
from cascaderank.progress import Progress, Silent
from cascaderank.runs.data import run_data
from cascaderank.runs.folder import locked, write_json
from cascaderank.settings.files import dotted
from cascaderank.settings.run import RunSettings
from cascaderank.training.train_run import train_run

Floats = NDArray[np.float64]

FILES = ("heatmap.json", "heatmap.md", "heatmap.png")
"""Files of a heat map in its folder; :mod:`cascaderank.reports` writes those for people."""


@final
@dataclass(frozen=True, kw_only=True)
class LossMap:
    """Results of one loss over the grid; undefined values are NaN."""

    loss: str
    recall: list[list[float]]
    """``[trained for][evaluated at]``: mean recall over test requests and seeds."""
    consistency: float
    """Rank correlation, in [-1, 1], between the proximity of the (m, k) a model was trained for to
    the (m, k) of evaluation, and its rank among the models at that (m, k)."""
    regret: float
    """Mean over columns of the recall of the best model minus that of the model trained for it."""


@final
@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """Results of several losses over a grid of (m, k)."""

    dataset: str
    requests: int
    """Number of test requests over all folds."""
    folds: int
    seeds: int
    grid: list[tuple[int, int]]
    """The pairs (m, k), in the order of rows and columns."""
    losses: list[LossMap]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict; undefined values are ``None``."""
        plain = asdict(self) | {"grid": [list(cell) for cell in self.grid]}
        for loss in plain["losses"]:
            for name in ("consistency", "regret"):
                loss[name] = None if math.isnan(loss[name]) else loss[name]
            loss["recall"] = [[None if math.isnan(x) else x for x in row] for row in loss["recall"]]
        return plain


def heatmap(
    settings: RunSettings,
    folder: str | os.PathLike[str],
    *,
    losses: Sequence[str],
    m: Sequence[int],
    k: Sequence[int],
    seeds: int = 1,
    progress: Progress | None = None,
) -> Heatmap:
    """Train every loss for every (m, k) and evaluate every model at all (m, k).

    Complete runs are reused. Early stopping of a run uses the validation recall at the (m, k) that
    it is trained for.

    Args:
        settings: settings of a run with one stage; its quota is set to each m, and its ground truth
            to the top k. With a split by folds, all folds are run.
        folder: folder of all runs; ``heatmap.json`` is written into it.
        losses: names of objectives. The objective of ``settings`` keeps its options; the others
            have default options.
        m: quotas of the stage.
        k: sizes of the ground truth.
        seeds: number of runs per loss, (m, k) and fold.
        progress: progress reporter.

    Raises:
        ConfigError: if the settings do not have exactly one stage, the grid is empty, or a loss is
            unknown.
        DataError: if the request log is invalid.
        RunError: if the folder is in use, or holds runs of other settings or files of others.

    Source: ARF (arXiv 2310.10462), figures 2 and 3.
    """
    progress, folder = progress or Silent(), Path(folder)
    cells = _checked(settings, losses, m, k, seeds)
    log = RequestLog.open(settings.data.path)
    folds = folds_of(settings, log)
    names = [f"recall@{a}@{b}" for a, b in cells]
    stage = next(iter(settings.stages))
    total = len(folds) * len(losses) * len(cells) * seeds
    values: dict[tuple[str, int, int], list[Floats]] = {}
    requests = 0
    progress.start("training", total)
    with locked(folder, writes=FILES):
        for fold in folds:
            with run_data(fold.settings, folder=folder, progress=progress) as data:
                requests += len(data.split.test)
                for loss, (i, cell), seed in product(losses, enumerate(cells), range(seeds)):
                    label = f"m-{cell[0]}-k-{cell[1]}"
                    run = train_run(
                        _settings(fold.settings, loss, cell, seed, names),
                        folder / loss / label / fold.folder / f"seed-{seed}",
                        data=data,
                        progress=progress,
                    )
                    recall = np.stack(
                        [run.test.per_request[over_all_candidates(n, stage)] for n in names]
                    )
                    values.setdefault((loss, i, seed), []).append(recall.astype(np.float64))
                    progress.advance(1, f"{loss}, {label}, {fold.name}, seed {seed}")
    progress.stop()
    maps = []
    for loss in losses:
        rows = [
            np.nanmean([np.concatenate(values[loss, i, s], 1) for s in range(seeds)], (0, 2))
            for i in range(len(cells))
        ]
        maps.append(_loss_map(loss, np.stack(rows), cells))
    result = Heatmap(
        dataset=log.manifest.name,
        requests=requests,
        folds=len(folds),
        seeds=seeds,
        grid=cells,
        losses=maps,
    )
    write_json(folder / "heatmap.json", result.to_json())
    return result


def consistency(recall: Floats, cells: Sequence[tuple[int, int]]) -> float:
    """Return the rank correlation between training proximity and recall over a grid.

    Args:
        recall: ``[trained for, evaluated at]``, mean recall.
        cells: pairs (m, k), in the order of rows and columns.

    Returns:
        Spearman correlation, in [-1, 1], between the negative number of grid steps from the (m, k)
        of training to the (m, k) of evaluation, and the rank of the model among those evaluated at
        the same (m, k). It is 1 if a nearer model is always better, and about 0 if proximity makes
        no difference. NaN if the models do not differ or a recall is undefined.

    Examples:
        >>> cells = [(10, 5), (20, 5), (30, 5)]
        >>> recall = np.array([[0.5, 0.6, 0.6], [0.4, 0.7, 0.7], [0.3, 0.6, 0.8]])
        >>> consistency(recall, cells)
        1.0

    Source: this project.
    """
    from scipy.stats import rankdata, spearmanr  # takes a second to import, and is used only here

    values = [sorted({cell[axis] for cell in cells}) for axis in (0, 1)]
    coordinates = np.array([[values[0].index(a), values[1].index(b)] for a, b in cells])
    steps = np.abs(coordinates[:, None] - coordinates[None]).sum(-1)
    ranks = rankdata(recall, axis=0)
    proximity = rankdata(-steps, axis=0)
    if np.ptp(ranks) == 0 or np.ptp(proximity) == 0 or np.isnan(recall).any():
        return math.nan
    return round(float(spearmanr(proximity.ravel(), ranks.ravel()).statistic), 12)


def _checked(
    settings: RunSettings, losses: Sequence[str], m: Sequence[int], k: Sequence[int], seeds: int
) -> list[tuple[int, int]]:
    if len(settings.stages) != 1:
        raise ConfigError(f"a heat map needs a config with one stage; got {len(settings.stages)}")
    for name, values in (("losses", losses), ("m", m), ("k", k)):
        if not values or len({*values}) < len(values):
            raise ConfigError(
                f"{name} of a heat map must be one or more distinct values; got {list(values)}"
            )
    if seeds < 1 or min(*m, *k) < 1:
        raise ConfigError(
            "m, k and seeds of a heat map must be at least 1; "
            f"got m={list(m)}, k={list(k)}, seeds={seeds}"
        )
    runs = len(losses) * len(m) * len(k) * seeds
    check_runs(runs, "reduce the losses, the values of m and k, or the seeds")
    cells = list(product(sorted(m), sorted(k)))
    for loss in losses:
        OBJECTIVES[loss]
        for cell in cells:
            _settings(settings, loss, cell, 0, [])
    return cells


def _settings(
    run: RunSettings, loss: str, cell: tuple[int, int], seed: int, metrics: Sequence[str]
) -> RunSettings:
    if loss != run.objective.name:
        run = run.changed({"objective": {"name": loss}})
    stage = next(iter(run.stages))
    return run.changed(
        {
            dotted("stages", stage, "quota"): cell[0],
            "relevance": {"top": cell[1]},
            "train.seed": seed,
            "evaluation.metrics": list(metrics),
            "evaluation.bootstrap": 1,
        }
    )


def _loss_map(loss: str, recall: Floats, cells: Sequence[tuple[int, int]]) -> LossMap:
    return LossMap(
        loss=loss,
        recall=recall.tolist(),
        consistency=consistency(recall, cells),
        regret=float((recall.max(0) - np.diag(recall)).mean()),
    )


def __getattr__(name: str) -> Any:
    return moved_name("experiments.heatmap", name)  # heatmap_markdown, which is a report now
