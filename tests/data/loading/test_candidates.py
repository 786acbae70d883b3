"""Sampling of training candidates: logged candidates per level, and random items."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch

from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.item_catalogue import ItemCatalogue
from cascaderank.data.loading.candidates import CandidateSampler, CandidateSettings
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Feature, Schema

LEVELS = ("pool", "dropped", "shown", "liked")
SCHEMA = Schema(
    features=(
        Feature(name="user", role="request", kind="categorical"),
        Feature(name="video", role="item", kind="categorical"),
        Feature(name="length", role="item", kind="numeric", transform="none"),
        Feature(name="match", role="item", kind="numeric", transform="none"),
    )
)


def requests_frame(requests=40, items=30, *, seed=0):
    """Return requests of 9 to 14 candidates: length is the id of the item, match is random."""
    rng = np.random.default_rng(seed)
    videos = [rng.permutation(items)[: 9 + r % 6].tolist() for r in range(requests)]
    return pl.DataFrame(
        {
            "request_id": range(requests),
            "user": [r % 7 for r in range(requests)],
            "video": videos,
            "length": [[float(v) for v in of] for of in videos],
            "match": [rng.random(len(of)).tolist() for of in videos],
            "level": [[3, 2, 2, *[1] * (len(of) - 3)] for of in videos],
            "feedback": [[1.0] + [0.0] * (len(of) - 1) for of in videos],
        }
    )


@pytest.fixture(scope="module")
def data():
    frame = requests_frame()
    schema = fit_schema(SCHEMA, [frame])
    return EncodedLog.of_frame(frame, schema, target="level"), schema


def catalogue(data, **options):
    log, schema = data
    options = {"item": "video", "train": np.arange(log.requests), **options}
    return ItemCatalogue.build(log, schema, **options)


def loader(data, *, batch_size=40, seed=0, order=None, items=None, **settings):
    log, _ = data
    sampler = CandidateSampler(
        log, CandidateSettings(**settings), level_names=LEVELS, catalogue=items, seed=seed
    )
    rows = np.arange(log.requests)
    return RequestLoader(
        log, rows, batch_size=batch_size, seed=order, sampler=sampler, random_label=0.25
    )


def by_request(batches):
    """Return the candidates of each request, independent of its batch."""
    return {
        int(row): [
            tuple(column[i][batch.mask[i]].tolist())
            for column in (*batch.items.values(), batch.levels, batch.labels, batch.log_q)
            if column is not None
        ]
        for batch in batches
        for i, row in enumerate(batch.rows)
    }


COUNTS = {"liked": 1, "shown": 1, "dropped": 3}


def test_the_set_number_of_each_level_is_drawn_and_none_of_other_levels(data):
    (batch,) = loader(data, levels=COUNTS).epoch(0)
    for levels, mask in zip(batch.levels, batch.mask, strict=True):
        assert Counter(levels[mask].tolist()) == {3: 1, 2: 1, 1: 3}
    (batch,) = loader(data, levels={"liked": 1, "dropped": "all"}).epoch(0)
    log, _ = data
    for row, levels, mask in zip(batch.rows, batch.levels, batch.mask, strict=True):
        length = log.offsets[row + 1] - log.offsets[row]
        assert Counter(levels[mask].tolist()) == {3: 1, 1: length - 3}


def test_a_level_with_too_few_candidates_contributes_all_of_them(data):
    (batch,) = loader(data, levels={"shown": 5}).epoch(0)
    assert batch.mask.sum(-1).tolist() == [2] * 40
    (batch,) = loader(data, levels={"pool": 5}).epoch(0)
    assert batch.mask.shape == (40, 0)


def test_without_levels_all_candidates_are_kept_in_order(data):
    log, _ = data
    (drawn,) = loader(data).epoch(0)
    (plain,) = RequestLoader(log, np.arange(40), batch_size=40).epoch(0)
    assert torch.equal(drawn.mask, plain.mask)
    for name, values in plain.items.items():
        assert torch.equal(drawn.items[name], values)


@pytest.mark.parametrize("draw", ["uniform", "frequency"])
def test_drawn_candidates_depend_on_seed_epoch_and_request_only(data, draw):
    options = {"levels": COUNTS, "pool": 4, "items": catalogue(data), "draw": draw}
    whole = by_request(loader(data, **options).epoch(1))
    parts = by_request(loader(data, batch_size=7, order=3, **options).epoch(1))
    assert whole == parts
    for other in (
        by_request(loader(data, **options).epoch(2)),
        by_request(loader(data, seed=1, **options).epoch(1)),
    ):
        assert sum(whole[r] != other[r] for r in whole) > 30


def test_every_candidate_of_a_level_is_drawn_in_some_epoch(data):
    load = loader(data, levels={"dropped": 1})
    seen = Counter(int(next(load.epoch(epoch)).items["video"][0, 0]) for epoch in range(600))
    log, _ = data
    dropped = int((log.levels[: log.offsets[1]] == 1).sum())
    assert len(seen) == dropped
    assert min(seen.values()) > 0.6 * 600 / dropped


def test_random_items_have_their_own_features_and_the_lowest_label(data):
    log, schema = data
    items = catalogue(data)
    assert items.unknown == ("match",)
    (batch,) = loader(data, levels={"liked": 1}, pool=6, items=items).epoch(0)
    random = batch.mask & (batch.levels == 0)
    assert (batch.levels[:, 0] == 3).all(), "random items come last"
    assert 150 < random.sum() < 240, "some drawn items were logged candidates"
    ids = torch.tensor([-1, *schema.vocabularies["video"]])
    assert torch.equal(batch.items["length"][random], ids[batch.items["video"][random]].float())
    assert (batch.labels[random] == 0.25).all()
    assert (batch.feedback[random] == 0).all()
    for row, videos, is_random in zip(batch.rows, batch.items["video"], random, strict=True):
        own = log.items["video"][log.offsets[row] : log.offsets[row + 1]]
        assert not set(videos[is_random].tolist()) & set(own.tolist())


def drawn_shares(data, draw):
    """Return the fraction of draws and exp(log q) of each item, without logged candidates."""
    _, schema = data
    empty = EncodedLog.of_frame(
        pl.DataFrame(
            {"user": [0], "video": [[99]], "length": [[0.0]], "match": [[0.0]], "level": [[0]]}
        ),
        schema,
    )
    items = catalogue(data)
    sampler = CandidateSampler(
        empty, CandidateSettings(pool=20_000, draw=draw), level_names=LEVELS, catalogue=items
    )
    drawn = sampler.draw(np.array([0]), 0)
    random = drawn.random
    counts = np.bincount(drawn.places[random], minlength=len(items))
    q = np.zeros(len(items))
    q[drawn.places[random]] = np.exp(drawn.log_q[random])
    return counts / 20_000, q, items


@pytest.mark.parametrize("draw", ["uniform", "frequency"])
def test_log_q_is_the_log_probability_of_a_draw(data, draw):
    shares, q, items = drawn_shares(data, draw)
    np.testing.assert_allclose(shares, q, atol=0.006)
    assert q.sum() == pytest.approx(1, abs=1e-5)
    want = items.counts + 1 if draw == "frequency" else np.ones(len(items))
    np.testing.assert_allclose(q, want / want.sum(), rtol=1e-5)
    if draw == "frequency":
        assert q.max() > 1.3 * q.min(), "vacuous: all items have equal counts"


def test_log_q_is_defined_for_logged_candidates(data):
    items = catalogue(data)
    (batch,) = loader(data, levels={"liked": 1}, pool=3, items=items, draw="frequency").epoch(0)
    q = (items.counts + 1) / (items.counts + 1).sum()
    want = np.log(q)[items.places(batch.items["video"].numpy())]
    np.testing.assert_allclose(batch.log_q[batch.mask], want[batch.mask], rtol=1e-5)
    assert next(loader(data, levels=COUNTS).epoch(0)).log_q is None


def test_a_candidate_that_the_catalogue_lacks_is_as_likely_as_its_rarest_item(data):
    items = catalogue(data, frame=pl.DataFrame({"video": [3, 4, 5], "length": [3.0, 4.0, 5.0]}))
    weights = items.counts + 1
    assert len(set(weights.tolist())) > 1, "vacuous: all are as frequent"
    (batch,) = loader(data, levels={"dropped": 3}, pool=1, items=items, draw="frequency").epoch(0)
    places = items.places(batch.items["video"].numpy())
    lacking = batch.mask & torch.from_numpy(places == -1)
    assert lacking.sum() > 50
    rarest = np.log(weights.min() / weights.sum())
    np.testing.assert_allclose(batch.log_q[lacking], rarest, rtol=1e-5)


def test_without_random_items_no_batch_has_a_chance_of_being_drawn(data):
    for settings in ({}, {"levels": COUNTS}):
        batch = next(loader(data, items=catalogue(data), **settings).epoch(0))
        assert batch.log_q is None


def test_counts_are_those_of_training_requests_only(data):
    log, _ = data
    some = catalogue(data, train=np.arange(5))
    seen = Counter(log.items["video"][: log.offsets[5]].tolist())
    assert dict(zip(some.codes.tolist(), some.counts.tolist(), strict=True)) == {
        code: seen[code] for code in range(1, 31)
    }


def test_a_catalogue_can_be_built_from_the_item_list_of_the_log(data):
    frame = pl.DataFrame({"video": [3, 5, 777, 4], "length": [30.0, 50.0, 7.0, 40.0]})
    items = catalogue(data, frame=frame)
    _, schema = data
    ids = [schema.vocabularies["video"][code - 1] for code in items.codes]
    assert ids == [3, 4, 5], "a value out of vocabulary is no item"
    assert items.features["length"].tolist() == [30.0, 40.0, 50.0]
    assert items.unknown == ("match",)
    assert items.places(np.array([0, *items.codes, 10**6])).tolist() == [-1, 0, 1, 2, -1]
    batch = items.batch(1, 3)
    assert batch.items["length"].tolist() == [[40.0, 50.0]]
    assert all(a < b for a, b in pairwise(items.codes))


def test_wrong_settings_are_refused(data):
    _, schema = data
    with pytest.raises(ConfigError, match=r"pool = 2 draws random items.*catalogue.item"):
        loader(data, pool=2)
    with pytest.raises(ConfigError, match=r"no level called 'liekd' \(did you mean 'liked'\?\)"):
        loader(data, levels={"liekd": 1})
    without = EncodedLog.of_frame(requests_frame().drop("level"), schema)
    with pytest.raises(DataError, match="needs a log with levels; found none"):
        CandidateSampler(without, CandidateSettings(levels={"liked": 1}), level_names=LEVELS)
    with pytest.raises(
        ConfigError, match=r"catalogue.item must be a categorical item .* got 'length'"
    ):
        catalogue(data, item="length")
    with pytest.raises(DataError, match="has no 'video'"):
        catalogue(data, frame=pl.DataFrame({"vidoe": [1]}))
    with pytest.raises(ConfigError, match=r"stages.ranking reads 'match'"):
        catalogue(data).check_has(["length", "match"], reader="stages.ranking")
    for count in (0, -1, "many"):
        with pytest.raises(ValueError, match="levels"):
            CandidateSettings(levels={"liked": count})


def test_logged_candidates_keep_their_weights_and_random_items_have_weight_1(data):
    log, _ = data
    weighted = replace(log, candidate_weights=log.items["length"].astype(np.float32) + 2)
    (batch,) = loader((weighted, None), items=catalogue(data), pool=6).epoch(0)
    logged = batch.levels > 0
    assert (batch.mask & ~logged).any()
    assert torch.equal(batch.weights[logged], batch.items["length"][logged] + 2)
    assert batch.weights[batch.mask & ~logged].eq(1).all()
