"""Ground truth that the stages of a run cut: a row per candidate, by stage, worst first."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import polars as pl
import torch

from cascaderank.batch import RequestBatch
from cascaderank.data.encoding.encoded_log import shuffled_order
from cascaderank.data.ragged import flattened, positions_within
from cascaderank.errors import DataError
from cascaderank.evaluation.evaluate import evaluation_mode
from cascaderank.evaluation.fates import fates
from cascaderank.evaluation.plain_values import plain_rows
from cascaderank.progress import Progress, Silent
from cascaderank.runs.candidate_scores import check_scores
from cascaderank.runs.item_keys import item_keys
from cascaderank.runs.load import TrainedRun, load_run
from cascaderank.runs.new_files import new_file
from cascaderank.runs.parts import Part, part_of
from cascaderank.runs.row_files import RowWriter, check_parquet
from cascaderank.runs.seeding import pick_device
from cascaderank.selection import check_size, relevance_of, share

_WORST: Final = ["ranks_below", "score_below"]
"""Columns that rows are sorted by, largest first; rows that are equal in both keep the order of the
log."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LostAtStage:
    """Ground truth that one stage cut."""

    stage: str
    quota: int
    candidates: int
    """Number of candidates of the ground truth that the stage cut."""
    share: float
    """Share of the ground truth that the stage cut, mean over requests with ground truth."""
    worst: pl.DataFrame
    """The candidates furthest below the cut, in the columns of :func:`lost_ground_truth`."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LostGroundTruth:
    """Ground truth that the stages of a run cut."""

    part: Part
    """Requests that were read."""
    requests: int
    """Number of requests with ground truth."""
    undefined: int
    """Number of requests without ground truth."""
    key: str
    """Identity of the candidates."""
    stages: tuple[LostAtStage, ...]
    """Losses by stage, first stage first."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict; undefined values are ``None``."""
        stages = [{**vars(s), "worst": plain_rows(s.worst)} for s in self.stages]
        return {**vars(self), "stages": stages}


def lost_ground_truth(
    run: TrainedRun | str | os.PathLike[str],
    dataset: str | os.PathLike[str] | None = None,
    *,
    part: Part = "auto",
    key: str | None = None,
    worst: int = 10,
    to: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LostGroundTruth:
    """List the ground truth that each stage of a run cut, worst first.

    The worst candidate is the one that missed the quota by most ranks, among those that the stage
    received; of equal ones, the one with the largest distance of scores.

    Columns of the rows: ``stage``, ``request_id``, ``item_key``, ``level`` (name; if the log has
    levels), ``label``, ``ground_truth`` (membership in (0, 1]), ``rank`` in the stage,
    ``ranks_below`` the quota, ``score`` and ``score_below`` that of the last candidate that the
    stage kept.

    Args:
        run: a complete run, or its folder.
        dataset: folder of a request log with labels; default: the data set of the run.
        part: requests to read, as in :func:`~cascaderank.training.evaluate_run.evaluate_run`.
        key: feature that identifies items; see :func:`~cascaderank.runs.item_keys.item_keys`.
        worst: number of rows of each stage in the result, at least 1.
        to: Parquet file of all rows, by stage, worst first; ``None`` for no file. The rows of one
            stage are in memory while they are sorted.
        overwrite: whether an existing file is replaced.
        progress: receives the progress of the work.

    Raises:
        ConfigError: if ``worst`` is not positive, or the file exists or is no ``.parquet``.
        RunError: if the folder does not hold a complete run, or the file cannot be written.
        SchemaError: if the data set does not have the features of the run.
        DataError: if the data set is damaged, no request has ground truth, or a score is NaN.

    Source: this project.
    """
    check_size(worst, "worst")
    if to is not None:
        check_parquet(to, overwrite=overwrite)
    run = run if isinstance(run, TrainedRun) else load_run(run)
    settings, progress = run.settings, progress or Silent()
    device = pick_device(settings.train.device)
    cascade = run.cascade.to(device)
    names, truth = cascade.stage_names, settings.ground_truth
    counts, shares = np.zeros(len(names), np.int64), []
    best: list[list[pl.DataFrame]] = [[] for _ in names]
    dataset = settings.data.path if dataset is None else dataset
    with ExitStack() as opened:
        data, found_part, rows = opened.enter_context(
            part_of(run, dataset, part, progress=progress)
        )
        keys, loader = item_keys(data.log, settings, key), data.loader(rows)
        blocks = data.folder / "lost.parquet"
        writer = None if to is None else opened.enter_context(RowWriter(blocks))
        progress.start("explaining", loader.batches_per_epoch)
        starts = range(0, len(rows), loader.batch_size)
        lists = keys.lists(rows, loader.batch_size)
        for start, batch, of_batch in zip(starts, loader.epoch(0), lists, strict=True):
            if batch.labels is None:
                raise DataError(
                    "lost ground truth needs labels; prepare the requests with a target"
                )
            with evaluation_mode(cascade), torch.no_grad():
                scores = cascade(batch.to(device)).float().cpu()
            check_scores(scores, batch.mask)
            relevance = relevance_of(
                batch.labels, k=truth.top, threshold=truth.threshold, mask=batch.mask
            )
            lengths = batch.mask.sum(-1).numpy()
            order = shuffled_order(lengths, rows[start : start + len(batch)])
            positions = pl.Series(positions_within(lengths))
            logged = positions if of_batch is None else flattened(of_batch)
            ids = data.encoded.request_ids.gather(rows[start : start + len(batch)])
            lost, of_stages = _lost(
                batch,
                batch.labels,
                scores,
                relevance,
                cascade.quotas,
                ids,
                logged.gather(order),
                names,
            )
            of_levels = _with_level_names(lost, data.log.manifest.level_names)
            shares.append(of_stages)
            for t, name in enumerate(names):
                own = of_levels.filter(stage=name)
                counts[t] += own.height
                best[t] = [_sorted(pl.concat([*best[t], own])).head(worst)]
            if writer is not None:
                writer.write(of_levels)
            progress.advance()
        progress.stop()
        means = torch.cat(shares, -1)
        defined = ~means[0].isnan()
        if not defined.any():
            raise DataError(
                "no evaluated request has ground truth, so none is lost; check relevance and "
                "data.target of the run"
            )
        if writer is not None and to is not None:
            writer.close()
            _write_sorted(blocks, to, names)
        return LostGroundTruth(
            part=found_part,
            requests=int(defined.sum()),
            undefined=int((~defined).sum()),
            key=str(keys),
            stages=tuple(
                LostAtStage(
                    stage=name,
                    quota=cascade.quotas[t],
                    candidates=int(counts[t]),
                    share=float(means[t, defined].mean()),
                    worst=best[t][0],
                )
                for t, name in enumerate(names)
            ),
        )


def _lost(
    batch: RequestBatch,
    labels: torch.Tensor,
    scores: torch.Tensor,
    relevance: torch.Tensor,
    quotas: Sequence[int],
    ids: pl.Series,
    keys: pl.Series,
    names: Sequence[str],
) -> tuple[pl.DataFrame, torch.Tensor]:
    """Return one row per lost candidate of a batch, and the shares ``[stages, batch]`` lost."""
    found = fates(scores, quotas, batch.mask)
    cut = found.received & ~found.kept
    lost = cut & (relevance > 0)
    stage, request, place = lost.nonzero(as_tuple=True)
    numbers = (batch.mask.flatten().cumsum(0) - 1).view(batch.mask.shape)  # without padding
    columns = {
        "stage": pl.Series(list(names), dtype=pl.String).gather(stage.numpy()),
        "request_id": ids.gather(request.numpy()),
        "item_key": keys.gather(numbers[request, place].numpy()),
        "level": pl.Series(
            [] if batch.levels is None else batch.levels[request, place].numpy(), dtype=pl.Int64
        ),
        "label": pl.Series(labels[request, place].numpy()),
        "ground_truth": pl.Series(relevance[request, place].numpy()),
        "rank": pl.Series(found.ranks[lost].numpy()).cast(pl.Int32),
        "ranks_below": pl.Series(-found.rank_margins[lost].numpy()).cast(pl.Int32),
        "score": pl.Series(scores[lost].numpy()),
        "score_below": pl.Series(-found.score_margins[lost].numpy()),
    }
    if batch.levels is None:
        del columns["level"]
    return pl.DataFrame(columns), share(cut, relevance)


def _with_level_names(rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    if "level" not in rows.columns:
        return rows
    return rows.with_columns(
        pl.Series(list(names), dtype=pl.String).gather(rows["level"]).alias("level")
    )


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort(_WORST, descending=True, maintain_order=True)


def _write_sorted(blocks: Path, to: str | os.PathLike[str], names: Sequence[str]) -> None:
    """Write the rows of a file to another one, by stage, worst first."""
    with new_file(to) as hidden, RowWriter(hidden) as writer:
        for name in names:
            writer.write(_sorted(pl.scan_parquet(blocks).filter(stage=name).collect()))
