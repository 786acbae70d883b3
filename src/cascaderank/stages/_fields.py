"""Choosing among fields by how much each is worth."""

import math
from collections.abc import Collection, Mapping

from cascaderank.errors import ConfigError


def top_fields(
    importance: Mapping[str, float], *, keep: float, of_items: Collection[str]
) -> tuple[str, ...]:
    """Return the most important fields, in the order given.

    The best field of candidates is always among them: without one, a stage cannot rank.

    Args:
        importance: of each field, higher is better; of equals the earlier wins.
        keep: a share of the fields, in (0, 1), rounded up; or how many, a whole number.
        of_items: names of the fields of candidates.

    Raises:
        ConfigError: if ``keep`` is out of range.

    Examples:
        >>> importance = {"user": 0.9, "hour": 0.8, "price": 0.1, "item": 0.2}
        >>> top_fields(importance, keep=0.5, of_items={"price", "item"})
        ('user', 'item')
    """
    there = len(importance)
    count = keep if isinstance(keep, int) else math.ceil(keep * there)
    if isinstance(keep, bool) or not (1 <= count <= there and (isinstance(keep, int) or keep < 1)):
        raise ConfigError(
            f"keep must be a share of the fields in (0, 1), or a number of them from 1 to {there}; "
            f"got {keep!r}"
        )
    ranked = sorted(importance, key=lambda name: -importance[name])
    best_of_items = next(name for name in ranked if name in of_items)
    chosen = ranked[: int(count)]
    if best_of_items not in chosen:
        chosen[-1] = best_of_items
    return tuple(name for name in importance if name in chosen)
