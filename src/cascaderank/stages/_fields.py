"""Selection of fields by importance."""

import math
from collections.abc import Collection, Mapping

from cascaderank.errors import ConfigError


def top_fields(
    importance: Mapping[str, float], *, keep: float, of_items: Collection[str]
) -> tuple[str, ...]:
    """Return the most important fields, in the order of ``importance``.

    The most important item field is always included: without one, a stage cannot rank.

    Args:
        importance: importance of each field by name, higher is better; ties go to the earlier.
        keep: fraction of the fields, in (0, 1), rounded up; or their number, an integer.
        of_items: names of the item fields.

    Raises:
        ConfigError: if ``keep`` is out of range.

    Examples:
        >>> importance = {"user": 0.9, "hour": 0.8, "price": 0.1, "item": 0.2}
        >>> top_fields(importance, keep=0.5, of_items={"price", "item"})
        ('user', 'item')
    """
    total = len(importance)
    count = keep if isinstance(keep, int) else math.ceil(keep * total)
    if isinstance(keep, bool) or not (1 <= count <= total and (isinstance(keep, int) or keep < 1)):
        raise ConfigError(
            f"keep must be a fraction of the fields in (0, 1), or their number from 1 to {total}; "
            f"got {keep!r}"
        )
    ranked = sorted(importance, key=lambda name: -importance[name])
    best_item_field = next(name for name in ranked if name in of_items)
    chosen = ranked[: int(count)]
    if best_item_field not in chosen:
        chosen[-1] = best_item_field
    return tuple(name for name in importance if name in chosen)
