"""LETOR and svmlight files: ``label qid:ID index:value ... # comment``, one line per candidate.

The layout of LETOR 4.0 (MQ2007, MQ2008), MSLR-WEB10K and 30K, Istella and the ClueWeb09 set, and
of RankLib. Files of LightGBM and XGBoost have the sizes of queries in a file beside them.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.data.log.validation import ITEM_KEY
from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT, REQUEST_WEIGHT
from cascaderank.data.sources import SOURCES, Inputs, Progress, checked_options
from cascaderank.data.sources._letor.folders import letor_files
from cascaderank.data.sources._letor.queries import (
    Counts,
    Preparation,
    WithinQuery,
    prepared,
    scaled,
    whole_queries,
)
from cascaderank.data.sources._letor.scan import scan_files
from cascaderank.data.sources._letor.side_files import SideFiles, side_files
from cascaderank.data.sources._letor.svmlight import Block, finite_blocks, read_blocks
from cascaderank.data.sources._shared.input_files import byte_counter
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Kind, Role, Schema, Transform

_INIT = "init"
_NOTES = {
    CANDIDATE_WEIGHT: "lines_with_candidate_weight",
    REQUEST_WEIGHT: "queries_with_request_weight",
}
_MOST_FEATURES = 10_000  # one column each; public data sets have at most 700
_REQUESTS_PER_PART = 2000  # MSLR-WEB30K: 120 candidates with 136 features per request


@SOURCES.register
@checked_options
def letor_source(
    from_: Inputs,
    to: str | os.PathLike[str],
    *,
    features: int | None = None,
    transform: Transform = Transform.LOG1P_STANDARDISE,
    within_query: WithinQuery | None = None,
    missing: bool = False,
    fold: int | None = None,
    min_documents: int = 1,
    max_documents: int | None = None,
    min_positives: int = 15,
    seed: int = 0,
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    r"""Convert LETOR files, plain or gzipped, to a request log with one request per query.

    Features are numeric and named ``f1`` to ``fN``, as in the papers of these data sets. A feature
    that a line omits is 0, as in every sparse svmlight file. Indices must increase within a line,
    and the lines of a query must be adjacent.

    Document ids in comments (``# docid = GX029-35``, ``#docid=7``, ``# FT911-3``) become the
    column ``item_key`` of the log if every line has one, unique in its query; otherwise the
    notes of the data set have the reason. The log suggests ``data.target = "label"``, since it
    has no levels.

    Files beside a file ``X``, as LightGBM and XGBoost read them: ``X.query`` or ``X.group`` has
    the number of lines of each query, for lines without ``qid``; queries are then named ``X-1``,
    ``X-2`` and so on. ``X.init`` has an initial score for each line, which becomes the numeric
    feature ``init``. ``X.weight`` has weights for training: one for each line, as in LightGBM,
    becomes ``candidate_weight``, and one for each query, as in XGBoost, ``request_weight``. Lines
    of files without weights have weight 1. The notes have the number of weights of each kind.

    If the files are named ``train``, ``vali`` (or ``valid``, ``validation``) and ``test``, as in
    a fold of MSLR or in Istella, or have such a part in their names (``rank.train``,
    ``set1.train.txt`` of Yahoo), the log keeps these parts, for ``data.split.by = "given"``. In a
    folder that contains ``Fold1``, ``Fold2`` and so on, every query is read once, from the test
    file of its fold; the official parts of each fold are derived from that.

    The experiments of ARF use ``min_documents=41``, ``max_documents=200`` and
    ``transform="log1p"``.

    Args:
        from_: files or folders; from a folder, ``.txt``, ``.dat``, ``.svm``, ``.svmlight``,
            ``.libsvm`` and ``.letor`` files and files of any name with a ``.query`` or ``.group``
            file, with or without ``.gz``; or one folder of folds.
        to: folder of the request log to write.
        features: number of features; a larger index is an error. Default: the largest index of
            all files, which requires reading them twice.
        transform: transformation that models apply to every feature. The default suits raw counts
            and scores of any magnitude, as in most of these data sets.
        within_query: scaling of each feature by the values of the same query: ``"min_max"`` maps
            the smallest value to 0 and the largest to 1, as the query-level files of LETOR do;
            ``"standardise"`` takes signed logarithms, subtracts their mean and divides by their
            standard deviation. A feature that is constant within a query is 0. Default: no
            scaling.
        missing: read NaN, ``NULL``, infinities and numbers beyond float32 (Istella's 1.797e308)
            as missing values; by default they are errors.
        fold: number of the fold to read, with its own parts, from a folder of folds; default all.
        min_documents: smallest number of documents of a query, 1 or more; queries with fewer are
            dropped.
        max_documents: number of documents to sample at random from a query with more, 1 or more;
            default all.
        min_positives: number of sampled documents with a label above 0, 0 or more, if the query
            has as many.
        seed: seed of the sampling, 0 or more.
        name: name of the data set; default the name of the folder ``to``.
        overwrite: replace an existing request log.
        progress: callback that receives the bytes read so far and the total.

    Raises:
        ConfigError: if an option is unknown or of a wrong type.
        DataError: if an option is out of range, a file is missing, damaged or of another layout
            (the message names file and line), the sizes of queries, the initial scores or the
            weights do not fit the lines, the folds do not rotate as those of LETOR do, or no query
            remains.

    Examples:
        >>> import tempfile
        >>> from cascaderank.data.log.request_log import RequestLog
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "web.txt").write_text("2 qid:7 1:0.5\n0 qid:7 2:3 # doc\n")
        ...     letor_source(Path(folder) / "web.txt", Path(folder) / "log")
        ...     [f["f1"].to_list() for f in RequestLog.open(Path(folder) / "log").frames()]
        [[[0.5, 0.0]]]

    Source: Qin and Liu, Introducing LETOR 4.0 Datasets, arXiv:1306.2597, for the layout.
    """
    preparation = Preparation(
        min_documents=min_documents,
        max_documents=max_documents,
        min_positives=min(min_positives, max_documents or min_positives),
        seed=seed,
    )
    files = letor_files(from_, fold)
    paths = [file.path for file in files]
    if features is not None and features < 1:
        raise DataError(f"features must be at least 1; got {features}")
    sides = [side_files(path) for path in paths]
    scan = scan_files(sides, features)
    if scan.width > _MOST_FEATURES:
        raise DataError(
            f"expected at most {_MOST_FEATURES:,} features, found the index {scan.width:,} in the "
            "files or in features; correct it, or number the features without gaps"
        )
    names = [f"f{i + 1}" for i in range(scan.width)]
    if _have_init(sides):
        names.append(_INIT)
    schema = Schema(
        features=tuple(
            Feature(name=n, role=Role.ITEM, kind=Kind.NUMERIC, transform=transform, missing=missing)
            for n in names
        )
    )
    of_files = {name for weights in scan.weights for name in weights.columns}
    weighted = [name for name in (REQUEST_WEIGHT, CANDIDATE_WEIGHT) if name in of_files]
    advance = byte_counter(paths, progress)
    seen: dict[str, str] = {}
    with RequestLogWriter(
        to,
        name=name or Path(to).name,
        schema=schema,
        overwrite=overwrite,
        rows_per_part=_REQUESTS_PER_PART,
    ) as writer:
        missing_values, counts = 0, Counts()
        for file, side, has_qid, weights in zip(
            files, sides, scan.has_qid, scan.weights, strict=True
        ):
            blocks = read_blocks(
                file.path,
                scan.width,
                advance,
                queries=None if has_qid else side.query_names,
                last=side.init,
                keyed=not scan.without_ids,
                weights=weights.columns,
            )
            if not missing:
                blocks = finite_blocks(blocks, file.path)
            for block in whole_queries(blocks, file.path, seen):
                kept = prepared(block, preparation, counts)
                if kept is not None:
                    missing_values += int(np.isnan(kept.values).sum())
                    values = scaled(kept, within_query)
                    writer.write(_frame(values, names, weighted), given=file.given)
        if counts.dropped_queries == len(seen):
            raise DataError(
                f"{paths[0]}: expected queries with at least {min_documents} documents, found none "
                f"among {len(seen)}; lower min_documents"
            )
        writer.extra["suggested"] = {"target": "label"}
        writer.extra["notes"] = {
            "files": len(files),
            "document_ids": f"not kept: {scan.without_ids}" if scan.without_ids else "kept",
            "missing_values": missing_values,
            **asdict(counts),
            **{
                _NOTES[name]: sum(of.count for of in scan.weights if name in of.columns)
                for name in weighted
            },
        }


def _have_init(sides: Sequence[SideFiles]) -> bool:
    """Return whether all files have initial scores; raise if only some of them have."""
    without = [side.of for side in sides if side.init is None]
    if without and len(without) < len(sides):
        raise DataError(
            f"{without[0]}: expected a file with initial scores beside it ({_INIT}), as other "
            "files have; give one for every file or for none"
        )
    return not without


def _frame(block: Block, names: list[str], weighted: Sequence[str]) -> pl.DataFrame:
    """Return one row per query, with candidates in the order of their lines and NaN as null."""
    ones = np.ones(len(block.queries), np.float32)
    requests = (
        pl.from_numpy(block.values, schema=names)
        .select(pl.all().fill_nan(None))
        .insert_column(0, pl.Series("request_id", block.queries))
        .with_columns(
            label=pl.Series(block.labels),
            **{name: pl.Series(block.weights.get(name, ones)) for name in weighted},
            **_keys(block),
        )
        .group_by("request_id", maintain_order=True)
        .agg(pl.all())
    )
    if REQUEST_WEIGHT in weighted:
        requests = requests.with_columns(pl.col(REQUEST_WEIGHT).list.first())
    return requests


def _keys(block: Block) -> dict[str, pl.Series]:
    return {} if block.keys is None else {ITEM_KEY: pl.Series(block.keys)}
