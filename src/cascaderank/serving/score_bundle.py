"""Write what a bundle serves for the requests of a data set or a file."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import CascadeRankError, ConfigError, DataError, shown
from cascaderank.progress import Progress, Silent
from cascaderank.regular_files import check_path, check_regular, open_file
from cascaderank.runs.new_files import check_free, new_file
from cascaderank.runs.saved_parts import ScoredRows, key_of, saved_parts
from cascaderank.runs.score_files import format_of, score_writer
from cascaderank.serving.answer import Answer
from cascaderank.serving.bundle_files import MANIFEST
from cascaderank.serving.ranker import Ranker
from cascaderank.text_files import parsed_json

CANDIDATES = "candidates"
"""Column, or entry of a JSON line, with the candidates of a request."""

_ROWS = 1024  # requests that are read and written at a time

Request = Mapping[str, Any]


@final
@dataclass(frozen=True, kw_only=True)
class BundleScores:
    """Summary of the files written."""

    requests: int
    """Number of requests."""
    written: int
    """Rows in the file: candidates, or those of the final lists for TREC."""
    repeated: int
    """Candidates left out of a TREC run file, because the request has a better one of that key."""
    unknown: int
    """Candidates left out, because the catalogue does not have their key."""
    item_key: str
    """Column of the keys."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict."""
        return asdict(self)


def score_bundle(
    folder: str | os.PathLike[str],
    requests: str | os.PathLike[str],
    *,
    to: str | os.PathLike[str],
    kind: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BundleScores:
    """Rank the candidates of every request by a bundle, and write a file.

    The columns are those of :func:`~cascaderank.runs.score_run.score_run`; a stage has a score only
    for the candidates that it received. Of a search of all items, the candidates that the first
    stage keeps are written. Requests are read and written in blocks, so that memory does not grow
    with their number, and the file is complete or does not exist. After a kill, the same call
    continues after the last complete part of it, and ends with the same bytes.

    Args:
        folder: folder of the bundle.
        requests: folder of a request log; Parquet or JSON lines with one request per row, in the
            columns of a log. A column ``candidates`` has keys of items or rows; without it, and
            without a feature of items, all items are searched.
        to: file to write.
        kind: ``"parquet"``, ``"jsonl"`` or ``"trec"``; by default the suffix of the file decides.
        overwrite: whether an existing file is replaced.
        progress: receives the progress of the work.

    Raises:
        RunError: if the folder is no bundle or is damaged, or the file cannot be written.
        ConfigError: if the file exists, or its format is unknown.
        DataError: if the requests cannot be read, or one does not have what the stages read; the
            message names it.
    """
    target = check_path(to, ConfigError)
    check_free([target], overwrite=overwrite)
    form = format_of(target, kind)
    ranker, progress = Ranker.load(folder), progress or Silent()
    path = check_path(requests, DataError)
    total, blocks = _blocks(path)
    scorer = _Scorer(ranker, path)
    progress.start("scoring", total)
    options = {"tag": ranker.name, "final_score": f"score/{scorer.stages[-1]}"}
    key = _key(Path(folder), path)
    number, unknown = 0, 0

    def of_blocks() -> Iterator[Callable[[], ScoredRows]]:
        nonlocal number
        for block in blocks:
            if block:
                yield partial(scorer.rows, block, number)
            number += len(block)
            progress.advance(len(block))

    with (
        saved_parts(target, key) as parts,
        new_file(target) as hidden,
        score_writer(hidden, form, **options) as writer,
    ):
        for rows in parts.completed(of_blocks()):
            writer.write(rows.frame)
            unknown += rows.unknown
        if not number:
            raise DataError(f"{requests}: expected at least one request, found none")
    progress.stop()
    return BundleScores(
        requests=number,
        written=writer.written,
        repeated=writer.repeated,
        unknown=unknown,
        item_key=scorer.item_key or "position in the candidates, from 0",
    )


@final
class _Scorer:
    """Ranks the candidates of requests, and returns one row per candidate."""

    def __init__(self, ranker: Ranker, requests: Path) -> None:
        self._ranker, self._requests = ranker, requests
        self._kind: type | None = None
        items, schema = ranker.bundle.items, ranker.bundle.stage_schema
        self.item_key = items.key if items is not None else None
        self.stages = [plan.name for plan in ranker.plans]
        of_items = [f.name for f in schema.features if f.role == "item"]
        self._listed = dict.fromkeys([*([self.item_key] if self.item_key else []), *of_items])

    def rows(self, block: Sequence[Request], number: int) -> ScoredRows:
        """Return the rows of some requests, the first of which has a number."""
        frames, unknown = [], 0
        for place, request in enumerate(block, start=number):
            key = request.get("request_id", place)
            own = {name: request[name] for name in self._listed if name in request}
            candidates = request.get(CANDIDATES, own or None)
            try:
                self._check_id(key)
                answer = self._ranker.rank(request, candidates, trace=True)
            except CascadeRankError as error:
                raise DataError(
                    f"{self._requests}: request {place} ({shown(key)}): {error}"
                ) from None
            frames.append(_rows(answer, key, self.stages, searched=candidates is None))
            unknown += len(answer.unknown)
        return ScoredRows(frame=pl.concat(frames, how="vertical_relaxed"), unknown=unknown)

    def _check_id(self, key: object) -> None:
        expected = self._kind or (str if isinstance(key, str) else int)
        if type(key) is not expected:
            which = "a text, as before" if expected is str else "an integer"
            raise DataError(f"request_id: expected {which}, found {shown(key)}")
        self._kind = expected


def _key(bundle: Path, requests: Path) -> str:
    """Return the key of everything that the rows of a file depend on."""
    if requests.is_dir():
        return key_of(bundle / MANIFEST, options=[RequestLog.open(requests).fingerprint])
    return key_of(bundle / MANIFEST, requests)


def _rows(answer: Answer, key: Any, stages: list[str], *, searched: bool) -> pl.DataFrame:
    """Return one row per candidate of a request."""
    trace = answer.traced()
    chosen = trace.kept[stages[0]] if searched else np.ones(len(trace.keys), dtype=bool)
    places = np.flatnonzero(chosen)
    ranks = np.where(trace.kept[stages[-1]], trace.ranks[stages[-1]], 0)[places]
    received = np.sum([trace.ranks[name][places] > 0 for name in stages[1:]], axis=0, dtype=int)
    rank = pl.Series("rank", ranks.astype(np.int32))
    names = pl.Series("stage_reached", stages, dtype=pl.String)
    return pl.DataFrame(
        {
            "request_id": [key] * len(places),
            "item_key": [trace.keys[i] for i in places.tolist()],
            **{f"score/{n}": pl.Series(trace.scores[n][places]).fill_nan(None) for n in stages},
            **{f"alive/{n}": trace.kept[n][places] for n in stages},
            "rank": rank.set(rank == 0, None),
            "stage_reached": names.gather(np.broadcast_to(received, len(places))),
        }
    )


def _blocks(path: Path) -> tuple[int, Iterator[Sequence[Request]]]:
    """Return the number of requests, if it is known, and the requests in blocks."""
    if path.is_dir():
        log = RequestLog.open(path)
        return log.manifest.requests, _of_frames(log.frames())
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".jsonl", ".ndjson"):
        raise ConfigError(
            f"{path}: expected the folder of a data set, or a file of requests that ends with "
            ".parquet, .jsonl or .ndjson"
        )
    try:
        check_regular(path)
        if suffix == ".parquet":
            file = pq.ParquetFile(path)
            return file.metadata.num_rows, _of_parquet(path, file)
        return 0, _of_lines(path)  # their number is not known
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise DataError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from None


def _of_frames(frames: Iterator[pl.DataFrame]) -> Iterator[Sequence[Request]]:
    for frame in frames:
        for block in frame.iter_slices(_ROWS):
            yield block.to_dicts()


def _of_parquet(path: Path, file: Any) -> Iterator[Sequence[Request]]:
    try:
        for batch in file.iter_batches(batch_size=_ROWS):
            yield batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: damaged Parquet file ({reason}); write it again") from None


def _of_lines(path: Path) -> Iterator[Sequence[Request]]:
    block: list[Request] = []
    with open_file(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                request = parsed_json(line.decode())
                if not isinstance(request, dict):
                    raise ValueError(f"expected an object, found {shown(request)}")
            except ValueError as error:  # also of bytes that are not UTF-8
                raise DataError(f"{path}: line {number}: not a request in JSON: {error}") from None
            block.append(request)
            if len(block) == _ROWS:
                yield block
                block = []
    yield block
