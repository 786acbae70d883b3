"""Checks of what a command made of mutated files."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa

from cascaderank.text_files import read_text
from tests.fuzz import slow_reading as slow
from tests.fuzz.seed import Check


def is_a_data_set(case: Path, intact: Path) -> None:
    slow.candidates_of(case / "out" / "log")


def has_the_rows_of(*patterns: str) -> Check:
    """Compare a data set with all rows of the files."""

    def check(case: Path, intact: Path) -> None:
        found = slow.candidates_of(case / "out/log")
        slow.same_rows(found, rows_of_all(case, patterns))

    return check


def rows_of_all(case: Path, patterns: Iterable[str]) -> list[dict[str, object]]:
    """Return the rows of files, or those of the intact files where Arrow cannot read them.

    Polars reads some files that Arrow refuses; what it reads must then be right.
    """
    try:
        return slow.rows_of_all(case, patterns)
    except (pa.ArrowException, OSError, MemoryError):
        return slow.rows_of_all(case.parents[1] / "seed", patterns)


def has_the_rows_of_letor(case: Path, intact: Path) -> None:
    slow.same_rows(slow.candidates_of(case / "out/log"), slow.letor_rows(case, "letor.txt"))


def has_the_rows_of_trec(case: Path, intact: Path) -> None:
    slow.same_rows(slow.candidates_of(case / "out/log"), slow.trec_rows(case, "files/*"))


def has_the_values_of(pattern: str, names: Mapping[str, str], day: str = "") -> Check:
    """Compare columns of a data set with those of a table of other names, without repeated rows.

    Args:
        pattern: files of the table.
        names: column of the table by column of the data set; rows that are equal in the first two
            are one candidate.
        day: column of the table; rows without a value in it are left out.
    """

    def check(case: Path, intact: Path) -> None:
        found = slow.candidates_of(case / "out/log")
        rows = [row for row in rows_of_all(case, [pattern]) if not day or row[day]]
        own = {tuple(_text(row[name]).split("-")[0] for name in names) for row in found}
        other = {tuple(_text(row[name]) for name in names.values()) for row in rows}
        assert own <= other, f"{[*(own - other)][:3]} are not in the files"
        lost = {row[:2] for row in other} - {row[:2] for row in own}
        assert not lost, f"{[*lost][:3]} are in the files"

    return check


def _text(value: object) -> str:
    return "None" if value != value else str(value).strip()  # NaN is None


def is_that_of_the_intact_files(folder: str) -> Check:
    """Compare all that was written and printed, except for durations and versions."""

    def check(case: Path, intact: Path) -> None:
        for path in sorted(p for p in (intact / folder).rglob("*") if p.is_file()):
            name = path.relative_to(intact)
            if path.name in ("environment.json", "checksums.sha256", ".lock"):
                continue
            own = case / name
            assert own.is_file(), f"no {name}"
            assert timeless(own) == timeless(path), f"{name} differs from that of the intact files"

    return check


def timeless(path: Path) -> object:
    content = path.read_bytes()
    if path.name == "config.toml":
        return tomllib.loads(read_text(path))
    if path.name in ("report.json", "stdout"):
        try:
            report = json.loads(content)
        except ValueError:
            return content
        for name in ("seconds", "peak_memory_bytes"):
            report.pop(name, None)
            report.get("training", {}).pop(name, None)
        return report
    return content


def anything(case: Path, intact: Path) -> None:
    """Accept any result, since a changed setting is another setting."""
