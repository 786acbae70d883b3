"""TREC runs and judgments: rankings by several retrieval systems, and graded relevance.

A run consists of lines ``query Q0 document rank score tag``, judgments (qrels) of lines
``query 0 document grade``. The documents that the systems retrieved for a query are pooled. The
score and the reciprocal rank of each system become features of the candidate, as in a cascade over
real systems.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import JsonValue

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress, checked_options
from cascaderank.data.sources._trec.runs_and_qrels import Names, read_trec
from cascaderank.data.sources._trec.trec_files import trec_files
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Kind, Role, Schema, Transform, abridged

_LARGEST = float(np.finfo(np.float32).max)
_REQUESTS_PER_FRAME = 1000
_KEY = ("query", "document")


@SOURCES.register
@checked_options
def trec_source(
    from_: Inputs,
    to: str | os.PathLike[str],
    *,
    names: Names = "auto",
    order: Literal["score", "rank"] = "score",
    depth: int | None = None,
    normalise: Literal["none", "z_score", "min_max"] = "none",
    transform: Transform = Transform.STANDARDISE,
    judged_only: bool = True,
    unjudged: float | Literal["drop"] = 0.0,
    negative_grades: Literal["refuse", "zero"] = "refuse",
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    r"""Convert TREC runs and judgments to a request log with one request per query.

    Files with 6 columns are runs, files with 4 columns judgments; both may be gzipped, and their
    names need no suffix. In a folder, files that are neither are skipped; the notes of the data
    set name them with the reason. The candidates of a query are the union of the documents that
    the systems retrieved, sorted by document; their ids are the column ``item_key`` of the log.
    Each system contributes two features: ``<system>_score``, null if it did not retrieve the
    document, and ``<system>_rr``, the reciprocal rank of the document, 0 if it was not retrieved.

    The log suggests ``data.target = "label"``, since it has no levels.

    Args:
        from_: files or folders. From a folder, all files directly inside it are read whose first
            line is that of a run or of judgments; files named ``*.run``, ``*.trec``, ``*.res`` or
            ``*qrels*`` must be one of both.
        to: folder of the request log to write.
        names: origin of the names of systems. ``"file"``: name of the file up to the first dot, so
            that ``bm25.dl19.run.gz`` and ``bm25.dl20.run.gz`` are two query sets of ``bm25``.
            ``"tag"``: the last column of the run; the file name if a file has several tags.
            ``"auto"``: as ``"file"``, but the tag where file names do not distinguish systems:
            files named ``input.*``, as in TREC's archive, and files with equal names up to the
            first dot and a query in common. Files with one tag of which no two share a query are
            the run of one system, named by the tag.
        order: order that defines the rank of a document in a run. ``"score"``: decreasing score,
            as in trec_eval, with ties broken by the rank column and then by document; ``"rank"``:
            the rank column, with ties broken by score and then by document.
        depth: number of best documents of each system and query, by ``order``, that are candidates;
            at least 1. Default: all.
        normalise: normalisation of the scores of each system within each query, over its
            candidates: ``"z_score"``, mean 0 and standard deviation 1, or ``"min_max"``, from 0 to
            1. Scores that are all equal become 0. For systems whose scores are not comparable
            between queries.
        transform: transformation that models apply to the scores; reciprocal ranks are not
            transformed.
        judged_only: drop queries without any judgment.
        unjudged: label of candidates without a judgment, 0 or more, or ``"drop"`` to drop them.
        negative_grades: treatment of grades below 0, which TREC assigns to spam: ``"refuse"``
            raises an error, ``"zero"`` replaces them by 0.
        name: name of the data set; default the name of the folder ``to``.
        overwrite: replace an existing request log.
        progress: callback that receives the bytes read so far and the total.

    Raises:
        ConfigError: if an option is unknown or of a wrong type.
        DataError: if a file is missing, damaged or of another layout (the message names file and
            line), runs or judgments are missing, or they have no query or no document in common.

    Examples:
        >>> import tempfile
        >>> from cascaderank.data.log.request_log import RequestLog
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     _ = (folder / "bm25.run").write_text("q1 Q0 d1 1 9.5 x\nq1 Q0 d2 2 4.5 x\n")
        ...     _ = (folder / "qrels.txt").write_text("q1 0 d2 3\n")
        ...     trec_source(folder, folder / "log")
        ...     frame = next(RequestLog.open(folder / "log").frames())
        ...     frame["bm25_rr"].to_list(), frame["label"].to_list()
        ([[1.0, 0.5]], [[0.0, 3.0]])

    Source: this project, for the features; trec_eval, for the layouts and the order.
    """
    if depth is not None and depth < 1:
        raise DataError(f"depth must be at least 1; got {depth}")
    files, skipped = trec_files(from_)
    where = abridged(map(str, files), 3)
    read = read_trec(files, progress, names=names)
    grades = read.grades
    if negative_grades == "zero":
        grades = grades.with_columns(pl.col("grade").clip(lower_bound=0.0))
    elif below := grades.filter(pl.col("grade") < 0).height:
        raise DataError(
            f"{where}: expected non-negative grades, found {below:,} below 0; set "
            "negative_grades='zero' to read them as 0"
        )
    runs = {system: _ranked(run, order) for system, run in read.runs.items()}
    lines = sum(run.height for run in runs.values())
    if depth is not None:
        runs = {system: run.filter(pl.col("place") <= depth) for system, run in runs.items()}
    runs = {system: _normalised(run, normalise) for system, run in runs.items()}
    pool, notes = _pooled(runs, grades, judged_only=judged_only, unjudged=unjudged, where=where)
    for system, run in runs.items():
        pool = pool.join(
            run.select(
                *_KEY,
                pl.col("score").alias(f"{system}_score"),
                (1 / pl.col("place")).alias(f"{system}_rr"),
            ),
            on=_KEY,
            how="left",
            maintain_order="left",
        ).with_columns(pl.col(f"{system}_rr").fill_null(0.0))
    features = tuple(f for system in runs for f in _features(system, transform))
    lists = (
        pool.select(
            request_id="query",
            **{f.name: pl.col(f.name).cast(pl.Float32) for f in features},
            label=pl.col("label").cast(pl.Float32),
            item_key="document",
        )
        .group_by("request_id", maintain_order=True)
        .agg(pl.all())
    )
    schema = Schema(features=features)
    with RequestLogWriter(
        to, name=name or Path(to).name, schema=schema, overwrite=overwrite
    ) as writer:
        for frame in lists.iter_slices(_REQUESTS_PER_FRAME):
            writer.write(frame)
        writer.extra["suggested"] = {"target": "label"}
        writer.extra["notes"] = {
            "systems": list(runs),
            **notes,
            "lists_where_rank_and_score_disagree": sum(
                map(_lists_in_two_orders, read.runs.values())
            ),
            **_exceptions(
                named_by_tag=[*read.named_by_tag],
                several_tags_in=[*read.several_tags],
                lines_beyond_depth=lines - sum(run.height for run in runs.values()),
                skipped_files={**skipped},
            ),
        }


def _exceptions(**notes: JsonValue) -> dict[str, JsonValue]:
    """Return the notes on what is unusual, without those on what did not occur."""
    return {name: value for name, value in notes.items() if value}


def _normalised(run: pl.DataFrame, how: Literal["none", "z_score", "min_max"]) -> pl.DataFrame:
    """Return a run with the scores of each query normalised."""
    score = pl.col("score")
    if how == "none":
        return run
    if how == "z_score":
        origin, scale = score.mean(), score.std(ddof=0)
    else:
        origin, scale = score.min(), score.max() - score.min()
    scaled = ((score - origin) / pl.when(scale > 0).then(scale)).over("query")
    return run.with_columns(scaled.fill_null(0.0).alias("score"))


def _features(system: str, transform: Transform) -> Iterator[Feature]:
    score, rr = f"{system}_score", f"{system}_rr"
    yield Feature(name=score, role=Role.ITEM, kind=Kind.NUMERIC, transform=transform, missing=True)
    yield Feature(name=rr, role=Role.ITEM, kind=Kind.NUMERIC, transform=Transform.NONE)


def _pooled(
    runs: dict[str, pl.DataFrame],
    grades: pl.DataFrame,
    *,
    judged_only: bool,
    unjudged: float | Literal["drop"],
    where: str,
) -> tuple[pl.DataFrame, dict[str, JsonValue]]:
    """Return query, document and label of every candidate, and counts of unmatched entries."""
    pool = pl.concat([run.select(_KEY) for run in runs.values()]).unique().sort(_KEY)
    queries, graded = set(pool["query"].unique()), set(grades["query"].unique())
    if not queries & graded:
        raise DataError(
            f"{where}: expected judgments of the queries of the runs, found none: the runs have "
            f"queries like {min(queries)}, qrels like {min(graded)}; give runs and qrels of the "
            "same queries"
        )
    without = sorted(queries - graded)
    notes: dict[str, JsonValue] = {
        "queries_without_run": len(graded - queries),
        "queries_without_judgment": len(without),
    }
    if judged_only:
        pool = pool.filter(pl.col("query").is_in(list(graded)))
        if without:
            notes["skipped_queries"] = (
                f"{len(without):,} without any judgment: {abridged(without)}; keep them by "
                "judged_only=false"
            )
    pool = pool.join(grades, on=_KEY, how="left", maintain_order="left")
    labelled = pool["grade"].is_not_null()
    if not labelled.any():
        raise DataError(
            f"{where}: expected judgments of the documents of the runs, found none: the runs have "
            f"documents like {pool['document'][0]}, qrels like {grades['document'][0]}; give runs "
            "and qrels of one collection"
        )
    positive = grades.filter(pl.col("grade") > 0, pl.col("query").is_in(list(queries)))
    notes["positive_not_retrieved"] = positive.join(pool, on=_KEY, how="anti").height
    notes["candidates_unjudged"] = int((~labelled).sum())
    if unjudged == "drop":
        pool = pool.filter(labelled)
    return pool.select(*_KEY, label=pl.col("grade").fill_null(_label(unjudged))), notes


def _label(unjudged: float | Literal["drop"]) -> float:
    label = 0.0 if unjudged == "drop" else float(unjudged)
    if not 0 <= label <= _LARGEST:
        raise DataError(f"unjudged must be a non-negative label, or 'drop'; got {label}")
    return label


def _ranked(run: pl.DataFrame, order: Literal["score", "rank"]) -> pl.DataFrame:
    """Add the rank of each document in the list of its query, from 1, as column ``place``."""
    by = ["query", "score", "rank", "document"]
    if order == "rank":
        by = ["query", "rank", "score", "document"]
    return run.sort(by, descending=[column == "score" for column in by]).with_columns(
        place=pl.int_range(1, pl.len() + 1).over("query")
    )


def _lists_in_two_orders(run: pl.DataFrame) -> int:
    """Count the queries whose rank column is not an order of decreasing scores."""
    rises = pl.col("score").diff().over("query") > 0
    return run.sort("query", "rank", maintain_order=True).filter(rises)["query"].n_unique()
