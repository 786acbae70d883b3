"""LETOR and svmlight files: ``label qid:ID index:value ... # comment``, one line per candidate.

The layout of LETOR 4.0 (MQ2007, MQ2008), MSLR-WEB10K and 30K, Istella and the ClueWeb09 set.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from cascaderank.data.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress
from cascaderank.data.sources._files import byte_counter, input_files
from cascaderank.data.sources._letor_lines import Block, finite_blocks, read_blocks, width_of
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Kind, Role, Schema, Transform

_PATTERNS = ("*.txt", "*.dat", "*.svm", "*.svmlight", "*.libsvm", "*.letor")
_REQUESTS_PER_PART = 2000  # MSLR-WEB30K has 120 candidates of 136 numbers per request


@SOURCES.register
def letor_source(
    from_: Inputs,
    to: Path,
    *,
    features: int | None = None,
    transform: Transform = Transform.LOG1P_STANDARDISE,
    missing: bool = False,
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    r"""Make a request log from LETOR files, plain or gzipped; a query becomes a request.

    Features are numeric and called ``f1`` to ``fN``, as in the papers of these data sets; an
    index that a line leaves out is 0, as in every sparse svmlight file. Comments (document ids)
    are dropped. Indices must rise within a line, and the lines of a query must stand together.

    Args:
        from_: files or folders; of a folder, ``.txt``, ``.dat``, ``.svm``, ``.svmlight``,
            ``.libsvm`` and ``.letor`` files, with or without ``.gz``.
        to: folder of the request log to write.
        features: how many there are; a larger index is then an error. Not given, the largest
            index of all files, at the price of reading them twice.
        transform: what a model does to every feature before it sees it. The default suits raw
            counts and scores of any size, which is what most of these data sets hold.
        missing: read NaN, infinities and numbers beyond float32 (Istella's 1.797e308) as
            missing instead of refusing them.
        name: of the data set; not given, that of the folder ``to``.
        overwrite: replace a request log that is there.
        progress: called with bytes read and bytes in all.

    Raises:
        DataError: if a file is missing, damaged, or not of this layout; names file and line.

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
    files = input_files(from_, _PATTERNS, what="LETOR files")
    if features is not None and features < 1:
        raise DataError(f"features must be at least 1; got {features}")
    width = features or width_of(files)
    names = [f"f{i + 1}" for i in range(width)]
    schema = Schema(
        features=tuple(
            Feature(name=n, role=Role.ITEM, kind=Kind.NUMERIC, transform=transform, missing=missing)
            for n in names
        )
    )
    advance = byte_counter(files, progress)
    seen: dict[str, str] = {}
    with RequestLogWriter(
        to,
        name=name or to.name,
        schema=schema,
        overwrite=overwrite,
        rows_per_part=_REQUESTS_PER_PART,
    ) as writer:
        unknown = 0
        for path in files:
            blocks = read_blocks(path, width, advance)
            for block in _whole_queries(
                blocks if missing else finite_blocks(blocks, path), path, seen
            ):
                unknown += int(np.isnan(block.values).sum())
                writer.write(_frame(block, names))
        writer.extra["notes"] = {"files": len(files), "missing_values": unknown}


def _whole_queries(blocks: Iterator[Block], path: Path, seen: dict[str, str]) -> Iterator[Block]:
    """Cut blocks between queries instead of between lines; refuse a query that comes back.

    ``seen`` holds where each query of all files began.
    """
    held: Block | None = None
    last = ""
    for block in blocks:
        starts = [i for i, (a, b) in enumerate(pairwise([last, *block.queries])) if a != b]
        for i in starts:
            query, where = block.queries[i], f"{path}, line {block.lines[i]}"
            if query in seen:
                raise DataError(
                    f"{where}: query {query} comes back, after it began in {seen[query]}; the "
                    "lines of a query must stand together; sort them, or name one fold only"
                )
            seen[query] = where
        last = block.queries[-1]
        whole = block if held is None else _joined(held, block)
        cut = len(whole.queries) - len(block.queries) + starts[-1] if starts else 0
        if cut:
            yield _slice(whole, slice(0, cut))
        held = _slice(whole, slice(cut, None))
    if held is not None:
        yield held


def _slice(block: Block, rows: slice) -> Block:
    return Block(block.lines[rows], block.queries[rows], block.labels[rows], block.values[rows])


def _joined(a: Block, b: Block) -> Block:
    return Block(
        np.concatenate([a.lines, b.lines]),
        a.queries + b.queries,
        np.concatenate([a.labels, b.labels]),
        np.concatenate([a.values, b.values]),
    )


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
