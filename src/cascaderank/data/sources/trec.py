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

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress, checked_options
from cascaderank.data.sources._shared.input_files import input_files
from cascaderank.data.sources._trec.runs_and_qrels import read_trec
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Kind, Role, Schema, Transform

_PATTERNS = ("*.run", "*.trec", "*.res", "*.txt", "*.tsv", "*.qrels", "qrels*", "run*")
_LARGEST = float(np.finfo(np.float32).max)
_REQUESTS_PER_FRAME = 1000
_KEY = ("query", "document")


@SOURCES.register
@checked_options
def trec_source(
    from_: Inputs,
    to: str | os.PathLike[str],
    *,
    order: Literal["score", "rank"] = "score",
    transform: Transform = Transform.STANDARDISE,
    judged_only: bool = True,
    unjudged: float | Literal["drop"] = 0.0,
    negative_grades: Literal["refuse", "zero"] = "refuse",
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    r"""Convert TREC runs and judgments to a request log with one request per query.

    Files with 6 columns are runs, files with 4 columns judgments; both may be gzipped. The name of
    a run file up to the first dot is the name of its system: ``bm25.dl19.run.gz`` and
    ``bm25.dl20.run.gz`` are two query sets of ``bm25``. The candidates of a query are the union of
    the documents that the systems retrieved, sorted by document. Each system contributes two
    features: ``<system>_score``, null if it did not retrieve the document, and ``<system>_rr``,
    the reciprocal rank of the document, 0 if it was not retrieved.

    Args:
        from_: files or folders; from a folder, files named ``*.run``, ``*.trec``, ``*.res``,
            ``*.txt``, ``*.tsv``, ``*.qrels``, ``qrels*`` or ``run*``, with or without ``.gz``.
        to: folder of the request log to write.
        order: order that defines the rank of a document in a run. ``"score"``: decreasing score,
            as in trec_eval, with ties broken by the rank column and then by document; ``"rank"``:
            the rank column, with ties broken by score and then by document.
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
    runs, grades = read_trec(input_files(from_, _PATTERNS, what="runs and qrels"), progress)
    if negative_grades == "zero":
        grades = grades.with_columns(pl.col("grade").clip(lower_bound=0.0))
    elif below := grades.filter(pl.col("grade") < 0).height:
        raise DataError(
            f"expected non-negative grades, found {below:,} below 0; set negative_grades='zero' "
            "to read them as 0"
        )
    pool, notes = _pooled(runs, grades, judged_only=judged_only, unjudged=unjudged)
    disagreements = 0
    for system, run in runs.items():
        ranked = _ranked(run, order)
        disagreements += _lists_in_two_orders(run)
        pool = pool.join(
            ranked.select(
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
        writer.extra["notes"] = {
            "systems": list(runs),
            **notes,
            "lists_where_rank_and_score_disagree": disagreements,
        }


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
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return query, document and label of every candidate, and counts of unmatched entries."""
    pool = pl.concat([run.select(_KEY) for run in runs.values()]).unique().sort(_KEY)
    queries, graded = set(pool["query"].unique()), set(grades["query"].unique())
    if not queries & graded:
        raise DataError(
            "expected judgments of the queries of the runs, found none: the runs have queries like "
            f"{min(queries)}, qrels like {min(graded)}; give runs and qrels of the same queries"
        )
    notes = {
        "queries_without_run": len(graded - queries),
        "queries_without_judgment": len(queries - graded),
    }
    if judged_only:
        pool = pool.filter(pl.col("query").is_in(list(graded)))
    pool = pool.join(grades, on=_KEY, how="left", maintain_order="left")
    labelled = pool["grade"].is_not_null()
    if not labelled.any():
        raise DataError(
            "expected judgments of the documents of the runs, found none: the runs have documents "
            f"like {pool['document'][0]}, qrels like {grades['document'][0]}; give runs and "
            "qrels of one collection"
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
