"""Damaged requests of a day: left out and counted, so that the rest of the day can be used."""

from collections.abc import Iterable
from typing import final

import polars as pl

from cascaderank.errors import DataError, counted


@final
class DamagedRequests:
    """Requests of a day whose rows or history are damaged, with the first reason of each.

    Examples:
        >>> damaged = DamagedRequests()
        >>> damaged.add([7, 8], "all_stage/2024-01-13.feather: column 'rank_pos': found the flag 2")
        >>> damaged.without(pl.DataFrame({"request_id": [6, 7]}))["request_id"].to_list()
        [6]
        >>> damaged.summary()
        "2 damaged requests, first 7: all_stage/2024-01-13.feather: column 'rank_pos': found the \
flag 2"
    """

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}
        """Reason by request id, in the order in which they were found."""

    def add(self, ids: Iterable[int], reason: str) -> None:
        """Add requests that are damaged for one reason; known ones keep their first reason."""
        for request in ids:
            self.reasons.setdefault(int(request), reason)

    def without(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of all other requests.

        Args:
            rows: rows with a column ``request_id``.

        Raises:
            DataError: if none is left.
        """
        if not self.reasons:
            return rows
        damaged = pl.Series(list(self.reasons), dtype=rows.schema["request_id"])
        left = rows.filter(~pl.col("request_id").is_in(damaged.implode()))
        if not left.height:
            raise DataError(
                f"{next(iter(self.reasons.values()))}; all requests of the day are damaged: fetch "
                "the file again"
            )
        return left

    def summary(self) -> str:
        """Describe the number of requests and the first of them."""
        request, reason = next(iter(self.reasons.items()))
        return f"{counted(len(self.reasons), 'damaged request')}, first {request}: {reason}"
