"""Team-draft interleaving of two ranked lists."""

import random
from collections.abc import Sequence
from typing import Any

Draft = list[tuple[int | None, int, int]]
"""Per position: the team (0 or 1; ``None`` for none), the list, and the position in that list."""


def team_draft(first: Sequence[Any], second: Sequence[Any], k: int, rng: random.Random) -> Draft:
    """Interleave two ranked lists, so that clicks on the items of a team compare the lists.

    In each round both teams choose their best item that is not in the list yet; a coin decides
    which chooses first. When one list has no item left, the rest of the other is appended, of no
    team, since its clicks would favour the longer list.

    Args:
        first: keys of the first list, best first.
        second: keys of the second list.
        k: length of the interleaved list.
        rng: generator of the coin.

    Examples:
        >>> team_draft(["a", "b"], ["b", "c"], 3, random.Random(1))
        [(1, 1, 0), (0, 0, 0), (None, 1, 1)]

    Source: Radlinski, Kurup and Joachims 2008, section 4.2 (algorithm 2); the rest that is of no
    team: this project.
    """
    lists, places, sizes = (first, second), [0, 0], [0, 0]
    chosen: set[Any] = set()
    drafted: Draft = []

    def left(team: int) -> bool:
        of = lists[team]
        while places[team] < len(of) and of[places[team]] in chosen:
            places[team] += 1
        return places[team] < len(of)

    while len(drafted) < k and (left(0) | left(1)):
        if left(0) and left(1):
            behind = sizes[0] - sizes[1]
            team = int(rng.random() < 0.5) if behind == 0 else int(behind > 0)
            sizes[team] += 1
            drafted.append((team, team, places[team]))
        else:
            team = int(left(1))
            drafted.append((None, team, places[team]))
        chosen.add(lists[team][places[team]])
    return drafted
