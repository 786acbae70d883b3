"""LETOR and svmlight files: ``label qid:ID index:value ... # comment``, one line per candidate.

The layout of LETOR 4.0 (MQ2007, MQ2008), MSLR-WEB10K and 30K, Istella and the ClueWeb09 set.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from cascaderank.data.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress
from cascaderank.data.sources._letor.folders import letor_files
from cascaderank.data.sources._letor.queries import (
    Counts,
    Preparation,
    WithinQuery,
    prepared,
    scaled,
    whole_queries,
)
from cascaderank.data.sources._letor.svmlight import Block, finite_blocks, read_blocks, width_of
from cascaderank.data.sources._shared.input_files import byte_counter
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Kind, Role, Schema, Transform

_REQUESTS_PER_PART = 2000  # MSLR-WEB30K has 120 candidates of 136 numbers per request


@SOURCES.register
def letor_source(
    from_: Inputs,
    to: Path,
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
    r"""Make a request log from LETOR files, plain or gzipped; a query becomes a request.

    Features are numeric and called ``f1`` to ``fN``, as in the papers of these data sets; an
    index that a line leaves out is 0, as in every sparse svmlight file. Comments (document ids)
    are dropped. Indices must rise within a line, and the lines of a query must stand together.

    Where files are called ``train``, ``vali`` (or ``valid``, ``validation``) and ``test``, as in
    a fold of MSLR or in Istella, the log keeps these parts, for ``data.split.by = "given"``. Of a
    folder with ``Fold1``, ``Fold2`` and so on in it, every query is read once, from the test file
    of its fold; the official parts of each fold follow from that.

    The documents of a query can be cut as in ARF's experiments: ``min_documents=41``,
    ``max_documents=200``, and ``transform="log1p"``.

    Args:
        from_: files or folders; of a folder, ``.txt``, ``.dat``, ``.svm``, ``.svmlight``,
            ``.libsvm`` and ``.letor`` files, with or without ``.gz``; or one folder of folds.
        to: folder of the request log to write.
        features: how many there are; a larger index is then an error. Not given, the largest
            index of all files, at the price of reading them twice.
        transform: what a model does to every feature before it sees it. The default suits raw
            counts and scores of any size, which is what most of these data sets hold.
        within_query: write each feature relative to those of the same query: ``"min_max"`` from 0
            for its smallest value to 1 for its largest, as the query-level files of LETOR do;
            ``"standardise"`` less its mean over its standard deviation, of signed logarithms;
            0 where all are equal.
        missing: read NaN, infinities and numbers beyond float32 (Istella's 1.797e308) as
            missing instead of refusing them.
        fold: of a folder of folds, the one to read with its own parts; all of them if not given.
        min_documents: queries with fewer are left out; 1 or more.
        max_documents: of a query with more, so many are drawn by chance; all if not given.
        min_positives: so many with a label above 0 stay in what is drawn, where there are.
        seed: of the draw.
        name: of the data set; not given, that of the folder ``to``.
        overwrite: replace a request log that is there.
        progress: called with bytes read and bytes in all.

    Raises:
        DataError: if a file is missing, damaged, or not of this layout; names file and line. If
            folds do not go round as those of LETOR do, or no query is left.

    Examples:
        >>> import tempfile
        >>> from cascaderank.data.request_log import RequestLog
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
    width = features or width_of(paths)
    names = [f"f{i + 1}" for i in range(width)]
    schema = Schema(
        features=tuple(
            Feature(name=n, role=Role.ITEM, kind=Kind.NUMERIC, transform=transform, missing=missing)
            for n in names
        )
    )
    advance = byte_counter(paths, progress)
    seen: dict[str, str] = {}
    with RequestLogWriter(
        to,
        name=name or to.name,
        schema=schema,
        overwrite=overwrite,
        rows_per_part=_REQUESTS_PER_PART,
    ) as writer:
        unknown, counts = 0, Counts()
        for file in files:
            blocks = read_blocks(file.path, width, advance)
            if not missing:
                blocks = finite_blocks(blocks, file.path)
            for block in whole_queries(blocks, file.path, seen):
                left = prepared(block, preparation, counts)
                if left is not None:
                    unknown += int(np.isnan(left.values).sum())
                    values = scaled(left, within_query)
                    writer.write(_frame(values, names), given=file.given)
        if counts.dropped_queries == len(seen):
            raise DataError(
                f"{paths[0]}: none of {len(seen)} queries has {min_documents} documents; lower "
                "min_documents"
            )
        writer.extra["notes"] = {"files": len(files), "missing_values": unknown, **asdict(counts)}


def _frame(block: Block, names: list[str]) -> pl.DataFrame:
    """Return one row per query, candidates in the order of their lines; NaN becomes null."""
    return (
        pl.from_numpy(block.values, schema=names)
        .select(pl.all().fill_nan(None))
        .insert_column(0, pl.Series("request_id", block.queries))
        .with_columns(label=pl.Series(block.labels))
        .group_by("request_id", maintain_order=True)
        .agg(pl.all())
    )
