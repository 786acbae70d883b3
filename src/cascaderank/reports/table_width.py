"""Width of all tables, and the division of many columns over several tables."""

from collections.abc import Sequence
from typing import Final

WIDTH: Final = 80
"""Width of tables in characters: of a terminal window, and of output that is not a terminal."""

_GAP = 2  # between two columns
_NAMES = 20  # least width for the names of rows, which are folded if they are longer


def column_groups(widths: Sequence[int]) -> list[slice]:
    """Divide columns over as few tables as can hold them beside a column of names, in order.

    Args:
        widths: width of each column in characters.

    Returns:
        Columns of each table; a table has at least one.

    Examples:
        >>> column_groups([12, 17, 17, 12])
        [slice(0, 3, None), slice(3, 4, None)]
    """
    groups: list[slice] = []
    start, used = 0, _NAMES
    for i, width in enumerate(widths):
        if i > start and used + _GAP + width > WIDTH:
            groups.append(slice(start, i))
            start, used = i, _NAMES
        used += _GAP + width
    return [*groups, slice(start, len(widths))] if widths else []
