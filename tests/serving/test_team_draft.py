"""Interleaved lists are fair, and have the best items of both."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascaderank.serving.team_draft import team_draft

LISTS = st.lists(st.integers(0, 9), unique=True, max_size=8)


def slowly(first, second, k, coins):
    """Algorithm 2 of Radlinski, Kurup and Joachims, word by word."""
    lists, teams, drafted = (first, second), ([], []), []
    while len(drafted) < k and all(set(one) - set(drafted) for one in lists):
        if len(teams[0]) < len(teams[1]) or (
            len(teams[0]) == len(teams[1]) and coins.random() >= 0.5
        ):
            team = 0
        else:
            team = 1
        key = next(key for key in lists[team] if key not in drafted)
        teams[team].append(key)
        drafted.append(key)
    return teams, drafted


@given(LISTS, LISTS, st.integers(1, 10), st.integers(0, 5))
def test_the_draft_is_that_of_the_paper_until_a_list_ends(first, second, k, seed):
    drafted = team_draft(first, second, k, random.Random(seed))
    keys = [(first, second)[of][place] for _, of, place in drafted]
    teams, expected = slowly(first, second, k, random.Random(seed))
    assert keys[: len(expected)] == expected
    for team in (0, 1):
        assert [key for key, (t, _, _) in zip(keys, drafted, strict=True) if t == team] == teams[
            team
        ]
    assert all(team is None for team, _, _ in drafted[len(expected) :])
    assert sorted(keys) == sorted(set(keys))
    assert len(keys) == min(k, len(set(first) | set(second)))


def test_each_team_is_first_in_half_of_the_lists():
    firsts = Counter(team_draft([1, 2], [3, 4], 2, random.Random(s))[0][0] for s in range(2000))
    assert firsts[0] == pytest.approx(1000, abs=100)


def test_equal_lists_are_unchanged_and_the_teams_are_even():
    drafted = team_draft([5, 6, 7, 8], [5, 6, 7, 8], 4, random.Random(3))
    assert [place for _, _, place in drafted] == [0, 1, 2, 3]
    assert Counter(team for team, _, _ in drafted) == {0: 2, 1: 2}
