"""Responses to what was served: joined to rows of a log, and kept until their request is there."""

from collections.abc import Collection, Mapping
from typing import final

import polars as pl

Feedback = Mapping[str, Mapping[object, float]]
"""Feedback by request id and item key."""

_ROUNDS = 2  # rotations after which feedback to an unknown request is dropped
_MOST_PENDING = 1_000_000  # responses that wait


@final
class PendingFeedback:
    """Responses that wait for their request; not for several threads.

    Examples:
        >>> pending = PendingFeedback()
        >>> pending.add("a", 7, 1.0), pending.add("a", 7, 2.0), len(pending)
        (True, True, 1)
    """

    def __init__(self) -> None:
        self.by_request: dict[str, dict[object, float]] = {}
        """The responses."""
        self._rounds: dict[str, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, request_id: str, item: object, value: float) -> bool:
        """Take a response, which replaces an earlier one; return whether there was room."""
        known = item in self.by_request.get(request_id, ())
        if self._count >= _MOST_PENDING and not known:
            return False
        self.by_request.setdefault(request_id, {})[item] = value
        self._rounds[request_id] = 0
        self._count += not known
        return True

    def remove(self, found: Collection[tuple[str, object]]) -> None:
        """Remove responses by request and item."""
        for request_id, item in found:
            items = self.by_request.get(request_id, {})
            self._count -= items.pop(item, None) is not None
            if not items and request_id in self._rounds:
                del self.by_request[request_id], self._rounds[request_id]

    def age(self, *, last: bool) -> int:
        """Count a rotation, drop what has waited for long, and return how many were dropped.

        Args:
            last: drop everything.
        """
        before = self._count
        for request_id in list(self._rounds):
            self._rounds[request_id] += 1
            if last or self._rounds[request_id] >= _ROUNDS:
                self._count -= len(self.by_request.pop(request_id))
                del self._rounds[request_id]
        return before - self._count


def with_feedback(
    frame: pl.DataFrame, feedback: Feedback, *, key: str
) -> tuple[pl.DataFrame, set[tuple[str, object]]]:
    """Write feedback into the column ``feedback`` of some requests.

    Args:
        frame: one row per request, with the columns ``request_id``, ``feedback`` and the key.
        feedback: values by request and item.
        key: column of candidates that feedback refers to.

    Returns:
        The frame, and the pairs of request and item that were found.
    """
    found = set[tuple[str, object]]()
    rows = frame.with_row_index("row").filter(pl.col("request_id").is_in(list(feedback)))
    if not rows.height:
        return frame, found
    changed = {}
    for row in rows.select("row", "request_id", key, "feedback").iter_rows(named=True):
        given, values = feedback[row["request_id"]], list(row["feedback"])
        for place, item in enumerate(row[key]):
            if item in given:
                values[place] = given[item]
                found.add((row["request_id"], item))
        changed[row["row"]] = values
    column = frame["feedback"].to_list()
    for number, values in changed.items():
        column[number] = values
    series = pl.Series("feedback", column, dtype=frame["feedback"].dtype)
    return frame.with_columns(series), found
