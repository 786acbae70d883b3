"""Responses to what was served: joined to rows of a log, and kept until their request is there."""

from collections.abc import Mapping

import polars as pl

Feedback = Mapping[str, Mapping[object, float]]
"""Feedback by request id and item key."""


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
