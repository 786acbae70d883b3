"""Pins, caps and diversity of the final list, against a plain form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.serving import Filters, Rerank
from cascaderank.serving.rerank import reranked
from tests.serving.conftest import market_frame, market_items, request_of

REQUEST = request_of(market_frame(5).row(3, named=True))
SHOP = dict(zip(*market_items().select("video", "shop"), strict=True))


def plain(scores, k, diversity, cap, groups, pinned, vectors):
    """The definition, candidate by candidate."""
    low, high = min(scores), max(scores)
    relevance = [(s - low) / (high - low) if high > low else 1.0 for s in scores]
    found = []
    while len(found) < k:
        best_value = -np.inf
        due = (c for c, at in pinned.items() if at == len(found) + 1 and c not in found)
        best = next(due, None)
        if best is None:
            for c in range(len(scores)):
                same = sum(groups[f] == groups[c] for f in found)
                if c in found or c in pinned or (groups[c] >= 0 and same >= cap):
                    continue
                near = max((vectors[c] @ vectors[f] for f in found), default=0.0)
                value = (1 - diversity) * relevance[c] - diversity * near
                if value > best_value:
                    best, best_value = c, value
        if best is None:  # pins behind the end
            late = sorted((at, c) for c, at in pinned.items() if c not in found)
            if not late:
                break
            best = late[0][1]
        found.append(best)
    return found


@given(
    st.lists(st.integers(-9, 9), min_size=1, max_size=8),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.25, 0.75]),
    st.integers(1, 2),
    st.dictionaries(st.integers(0, 7), st.integers(1, 7), max_size=3),
    st.integers(0, 99),
)
def test_the_list_is_that_of_the_definition(scores, k, diversity, cap, pins, seed):
    scores = np.array(sorted(scores, reverse=True), dtype=float)
    rng = np.random.default_rng(seed)
    angles, groups = rng.uniform(0, 6, len(scores)), rng.integers(-1, 3, len(scores))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    by_position = {at: c for c, at in pins.items() if c < len(scores)}
    pinned = {c: at for at, c in by_position.items()}
    found = reranked(
        scores,
        k,
        Rerank(caps={"g": cap}, diversity=diversity),
        pinned=pinned,
        groups={"g": groups},
        vectors=3 * vectors,
    )
    assert found == plain(scores, k, diversity, cap, groups, pinned, vectors)


def test_without_rules_the_list_is_unchanged(searcher):
    plain_list, answer = searcher.rank(REQUEST), searcher.rank(REQUEST, rerank=Rerank())
    assert answer.ids == plain_list.ids
    assert [(s.name, s.came, s.left) for s in answer.stages[2:]] == [
        ("ranking", 6, 6),
        ("reranking", 6, 3),
    ]


def test_caps_fill_the_list_with_the_next_candidates(searcher):
    ranked = searcher.rank(REQUEST, quotas=(30, 30, 30)).ids
    answer = searcher.rank(REQUEST, quotas=(30, 30, 8), rerank=Rerank(caps={"shop": 1}), trace=True)
    seen, expected = set(), []
    for key in ranked:
        if SHOP[key] is None or SHOP[key] not in seen:
            seen.add(SHOP[key])
            expected.append(key)
    assert answer.ids == expected[:8]
    assert answer.trace.cut_by.count("reranking") == 22


def test_a_pinned_item_passes_every_stage_and_filters_leave_it_out(searcher):
    all_items = searcher.rank(REQUEST, quotas=(30, 30, 30), trace=True)
    worst = all_items.trace.keys[int(np.argmin(all_items.trace.scores["retrieval"]))]
    plain_list = searcher.rank(REQUEST).ids
    assert worst not in plain_list
    pinned = Rerank(pins={worst: 2})
    answer = searcher.rank(REQUEST, rerank=pinned, trace=True)
    assert answer.ids == [plain_list[0], worst, plain_list[1]]
    assert [s.left for s in answer.stages] == [9, 7, 7, 3]
    assert list(answer.trace.of(worst)["stages"]) == ["retrieval", "preranking", "ranking"]
    some = searcher.rank(REQUEST, [k for k in SHOP if k != worst], rerank=pinned)
    assert some.ids == answer.ids
    out = searcher.rank(REQUEST, rerank=pinned, filters=Filters(items=[worst]))
    assert out.ids == plain_list


def test_diversity_spreads_the_list(searcher):
    vectors = searcher.plans[0].parts.numpy()
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    keys = list(SHOP)

    def similarity(answer):
        chosen = units[[keys.index(key) for key in answer.ids]]
        return (chosen @ chosen.T)[np.triu_indices(len(chosen), 1)].mean()

    options = {"quotas": (30, 30, 5)}
    spread = searcher.rank(REQUEST, rerank=Rerank(diversity=0.9), **options)
    assert similarity(spread) < similarity(searcher.rank(REQUEST, **options))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"caps": {"shop": 0}}, "the cap of 'shop' must be a positive integer"),
        ({"pins": {100: 0}}, "the position of a pin must be a positive integer"),
        ({"pins": {100: 1, 103: 1}}, "pins must have different positions"),
        ({"diversity": 1.0}, r"diversity must be in \[0, 1\); got 1.0"),
    ],
)
def test_rules_out_of_range_are_refused(rules, message):
    with pytest.raises(ConfigError, match=message):
        Rerank(**rules)


def test_caps_need_a_feature_with_one_value(searcher):
    with pytest.raises(ConfigError, match=r"caps: no feature 'shp' \(did you mean 'shop'"):
        searcher.rank(REQUEST, rerank=Rerank(caps={"shp": 1}))
    with pytest.raises(ConfigError, match="'genres' has several"):
        searcher.rank(REQUEST, rerank=Rerank(caps={"genres": 1}))
