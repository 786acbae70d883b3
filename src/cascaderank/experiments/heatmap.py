"""What a loss is good at: trained for Recall@m@k at one (m, k), judged at all of a grid."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from cascaderank.config import RunSettings
from cascaderank.data.request_log import RequestLog
from cascaderank.errors import ConfigError
from cascaderank.experiments.folds import folds_of
from cascaderank.objectives import OBJECTIVES
from cascaderank.training.progress import Progress, Silent
from cascaderank.training.run import train_run
from cascaderank.training.run_data import run_data
from cascaderank.training.run_folder import locked, write_atomically, write_json

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, kw_only=True)
class LossMap:
    """One loss over the grid; what is undefined is NaN."""

    loss: str
    recall: list[list[float]]
    """``[trained for][judged at]``: mean over test requests and seeds."""
    consistency: float
    """Rank correlation, in [-1, 1], of how near to (m, k) a model was trained with how it ranks
    among the models that are judged at (m, k)."""
    regret: float
    """What the best model of each column has over the one that was trained for it, a mean."""


@final
@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """Losses over a grid of (m, k)."""

    dataset: str
    requests: int
    """Test requests, over all folds."""
    folds: int
    seeds: int
    grid: list[tuple[int, int]]
    """The pairs (m, k), in the order of rows and columns."""
    losses: list[LossMap]

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold; ``None`` for what is undefined."""
        plain = asdict(self) | {"grid": [list(cell) for cell in self.grid]}
        for loss in plain["losses"]:
            for name in ("consistency", "regret"):
                loss[name] = None if math.isnan(loss[name]) else loss[name]
            loss["recall"] = [[None if math.isnan(x) else x for x in row] for row in loss["recall"]]
        return plain


def heatmap(
    settings: RunSettings,
    folder: Path,
    *,
    losses: Sequence[str],
    m: Sequence[int],
    k: Sequence[int],
    seeds: int = 1,
    progress: Progress | None = None,
) -> Heatmap:
    """Train every loss for every (m, k) and judge every model at all of them.

    Runs that are complete are not run again. Each is stopped by the recall of the validation
    requests at the (m, k) that it is trained for.

    Args:
        settings: of a run with one stage; its quota is m in turn, its ground truth the top k. A
            split by folds makes all folds run.
        folder: of all runs; ``heatmap.json`` and ``heatmap.md`` are written into it.
        losses: names of objectives; options are those of ``settings`` for the objective that they
            are of, and defaults for the others.
        m: how many candidates the stage passes on.
        k: sizes of the ground truth.
        seeds: runs per loss, (m, k) and fold.
        progress: hears how far it is.

    Raises:
        ConfigError: if there is not one stage, the grid is empty, or a loss is unknown.
        DataError: if the request log is not what it must be.

    Source: ARF (arXiv 2310.10462), figures 2 and 3.
    """
    progress = progress or Silent()
    cells = _checked(settings, losses, m, k, seeds)
    log = RequestLog.open(settings.data.path)
    folds = folds_of(settings, log)
    names = [f"recall@{a}@{b}" for a, b in cells]
    stage = next(iter(settings.stages))
    total = len(folds) * len(losses) * len(cells) * seeds
    values: dict[tuple[str, int, int], list[Floats]] = {}
    requests = 0
    progress.start("training", total)
    with locked(folder):
        for fold in folds:
            with run_data(fold.settings, folder=folder, progress=progress) as data:
                requests += len(data.split.test)
                for loss, (i, cell), seed in product(losses, enumerate(cells), range(seeds)):
                    told = f"m-{cell[0]}-k-{cell[1]}"
                    run = train_run(
                        _settings(fold.settings, loss, cell, seed, names),
                        folder / loss / told / fold.folder / f"seed-{seed}",
                        data=data,
                        progress=progress,
                    )
                    found = np.stack([run.test.per_request[f"{n}/{stage}"] for n in names])
                    values.setdefault((loss, i, seed), []).append(found.astype(np.float64))
                    progress.advance(1, f"{loss}, {told}, {fold.name}, seed {seed}")
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
    write_atomically(folder / "heatmap.md", heatmap_markdown(result).encode())
    return result


def consistency(recall: Floats, cells: Sequence[tuple[int, int]]) -> float:
    """Say in one figure whether training for a cell of a grid is what makes models good at it.

    Args:
        recall: ``[trained for][judged at]``.
        cells: the pairs (m, k), in the order of rows and columns.

    Returns:
        The rank correlation between how few steps of the grid lie between what was trained for
        and what is judged, and the place of a model among those judged at the same (m, k): 1 if
        nearer is always better, about 0 if it makes no difference. NaN if models do not differ.

    Examples:
        >>> cells = [(10, 5), (20, 5), (30, 5)]
        >>> recall = np.array([[0.5, 0.6, 0.6], [0.4, 0.7, 0.7], [0.3, 0.6, 0.8]])
        >>> consistency(recall, cells)
        1.0

    Source: this project.
    """
    places = [sorted({cell[axis] for cell in cells}) for axis in (0, 1)]
    at = np.array([[places[0].index(a), places[1].index(b)] for a, b in cells])
    steps = np.abs(at[:, None] - at[None]).sum(-1)
    ranks = rankdata(recall, axis=0)
    near = rankdata(-steps, axis=0)
    if np.ptp(ranks) == 0 or np.ptp(near) == 0 or np.isnan(recall).any():
        return math.nan
    return round(float(spearmanr(near.ravel(), ranks.ravel()).statistic), 12)


def heatmap_markdown(found: Heatmap) -> str:
    """Write a heat map as tables of Markdown; in each column, the best model is bold."""
    heads = [f"{a}@{b}" for a, b in found.grid]
    lines = [f"**{found.dataset}: Recall@m@k, {found.requests:,} test requests, {_over(found)}**"]
    for of in found.losses:
        lines += [
            "",
            f"`{of.loss}`: consistency {of.consistency:.2f}, regret {of.regret:.4f}",
            "",
            f"| trained for | {' | '.join(heads)} |",
            f"| :-- |{' --: |' * len(heads)}",
        ]
        best = [max(column) for column in zip(*of.recall, strict=True)]
        for head, row in zip(heads, of.recall, strict=True):
            texts = [
                f"**{x:.3f}**" if x == top else f"{x:.3f}" for x, top in zip(row, best, strict=True)
            ]
            lines.append(f"| {head} | {' | '.join(texts)} |")
    return "\n".join([*lines, ""])


def _over(found: Heatmap) -> str:
    folds = "1 fold" if found.folds == 1 else f"{found.folds} folds"
    return folds + (", 1 seed" if found.seeds == 1 else f", {found.seeds} seeds")


def _checked(
    settings: RunSettings, losses: Sequence[str], m: Sequence[int], k: Sequence[int], seeds: int
) -> list[tuple[int, int]]:
    if len(settings.stages) != 1:
        raise ConfigError(f"a heat map is of one stage; the config has {len(settings.stages)}")
    for what, of in (("losses", losses), ("m", m), ("k", k)):
        if not of or len({*of}) < len(of):
            raise ConfigError(f"{what} of a heat map: at least one, none twice; got {list(of)}")
    if seeds < 1 or min(*m, *k) < 1:
        raise ConfigError("m, k and seeds of a heat map must be at least 1")
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
            f"stages.{stage}.quota": cell[0],
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
