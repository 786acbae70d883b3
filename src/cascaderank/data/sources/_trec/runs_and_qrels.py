"""Parser of TREC runs and relevance judgments (qrels)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from cascaderank.data.sources import Progress
from cascaderank.data.sources._shared.input_files import byte_counter, read_lines, shown
from cascaderank.data.sources._trec.trec_lines import LAYOUTS, parsed
from cascaderank.errors import DataError
from cascaderank.schema import abridged

RUN = ("query", "document", "rank", "score")
QRELS = ("query", "document", "grade")
Names = Literal["auto", "tag", "file"]
"""Origin of the names of systems."""

_WITHOUT_NAME = ("input",)  # TREC's archive has a run as input.TAG.gz
_ENDINGS = ("gz", "run", "txt", "trec", "res")


@dataclass(frozen=True, kw_only=True)
class RunsAndQrels:
    """Runs by system, and judgments."""

    runs: dict[str, pl.DataFrame]
    """By system, with columns ``query``, ``document``, ``rank`` (int64) and ``score`` (float64)."""
    grades: pl.DataFrame
    """Judgments, with columns ``query``, ``document`` and ``grade`` (float64)."""
    named_by_tag: list[str]
    """Systems whose name is the tag of their run."""
    several_tags: list[str]
    """Files of runs that have several tags."""


@dataclass(frozen=True)
class _File:
    path: Path
    table: pl.DataFrame
    tags: Counter[str]

    @property
    def is_run(self) -> bool:
        return "rank" in self.table.columns

    @property
    def stem(self) -> str:
        return self.path.name.partition(".")[0]

    @property
    def name(self) -> str:
        """System by the file name: up to the first dot, or behind it in ``input.NAME.gz``."""
        first, _, rest = self.path.name.partition(".")
        second = rest.partition(".")[0]
        if first.lower() in _WITHOUT_NAME and second and second not in _ENDINGS:
            return second
        return first

    @property
    def tag(self) -> str | None:
        """The tag of all lines; ``None`` if there are several."""
        return next(iter(self.tags)) if len(self.tags) == 1 else None


def read_trec(
    files: Sequence[Path], progress: Progress | None = None, *, names: Names = "auto"
) -> RunsAndQrels:
    """Read runs and judgments, distinguished by their numbers of columns.

    Args:
        files: plain or gzipped files.
        progress: callback that receives the bytes read so far and the total.
        names: origin of the names of systems. ``"file"``: the name of the file up to the first
            dot. ``"tag"``: the tag, the last column; the file name if a file has several tags.
            ``"auto"``: the file name; the tag for files named ``input.*``, and for files whose
            names are equal up to the first dot and that share a query, unless all files have one
            tag; and for files with one tag of which no two share a query, which are one system. Of
            ``input.NAME.gz``, the name of the file is NAME.

    Returns:
        Runs and judgments. Documents are unique per query. All numbers are finite in float32.

    Raises:
        DataError: if a file is damaged or of another layout, a query of a system or of the
            judgments is in two files, or no file is a run or none holds judgments.
    """
    advance = byte_counter(files, progress)
    read = [_file(path, advance) for path in files]
    for kind, what, columns in ((True, "run", 6), (False, "qrels file", 4)):
        if not any(file.is_run is kind for file in read):
            raise DataError(
                f"expected at least one {what}, with lines {LAYOUTS[columns]}, found none among "
                f"{abridged([str(p) for p in files])}; give one with --from"
            )
    runs, judgments = [f for f in read if f.is_run], [f for f in read if not f.is_run]
    by_system: dict[str, list[_File]] = {}
    by_tag = _stems_without_name(runs) if names == "auto" else set()
    named_by_tag: set[str] = set()
    for file in runs:
        use_tag = names == "tag" or file.stem in by_tag
        system = file.tag if use_tag and file.tag is not None else file.name
        by_system.setdefault(system, []).append(file)
        if use_tag and file.tag is not None:
            named_by_tag.add(system)
    if names == "auto":
        by_system = _joined_by_tag(by_system, named_by_tag)
    for system, own in by_system.items():
        other = "file" if system in named_by_tag else "tag"
        _check_queries(own, f"once per system (both are '{system}'), or set names='{other}'")
    _check_queries(judgments, "once in the qrels")
    return RunsAndQrels(
        runs={system: pl.concat([f.table for f in own]) for system, own in by_system.items()},
        grades=pl.concat([f.table for f in judgments]),
        named_by_tag=[system for system in by_system if system in named_by_tag],
        several_tags=[str(f.path) for f in runs if len(f.tags) > 1],
    )


def _stems_without_name(runs: Sequence[_File]) -> set[str]:
    """Return the stems of file names that do not distinguish systems."""
    stems = {file.stem for file in runs if file.stem.lower() in _WITHOUT_NAME}
    if len({file.tag for file in runs}) == 1 < len({file.name for file in runs}):
        return set()  # one tag for all systems
    queries: dict[str, set[str]] = {}
    for file in runs:
        own, before = set(file.table["query"].unique()), queries.setdefault(file.stem, set())
        if own & before:
            stems.add(file.stem)
        before |= own
    return stems


def _joined_by_tag(
    by_system: dict[str, list[_File]], named_by_tag: set[str]
) -> dict[str, list[_File]]:
    """Join systems of one tag without a query in common: parts of the run of one system."""
    tags: dict[str, list[str]] = {}
    for system, own in by_system.items():
        if system not in named_by_tag and len({file.tag for file in own}) == 1 and own[0].tag:
            tags.setdefault(own[0].tag, []).append(system)
    name_of = {system: system for system in by_system}
    for tag, systems in tags.items():
        queries = [set(f.table["query"].unique()) for s in systems for f in by_system[s]]
        together = set().union(*queries)
        is_free = tag not in by_system or tag in systems
        if len(systems) > 1 and is_free and sum(map(len, queries)) == len(together):
            name_of |= dict.fromkeys(systems, tag)
            named_by_tag.add(tag)
    joined: dict[str, list[_File]] = {}
    for system, own in by_system.items():
        joined.setdefault(name_of[system], []).extend(own)
    return joined


def _check_queries(files: Sequence[_File], once: str) -> None:
    origin: dict[str, Path] = {}
    for file in files:
        queries = file.table["query"].unique(maintain_order=True).to_list()
        if repeated := [q for q in queries if q in origin]:
            raise DataError(
                f"{file.path}: {len(repeated):,} queries, such as {repeated[0]}, are in "
                f"{origin[repeated[0]]} too; give a query {once}"
            )
        origin |= dict.fromkeys(queries, file.path)


def _file(path: Path, advance: Callable[[int], None]) -> _File:
    width = 0
    numbers: list[int] = []
    tags: Counter[str] = Counter()
    rows: list[tuple[str, str, int, float] | tuple[str, str, float]] = []
    for number, line in enumerate(read_lines(path, advance), 1):
        try:
            fields = line.decode().split()
        except UnicodeDecodeError:
            raise DataError(
                f"{path}, line {number}: expected UTF-8 text; convert it to UTF-8"
            ) from None
        if not fields:
            continue
        width = width or len(fields)
        if len(fields) != width or width not in LAYOUTS:
            expected = LAYOUTS.get(width) or f"{LAYOUTS[6]} (a run) or {LAYOUTS[4]} (qrels)"
            raise DataError(
                f"{path}, line {number}: expected {expected}, found {len(fields)} columns: "
                f"{shown(line)}"
            )
        try:
            rows.append(parsed(fields))
        except ValueError:
            expected = "a finite grade"
            if width == 6:
                expected = "an integer rank (of 64 bits) and a finite score"
            raise DataError(
                f"{path}, line {number}: expected {expected}, found "
                f"{' and '.join(map(repr, fields[3:5]))}"
            ) from None
        numbers.append(number)
        if width == 6:
            tags[fields[5]] += 1
    if not rows:
        raise DataError(f"{path}: expected lines of a run or of qrels, found none; fetch it again")
    types: list[type[pl.DataType]] = [pl.String, pl.String, pl.Int64, pl.Float64]
    schema = (
        dict(zip(RUN, types, strict=True))
        if width == 6
        else dict(zip(QRELS, types[:2] + types[3:], strict=True))
    )
    table = pl.DataFrame(rows, schema=schema, orient="row")
    duplicate = ~table.select(pl.struct("query", "document").is_first_distinct()).to_series()
    if duplicate.any():
        row = int(duplicate.arg_true()[0])
        raise DataError(
            f"{path}, line {numbers[row]}: document {table['document'][row]} occurs twice for "
            f"query {table['query'][row]} ({duplicate.sum():,} such lines in total); keep one line "
            "each"
        )
    return _File(path, table, tags)
