"""Lines of TREC runs and of relevance judgments (qrels)."""

import math
from collections.abc import Sequence

import numpy as np

LAYOUTS = {6: "'query Q0 document rank score tag'", 4: "'query 0 document grade'"}
"""Layout of a line by its number of columns: of a run, and of judgments."""

_LARGEST = float(np.finfo(np.float32).max)


def parsed(fields: Sequence[str]) -> tuple[str, str, int, float] | tuple[str, str, float]:
    """Return query, document, rank and score of a line of a run, or query, document and grade.

    Args:
        fields: the 6 columns of a run or the 4 of judgments.

    Raises:
        ValueError: if the rank is no integer of 64 bits, or the score or the grade is not finite in
            float32.

    Examples:
        >>> parsed("q1 Q0 d7 1 2.5 bm25".split()), parsed("q1 0 d7 3".split())
        (('q1', 'd7', 1, 2.5), ('q1', 'd7', 3.0))
    """
    if len(fields) == 6:
        return fields[0], fields[2], _rank(fields[3]), _finite(fields[4])
    return fields[0], fields[2], _finite(fields[3])


def _rank(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63 or "_" in text:  # 1_000 is a number of Python alone
        raise ValueError(text)
    return value


def _finite(text: str) -> float:
    value = float("" if "_" in text else text)
    if not math.isfinite(value) or abs(value) > _LARGEST:
        raise ValueError(text)
    return value
