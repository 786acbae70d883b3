"""First pass over svmlight files: number of features, document ids, and side files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cascaderank.data.sources._letor.side_files import LineWeights, SideFiles
from cascaderank.data.sources._letor.svmlight import EXPECTED, key_of
from cascaderank.data.sources._shared.input_files import read_lines
from cascaderank.errors import DataError

_MOST_FEATURES = 10_000
_QID = re.compile(rb"\sqid:([^\s:#]+)")


@dataclass
class Scan:
    """Properties of all files together."""

    width: int
    """Number of features: the given one, or the largest index."""
    without_ids: str = ""
    """Why document ids are not read; empty if every line has one, unique in its query."""
    has_qid: list[bool] = field(default_factory=list)
    """For each file, whether its lines have query ids."""
    weights: list[LineWeights] = field(default_factory=list)
    """Weights of the lines of each file."""


def scan_files(files: Sequence[SideFiles], features: int | None) -> Scan:
    """Read files once, before they are parsed, and check their side files.

    Indices increase within a line, so only the last one of each line is read. Files are read only
    as far as necessary: if ``features`` is given, to the first line without a document id.

    Args:
        files: the files with their side files.
        features: number of features; ``None`` for the largest index.

    Raises:
        DataError: if an index exceeds 10,000, which indicates a malformed file, no line has a
            feature, or a side file does not fit the lines of its file.
    """
    scan = Scan(features or 0)
    for side in files:
        _scan_file(side, scan, width_known=features is not None)
    if not scan.width:
        raise DataError(
            f"{files[0].of}: {EXPECTED} on every line, found no feature in any file; "
            "name files in svmlight format"
        )
    return scan


def _scan_file(side: SideFiles, scan: Scan, *, width_known: bool) -> None:
    path, queries = side.of, side.query_names
    lines, last = 0, b""
    run_lengths: list[int] = []
    ids: set[str] = set()
    needs_queries = side.sizes is not None or side.weights is not None
    complete = not width_known or needs_queries or side.init is not None
    for number, line in enumerate(read_lines(path), 1):
        body, _, comment = line.partition(b"#")
        if not body.strip():
            continue
        lines += 1
        if not width_known:
            scan.width = max(scan.width, _last_index(body, path, number))
        if scan.without_ids and lines > 1 and not needs_queries:
            if not complete:
                break
            continue
        matched = _QID.search(body)
        query = matched[1] if matched else b""
        if lines == 1:
            scan.has_qid.append(matched is not None)
        if not matched and queries is not None and lines <= len(queries):
            query = queries[lines - 1].encode()
        if query != last or lines == 1:
            last, ids = query, set()
            run_lengths.append(0)
        run_lengths[-1] += 1
        if not scan.without_ids:
            _check_id(key_of(comment), ids, scan, f"{path}, line {number}")
    if not lines:
        raise DataError(f"{path}: {EXPECTED} on every line, found none; fetch it again")
    if complete:
        side.check(lines, run_lengths if scan.has_qid[-1] else [])
    scan.weights.append(side.line_weights(lines, run_lengths))


def _check_id(key: str | None, ids: set[str], scan: Scan, where: str) -> None:
    if key is None:
        scan.without_ids = f"none in {where}"
    elif key in ids:
        scan.without_ids = f"{where} repeats '{key}'"
    else:
        ids.add(key)


def _last_index(body: bytes, path: Path, number: int) -> int:
    last = body.rpartition(b":")[0].rsplit(None, 1)[-1:]
    index = int(last[0]) if last and last[0].isdigit() and len(last[0]) <= 20 else 0
    if index > _MOST_FEATURES:
        raise DataError(
            f"{path}, line {number}: feature index {index} is beyond {_MOST_FEATURES}; "
            "features are stored densely; set features=N if the index is intended"
        )
    return index
