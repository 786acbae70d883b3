"""Records and frames as JSON-compatible values."""

import math
from dataclasses import fields, is_dataclass
from typing import Any

import polars as pl


def plain(value: Any) -> Any:
    """Return records, containers and values as JSON-compatible ones; undefined numbers as ``None``.

    Examples:
        >>> import datetime
        >>> plain({"a": (1.0, float("nan")), "b": datetime.date(2026, 1, 2)})
        {'a': [1.0, None], 'b': '2026-01-02'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(name): plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def plain_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as JSON-compatible dicts.

    Examples:
        >>> plain_rows(pl.DataFrame({"rank": [1, None]}))
        [{'rank': 1}, {'rank': None}]
    """
    return [plain(row) for row in frame.iter_rows(named=True)]
