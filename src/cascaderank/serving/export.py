"""Export of a run as a bundle."""

import os
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from cascaderank import __version__
from cascaderank.data.encoding.encoder import check_same_features
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import Rows, split_requests
from cascaderank.errors import ConfigError, DataError, RunError
from cascaderank.limits import LARGEST
from cascaderank.progress import Progress, Silent
from cascaderank.regular_files import check_path
from cascaderank.runs.build import schema_of_stages
from cascaderank.runs.claim import recorded_fingerprint
from cascaderank.runs.folder import read_json
from cascaderank.runs.item_keys import item_keys
from cascaderank.runs.load import TrainedRun, load_run
from cascaderank.schema import FittedSchema, Role, Schema
from cascaderank.serving.bundle_files import (
    CONFIG,
    GOLDEN,
    INDEX,
    ITEM_PARTS,
    SCHEMA,
    WEIGHTS,
    BundleManifest,
    ItemEntry,
    StageEntry,
    bundle_destination,
    new_bundle,
    read_bundle_manifest,
    write_bundle_manifest,
)
from cascaderank.serving.golden import golden_frame, golden_scores
from cascaderank.serving.item_index import indexed
from cascaderank.serving.item_table import ItemTable
from cascaderank.serving.onnx_stages import save_onnx
from cascaderank.serving.raw_items import RawItems, items_of_file, items_of_log
from cascaderank.serving.stage_plan import parts_of_items, stage_plans
from cascaderank.serving.value_encoder import ValueEncoder
from cascaderank.serving.verify import Verification, verify_bundle


def export_run(
    folder: str | os.PathLike[str],
    to: str | os.PathLike[str],
    *,
    dataset: str | os.PathLike[str] | None = None,
    items: str | os.PathLike[str] | None = None,
    item: str | None = None,
    latest: Sequence[str] = (),
    golden: int = 200,
    name: str | None = None,
    index: str | None = None,
    onnx: bool = False,
    progress: Progress | None = None,
) -> tuple[BundleManifest, Verification]:
    """Write a run as a bundle, and verify it before it has its name.

    A bundle that exists at ``to`` is replaced in one step; a process that has loaded it keeps it.

    Args:
        folder: folder of a complete run.
        to: folder of the bundle.
        dataset: request log of the items and the golden requests; default: that of the run.
        items: Parquet file or JSON lines with one row per item, which replace the items of the log.
            A category that training did not have is out of vocabulary.
        item: feature that identifies items, see :func:`~cascaderank.runs.item_keys.item_keys`.
        latest: names or shell patterns of features that describe an item alone and change over
            time, see :func:`~cascaderank.serving.raw_items.items_of_log`.
        golden: number of golden requests, from the test requests; all, if there are fewer.
        name: name of the bundle; default: that of the folder of the run.
        index: approximate index of the items that the first stage searches: ``hnsw``, or a
            description for faiss, such as ``"IVF64,Flat"``; default: exact search. Its recall
            against exact search is measured on the golden requests.
        onnx: whether to write each stage as ONNX, too, except decision trees.
        progress: receives the progress of the work.

    Returns:
        The manifest, and the result of the verification, which found no difference.

    Raises:
        RunError: if the folder is no complete run, ``to`` is no bundle and not empty, or the bundle
            does not serve what was trained.
        DataError: if the data set is missing or damaged, or items are invalid.
        SchemaError: if the data set or the file of items has other features.
        ConfigError: if ``golden`` is not positive, an item feature does not exist, the first stage
            cannot be indexed, or a stage cannot be exported as ONNX.
        MissingExtraError: if a package of the extra ``ann`` or ``onnx`` is needed and missing.
    """
    progress = progress or Silent()
    if not 1 <= golden <= LARGEST:
        raise ConfigError(f"--golden must be a positive number of requests; got {golden}")
    bundle_destination(to)  # before the work
    run = load_run(folder)
    schema = schema_of_stages(run.settings, run.schema)
    log = _opened(run, dataset)
    check_same_features(schema, log.schema, where=str(log.path))
    found = _items(run, log, schema, item=item, latest=latest, file=items)
    raw, table = (None, None) if found is None else found
    with new_bundle(to) as hidden:
        shutil.copyfile(run.folder.config, hidden / CONFIG)
        shutil.copyfile(run.folder.schema, hidden / SCHEMA)
        shutil.copyfile(run.folder.weights, hidden / WEIGHTS)
        plans = stage_plans(
            run.cascade, run.schema, run.settings, known=table.features if table is not None else ()
        )
        parts = dict[str, Tensor]()
        if table is not None:
            table.save(hidden)
            parts = parts_of_items(plans, table)
            save_file(parts, hidden / ITEM_PARTS)
        frame = golden_frame(log, _golden_rows(run, log, golden), schema, raw)
        if not frame.height:
            raise DataError(
                f"{items}: no candidate of the golden requests is among the items; expected the "
                "items of the log, or most of them"
            )
        frame.write_parquet(hidden / GOLDEN)
        golden_scores(frame, run.cascade, run.settings, run.schema).save(hidden)
        entry = None
        if index is not None:
            length = run.settings.data.history_length
            first, encoder = plans[0], ValueEncoder(schema, history_length=length)
            built, entry = indexed(first, parts.get(first.name), encoder, frame, index)
            built.save(hidden / INDEX)
        files = save_onnx(run.cascade, run.settings, run.schema, hidden) if onnx else {}
        models = {n: stage.model for n, stage in run.settings.stages.items()}
        write_bundle_manifest(
            hidden,
            BundleManifest(
                name=name or run.folder.path.resolve().name,
                run=str(run.folder.path),
                version=__version__,
                stages=tuple(
                    StageEntry(
                        name=p.name,
                        model=models[p.name],
                        quota=p.quota,
                        pair_features=p.pair_features,
                        onnx=files.get(p.name),
                    )
                    for p in plans
                ),
                items=None
                if raw is None or table is None
                else ItemEntry(
                    count=len(table),
                    key=raw.key,
                    features=raw.features,
                    out_of_vocabulary=table.out_of_vocabulary,
                    source=raw.source,
                ),
                index=entry,
                history_length=run.settings.data.history_length,
                golden=frame.height,
                metrics=_metrics(run),
            ),
        )
        verification = verify_bundle(hidden, progress=progress)
        if not verification.equal:
            raise RunError(
                f"{to}: not written, since it would not serve what was trained: "
                f"{verification.difference}"
            )
    return read_bundle_manifest(to), verification


def _opened(run: TrainedRun, dataset: str | os.PathLike[str] | None) -> RequestLog:
    path = check_path(dataset or run.settings.data.path, DataError)
    if dataset is None and not path.exists():
        raise DataError(
            f"{path}: the data set of the run is not here; change to the folder that the run was "
            "trained in, or name the data set with --dataset"
        )
    return RequestLog.open(path)


def _items(
    run: TrainedRun,
    log: RequestLog,
    schema: FittedSchema,
    *,
    item: str | None,
    latest: Sequence[str],
    file: str | os.PathLike[str] | None,
) -> tuple[RawItems, ItemTable] | None:
    """Return the items with their codes; ``None`` for a log that does not identify items."""
    key = item_keys(log, run.settings, item).column
    if key is None:
        if file is not None or latest:
            raise ConfigError(
                f"{log.path} names no feature that identifies an item; choose one with --item"
            )
        return None
    # A number standardised by request is no property of an item.
    of_items = Schema(features=tuple(f for f in schema.of(Role.ITEM) if not f.by_request))
    raw = items_of_log(log, key, of_items, latest=latest)
    if file is not None:
        raw = items_of_file(file, raw)
    try:
        table = ItemTable.encode(raw.frame, key, schema.only(raw.features))
    except DataError as error:
        raise type(error)(f"{raw.source}: {error}") from None
    return raw, table


def _golden_rows(run: TrainedRun, log: RequestLog, most: int) -> Rows:
    """Return evenly spaced test requests; of a data set other than that of the run, any."""
    rows = np.arange(log.manifest.requests)
    if recorded_fingerprint(run.folder.report) == log.fingerprint:
        rows = split_requests(log, run.settings.data.split).test
    places = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64)
    return np.sort(rows[np.unique(places)])


def _metrics(run: TrainedRun) -> dict[str, Any]:
    test = read_json(run.folder.report).get("test")
    return {"test": test} if isinstance(test, dict) else {}
