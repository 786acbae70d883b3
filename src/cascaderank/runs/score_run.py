"""Score the candidates of a data set by all stages of a run, and write the result to files."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import polars as pl

from cascaderank.batch import RequestBatch
from cascaderank.data.encoding.encoded_log import shuffled_order
from cascaderank.data.ragged import flattened, positions_within
from cascaderank.data.split import Rows
from cascaderank.errors import ConfigError
from cascaderank.progress import Progress, Silent
from cascaderank.runs.build import schema_of_stages
from cascaderank.runs.candidate_scores import device_of, evaluating, scores_of
from cascaderank.runs.data import RunData
from cascaderank.runs.item_keys import ItemKeys, item_keys
from cascaderank.runs.item_vectors import (
    all_items,
    item_vectors,
    request_vectors,
    vector_stage,
)
from cascaderank.runs.load import TrainedRun, load_run
from cascaderank.runs.new_files import check_free, new_file
from cascaderank.runs.parts import Part, part_of
from cascaderank.runs.saved_parts import Block, ScoredRows, key_of, saved_parts
from cascaderank.runs.score_files import Format, format_of, score_writer
from cascaderank.runs.seeding import pick_device
from cascaderank.runs.vector_files import VectorFormat, files_of, write_vectors
from cascaderank.schema import Role


@final
@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """What :func:`score_run` has written."""

    part: Part
    """Requests that were scored."""
    requests: int
    candidates: int
    item_key: str
    """Identity of the candidates."""
    written: int
    """Rows of the file of scores: all candidates, or those of the final lists for TREC."""
    repeated: int
    """Candidates left out of a TREC run file, because the request has a better one of that key."""
    stage: str | None
    """Stage of the vectors; ``None`` without vectors."""
    items: int
    """Number of item vectors."""
    dim: int
    """Length of the vectors."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict."""
        return asdict(self)


def score_run(
    folder: str | os.PathLike[str],
    dataset: str | os.PathLike[str],
    *,
    to: str | os.PathLike[str] | None = None,
    vectors: str | os.PathLike[str] | None = None,
    part: Part = "auto",
    kind: str | None = None,
    item: str | None = None,
    stage: str | None = None,
    vectors_kind: VectorFormat = "numpy",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Score the candidates of a data set by all stages of a complete run, and write files.

    Scores and final lists are those of ``cascaderank evaluate``, in batches of the same requests.
    Candidates are written in the order of the log, batch by batch, so memory does not grow with the
    data set. A file is complete or does not exist; after a kill, the same call continues after the
    last complete part of the scores, and ends with the same bytes. Labels are not needed.

    Args:
        folder: folder of the run.
        dataset: folder of a request log with the features that the stages read.
        to: file of scores; ``None`` for no such file.
        vectors: folder of the vectors of all items of the data set and of the requests of the part,
            in the files of :data:`~cascaderank.runs.vector_files.VECTOR_FILES`; ``None`` for no
            vectors.
        part: requests to score, as in :func:`~cascaderank.training.evaluate_run.evaluate_run`.
        kind: ``"parquet"``, ``"jsonl"`` or ``"trec"``; by default the suffix of the file decides.
        item: feature that identifies items, see :func:`~cascaderank.runs.item_keys.item_keys`.
        stage: stage of the vectors; by default the first whose score is a dot product.
        vectors_kind: format of the vectors, ``"numpy"`` or ``"parquet"``.
        overwrite: whether existing files are replaced.
        progress: receives the progress of the work.

    Raises:
        ConfigError: if neither ``to`` nor ``vectors`` is given, one of them exists, the format is
            unknown, ``item`` does not exist, or the run has no stage with vectors.
        RunError: if the folder does not hold a complete run, or a file cannot be written.
        SchemaError: if the data set does not have the features that the stages read.
        DataError: if the data set is damaged, or a score is NaN.
    """
    if to is None and vectors is None:
        raise ConfigError("nothing to write; set --to FILE, --vectors DIR or both")
    if to is not None:
        check_free([Path(to)], overwrite=overwrite)
    if vectors is not None:
        names = files_of(vectors_kind)
        check_free([Path(vectors) / name for name in names], overwrite=overwrite)
    target = None if to is None else (Path(to), format_of(to, kind))
    run = load_run(folder)
    chosen = None if vectors is None else vector_stage(run.cascade, stage)
    device, progress = pick_device(run.settings.train.device), progress or Silent()
    run.cascade.to(device)
    schema = schema_of_stages(run.settings, run.schema)
    opened = part_of(run, dataset, part, schema=schema, labels=False, progress=progress)
    with opened as (data, found, rows):
        keys = item_keys(data.log, run.settings, item)
        (items, dim), (written, repeated) = (0, 0), (0, 0)
        # Vectors first: what is wrong with them is found before hours of scoring.
        if vectors is not None and chosen is not None:
            paths = [Path(vectors) / name for name in names]
            items, dim = _write_vectors(run, data, rows, keys, chosen, paths, progress)
        if target is not None:
            key = key_of(
                *(run.folder.config, run.folder.schema, run.folder.weights),
                options=[data.log.fingerprint, found, item, device.type],
            )
            written, repeated = _write_scores(run, data, rows, keys, *target, key, progress)
        lengths = data.encoded.offsets[rows + 1] - data.encoded.offsets[rows]
        return ScoreSummary(
            part=found,
            requests=len(rows),
            candidates=int(lengths.sum()),
            item_key=str(keys),
            written=written,
            repeated=repeated,
            stage=chosen,
            items=items,
            dim=dim,
        )


def _write_scores(
    run: TrainedRun,
    data: RunData,
    rows: Rows,
    keys: ItemKeys,
    to: Path,
    kind: Format,
    key: str,
    progress: Progress,
) -> tuple[int, int]:
    """Write the scores of some requests; return the rows written and the copies left out."""
    stages, loader = run.cascade.stage_names, data.loader(rows)
    progress.start("scoring", loader.batches_per_epoch)
    options = {"tag": run.folder.path.resolve().name, "final_score": f"score/{stages[-1]}"}

    def of_batch(batch: RequestBatch, numbers: Rows, item_keys: pl.Series | None) -> ScoredRows:
        scored = scores_of(run.cascade, batch)
        # The encoded log has the candidates in random order, files in the order of the log.
        scored = scored.ordered(shuffled_order(scored.lengths, numbers))
        owners = np.repeat(numbers, scored.lengths)
        if item_keys is None:
            found = pl.Series(positions_within(scored.lengths))
        else:
            found = flattened(item_keys)
        ids = data.encoded.request_ids.gather(owners)
        columns = {"request_id": ids, "item_key": found, **scored.columns(stages)}
        return ScoredRows(frame=pl.DataFrame(columns))

    def of_batches() -> Iterator[Block]:
        lists = keys.lists(rows, loader.batch_size)
        starts = range(0, len(rows), loader.batch_size)
        for start, batch, of_items in zip(starts, loader.epoch(0), lists, strict=True):
            yield partial(of_batch, batch, rows[start : start + len(batch)], of_items)
            progress.advance()

    with (
        saved_parts(to, key) as parts,
        new_file(to) as hidden,
        score_writer(hidden, kind, **options) as writer,
    ):
        for part in parts.completed(of_batches()):
            writer.write(part.frame)
    progress.stop()
    return writer.written, writer.repeated


def _write_vectors(
    run: TrainedRun,
    data: RunData,
    rows: Rows,
    keys: ItemKeys,
    name: str,
    paths: list[Path],
    progress: Progress,
) -> tuple[int, int]:
    """Write the vectors of a stage; return the number of items and the length of the vectors."""
    stage: Any = run.cascade.stages[name]
    chosen = run.schema.select(run.settings.stages[name].features)
    schema = run.schema.only([f.name for f in chosen if f.role is Role.ITEM])
    items = all_items(keys, schema.names)
    device, loader = device_of(stage), data.loader(rows)
    ids = (items["item_key"], data.encoded.request_ids.gather(rows).alias("request_id"))
    progress.start("vectors", loader.batches_per_epoch)
    with ExitStack() as files, evaluating(stage):
        # All files get their names together, at exit.
        hidden = [files.enter_context(new_file(path)) for path in paths]
        each = len(hidden) // 2  # files of items, then those of requests
        dim = write_vectors(hidden[:each], ids[0], [item_vectors(stage, items, schema, device)])
        blocks = request_vectors(stage, loader, device, progress.advance)
        write_vectors(hidden[each:], ids[1], blocks)
    progress.stop()
    return items.height, dim
