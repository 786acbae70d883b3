"""Summary statistics of a request log."""

from collections import Counter
from dataclasses import dataclass, field

import polars as pl
from pydantic import JsonValue

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.log.validation import CANDIDATE_COLUMNS
from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT, REQUEST_WEIGHT
from cascaderank.data.ragged import flattened
from cascaderank.schema import Kind, Role

_MOST_VALUES = 12  # distinct values that are counted one by one


def summarise(log: RequestLog) -> dict[str, JsonValue]:
    """Compute summary statistics of a request log; reads a few columns, part by part.

    Args:
        log: an opened request log.

    Returns:
        Values that can be written as JSON: ``name``, ``requests``, ``candidates``, ``list_length``
        (``min``, ``mean``, ``max``), ``features`` (counts by role and kind), ``several_values``
        (names of the features with a list of values), ``levels`` (number of candidates by level
        name), ``label``, ``feedback`` and ``candidate_weight`` (number of candidates by value; with
        more than 12 distinct values: ``min``, ``mean``, ``max`` and ``positive``),
        ``request_weight`` (the same of requests), ``time_range`` (ISO 8601, UTC),
        ``days``, ``bytes`` and the ``notes`` of the source. Entries that the log has no data for
        are ``None``.

    Raises:
        DataError: if a part cannot be read or its checksum does not match.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cascaderank.data.sources import SOURCES
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = Path(folder) / "log"
        ...     SOURCES["synthetic"]((), log, requests=20, users=9, items=200)
        ...     summarise(RequestLog.open(log))["requests"]
        20

    Source: this project.
    """
    manifest = log.manifest
    counted = [c for c in (*CANDIDATE_COLUMNS, CANDIDATE_WEIGHT) if c in manifest.columns]
    counted = [c for c in counted if c != "position"]
    columns = counted or [f.name for f in manifest.schema_.of(Role.ITEM)][:1] or ["position"]
    shortest, longest = manifest.candidates, 0
    of_requests = [c for c in (REQUEST_WEIGHT,) if c in manifest.columns]
    tallies = {column: _Tally() for column in (*counted, *of_requests)}
    for frame in log.frames([*columns, *of_requests]):
        lengths = frame[columns[0]].list.len()
        shortest = min(shortest, int(lengths.to_numpy().min()))
        longest = max(longest, int(lengths.to_numpy().max()))
        for column, tally in tallies.items():
            tally.add(frame[column] if column in of_requests else flattened(frame[column]))
    features: dict[str, JsonValue] = {
        role.value: {kind.value: len(manifest.schema_.of(role, kind)) for kind in Kind}
        for role in Role
    }
    by_level = tallies.pop("level").values if "level" in tallies else None
    times = manifest.time_range
    return {
        "name": manifest.name,
        "requests": manifest.requests,
        "candidates": manifest.candidates,
        "list_length": {
            "min": shortest,
            "mean": manifest.candidates / manifest.requests,
            "max": longest,
        },
        "features": features,
        "several_values": [f.name for f in manifest.schema_.features if f.several],
        "levels": None
        if by_level is None
        else {name: by_level[float(i)] for i, name in enumerate(manifest.level_names)},
        **{
            name: tallies[name].summary() if name in tallies else None
            for name in ("label", "feedback", REQUEST_WEIGHT, CANDIDATE_WEIGHT)
        },
        "time_range": [t.isoformat() for t in times] if times else None,
        "days": len({part.day for part in manifest.parts}) if times else None,
        "bytes": sum(part.bytes for part in manifest.parts),
        "notes": manifest.extra.get("notes"),
    }


@dataclass
class _Tally:
    """Counts by value, or range and mean once there are more than 12 distinct values."""

    values: Counter[float] = field(default_factory=Counter)
    many: bool = False
    count: int = 0
    total: float = 0.0
    positive: int = 0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, column: pl.Series) -> None:
        present = column.drop_nulls().cast(pl.Float64)
        if present.is_empty():
            return
        numbers = present.to_numpy()
        self.count += len(numbers)
        self.total += float(numbers.sum())
        self.positive += int((numbers > 0).sum())
        self.least = min(self.least, float(numbers.min()))
        self.most = max(self.most, float(numbers.max()))
        if not self.many:
            self.values.update(dict(present.value_counts().iter_rows()))
            self.many = len(self.values) > _MOST_VALUES

    def summary(self) -> dict[str, JsonValue]:
        if not self.many:
            return {f"{value:g}": self.values[value] for value in sorted(self.values)}
        return {
            "min": self.least,
            "mean": self.total / self.count,
            "max": self.most,
            "positive": self.positive,
        }
