"""What the synthetic funnel promises: who logs what, who sees what, and what the manifest says."""

from math import inf, nan, sqrt
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cascaderank.data.funnel import world as worlds
from cascaderank.data.funnel.features import funnel_schema, stage_features
from cascaderank.data.funnel.funnel_settings import CATEGORIES, FunnelSettings
from cascaderank.data.funnel.traffic import CHEAP_DEVIATION, block_size, draw_block, run_logging
from cascaderank.data.funnel.world import make_world
from cascaderank.data.labels import funnel_target
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Kind, Role

SMALL = {"requests": 150, "users": 30, "items": 500}


@pytest.fixture(scope="module", params=[1, 2, 3, 4])
def log(request, tmp_path_factory):
    return written(tmp_path_factory.mktemp("logs") / "log", stages=request.param)


@pytest.fixture(scope="module")
def ragged(tmp_path_factory):
    return written(tmp_path_factory.mktemp("logs") / "log", stages=3, ragged=True, per_level=7)


def written(path, **options):
    SOURCES["synthetic"]([], path, **{**SMALL, **options})
    return RequestLog.open(path)


def frame(log):
    return pl.concat(list(log.frames()))


def stages_of(log):
    return len(log.manifest.extra["planted"]["quotas"])


def test_levels_are_called_as_in_recflow():
    two, three = (FunnelSettings(stages=s).level_names for s in (2, 3))
    assert two == ("prerank_neg", "coarse_neg", "rank_neg", "rank_pos")
    assert three == ("prerank_neg", "coarse_neg", "rank_neg", "rerank_neg", "rerank_pos")


def test_every_level_has_its_candidates(log):
    levels = [*range(stages_of(log) + 2)]
    assert len(log.manifest.level_names) == len(levels)
    for found in frame(log)["level"].to_list():
        assert found == [level for level in reversed(levels) for _ in range(10)]


def test_positions_count_from_one_in_all_levels_but_the_lowest_two(log):
    for levels, positions in frame(log).select("level", "position").iter_rows():
        for level in set(levels):
            inside = [p for own, p in zip(levels, positions, strict=True) if own == level]
            assert inside == (list(range(1, 11)) if level >= 2 else [0] * 10)


def test_the_top_level_is_the_ground_truth(log):
    assert_top_level_is_ground_truth(log)


def test_the_top_level_is_the_ground_truth_of_ragged_lists(ragged):
    assert_top_level_is_ground_truth(ragged)


def assert_top_level_is_ground_truth(log):
    for levels, positions in frame(log).select("level", "position").iter_rows():
        best = np.argsort(-funnel_target(np.array(levels), np.array(positions)))[:10]
        assert sorted(best) == list(range(10))
        assert {levels[i] for i in best} == {len(log.manifest.level_names) - 1}


def test_ragged_lists_differ_in_every_level_but_the_top(ragged):
    rows = frame(ragged)
    for level in range(5):
        counts = rows["level"].list.count_matches(level)
        assert set(counts) == ({10} if level == 4 else set(range(1, 8)))
    for levels, positions in rows.select("level", "position").iter_rows():
        for level in (2, 3, 4):
            inside = [p for own, p in zip(levels, positions, strict=True) if own == level]
            assert inside == list(range(1, len(inside) + 1))


def test_candidates_of_a_request_are_distinct_items(log):
    assert all(len(set(items)) == len(items) for items in frame(log)["item_id"].to_list())


def test_numbers_are_finite_and_told_by_the_schema(log):
    rows = frame(log)
    numbers = [f for f in log.schema.features if f.kind is Kind.NUMERIC]
    assert {"quality", "price", "sensitivity", "account_age"} <= {f.name for f in numbers}
    for feature in numbers:
        values = rows[feature.name]
        values = values.explode() if feature.role is Role.ITEM else values
        assert values.is_finite().all()
        assert values.std() > 0.1
    assert log.schema["history_item"].vocabulary == log.schema["item_id"].vocabulary
    assert log.schema["history_category"].vocabulary == log.schema["category"].vocabulary


def test_requests_follow_each_other_over_the_days(log):
    times = frame(log).sort("request_id")["timestamp"]
    assert times.is_sorted()
    assert times.dtype == pl.Datetime("us", "UTC")
    assert times.dt.date().n_unique() == len(log.manifest.parts) == 10
    rows = frame(log)
    assert (rows["hour"] == rows["timestamp"].dt.hour()).all()
    assert (rows["weekday"] + 1 == rows["timestamp"].dt.weekday()).all()


def test_equal_seeds_give_equal_bytes(tmp_path):
    def files(folder, seed):
        written(tmp_path / folder / "log", seed=seed, ragged=True)
        root = tmp_path / folder / "log"
        return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    once, again, other = files("a", 5), files("b", 5), files("c", 6)
    assert once == again
    assert len(once) == 11
    assert all(once[name] != other[name] for name in once)


def test_blocks_may_be_drawn_in_any_order(monkeypatch):
    settings = FunnelSettings(**SMALL)
    monkeypatch.setattr("cascaderank.data.funnel.traffic._POOL_ROWS", 50 * settings.alive[0])
    assert block_size(settings) == 50
    world = make_world(settings)
    forth = [draw_block(settings, world, n) for n in (0, 1, 2)]
    back = [draw_block(settings, world, n) for n in (2, 1, 0)][::-1]
    for a, b in zip(forth, back, strict=True):
        np.testing.assert_array_equal(a.parts, b.parts)
        np.testing.assert_array_equal(a.choice.columns, b.choice.columns)
    assert not np.array_equal(forth[0].user, forth[1].user)
    assert np.concatenate([b.time for b in forth]).tolist() == sorted(
        np.concatenate([b.time for b in forth])
    )


def test_histories_are_the_last_likes_before_the_request():
    settings = FunnelSettings(**SMALL)
    world = make_world(settings)
    block = draw_block(settings, world, 0)
    lengths = set()
    for row, (user, time) in enumerate(zip(block.user, block.time, strict=True)):
        mine = slice(world.like_offsets[user], world.like_offsets[user + 1])
        when = world.like_keys[mine] - user * world.span
        assert (np.diff(when) >= 0).all()
        want = world.like_items[mine][when < time][-worlds.HISTORY :]
        got = block.past.items[block.past.offsets[row] : block.past.offsets[row + 1]]
        assert got.tolist() == want.tolist()
        lengths.add(len(got))
        assert (when < 0).any() or len(when) < 8  # some likes are older than the log
    assert min(lengths) < 5
    assert max(lengths) == 20


def test_parts_of_the_utility_are_what_the_features_tell():
    settings = FunnelSettings(**SMALL, stages=3)
    world = make_world(settings)
    block = draw_block(settings, world, 0)
    prices = np.log(world.price.astype(float))
    for row in range(0, 150, 10):
        user = block.user[row]
        past = block.past.items[block.past.offsets[row] : block.past.offsets[row + 1]]
        for place in range(0, block.items.shape[1], 7):
            item = block.items[row, place]
            category = world.category[item]
            share = sum(world.category[i] == category for i in past) / max(len(past), 1)
            cheap = (
                0.65 * world.affinity[world.segment[user], category]
                + 0.53 * (share - 1 / CATEGORIES) / world.share_deviation
                + 0.35 * world.quality[item]
                + 0.3 * world.appeal[item]
                - 0.3 * world.sensitivity[user] * (prices[item] - prices.mean()) / prices.std()
            )
            assert block.parts[0, row, place] == pytest.approx(CHEAP_DEVIATION * cheap, abs=1e-4)
            for part in (1, 2):
                match, gap = (block.late[f"{n}_{part + 1}"][row, place] for n in ("match", "gap"))
                want = (match + (1 - gap**2) / sqrt(2)) / sqrt(2)
                assert block.parts[part, row, place] == pytest.approx(want, abs=1e-5)


def test_every_logging_stage_keeps_the_best_by_what_it_sees():
    settings = FunnelSettings(stages=2, noise=1e-9, per_level=10)
    parts = np.random.default_rng(0).standard_normal((2, 40, 80)).astype(np.float32)
    choice = run_logging(settings, np.random.default_rng(1), parts)
    first, both = parts[0], parts.sum(0)
    for row in range(40):
        alive, levels = list(range(80)), {}
        for level, (utility, keep) in enumerate([(first, 40), (both, 20), (both, 10)]):
            alive.sort(key=lambda j, u=utility: -u[row, j])
            levels |= dict.fromkeys(alive[keep:], level)
            worst, next_best = utility[row, alive[keep - 1]], utility[row, alive[keep]]
            assert next_best <= choice.cuts[level, row] <= worst
            alive = alive[:keep]
        levels |= dict.fromkeys(alive, 3)
        assert [levels[j] for j in choice.columns[row]] == choice.levels[row].tolist()
        assert choice.columns[row, :10].tolist() == alive  # the top level, best first
        assert (np.diff(both[row, choice.columns[row, 10:20]]) <= 0).all()  # the one below, too
    np.testing.assert_allclose(choice.rates, [[10 / 40] * 40, [10 / 20] * 40, [1.0] * 40])


def test_what_is_logged_of_a_level_is_drawn_by_chance():
    settings = FunnelSettings(stages=1, ragged=True, per_level=5)
    parts = np.tile(-np.arange(40.0, dtype=np.float32), (1, 4000, 1))
    choice = run_logging(settings, np.random.default_rng(2), parts * 100)
    lowest = choice.columns[(choice.levels == 0) & choice.mask]
    counts = np.bincount(lowest, minlength=40)
    assert counts[:20].sum() == 0
    assert counts[20:].min() > 0.8 * counts[20:].mean()
    assert counts[20:].max() < 1.2 * counts[20:].mean()


def test_a_stage_may_use_the_features_of_the_parts_it_sees():
    first, second, third = (set(f) for f in stage_features(FunnelSettings(stages=3)))
    assert second - first == {"match_2", "gap_2"}
    assert third - second == {"match_3", "gap_3"}
    assert first < second < third == set(funnel_schema(FunnelSettings(stages=3)).names)


@pytest.mark.parametrize(
    ("complementarity", "first", "second"),
    [
        (0.0, {"item_id", "match_2", "gap_2"}, {"item_id", "match_2", "gap_2"}),
        (0.2, {"item_id", "estimate_2"}, {"item_id", "match_2", "gap_2"}),
        (0.5, {"item_id"}, {"item_id", "match_2", "gap_2"}),
        (0.8, {"item_id"}, {"estimate_1", "match_2", "gap_2"}),
        (1.0, {"item_id"}, {"match_2", "gap_2"}),
    ],
)
def test_complementarity_tells_who_may_use_what(complementarity, first, second):
    settings = FunnelSettings(complementarity=complementarity)
    told = {"item_id", "match_2", "gap_2", "estimate_1", "estimate_2"}
    assert [set(f) & told for f in stage_features(settings)] == [first, second]
    every = set(funnel_schema(settings).names)
    assert set.union(*map(set, stage_features(settings))) == every  # nothing that none may use


@pytest.mark.parametrize(("complementarity", "part", "share"), [(0.1, 1, 0.8), (0.8, 0, 0.4)])
def test_an_estimate_tells_its_share_of_the_variance(complementarity, part, share):
    settings = FunnelSettings(complementarity=complementarity, requests=2000, users=400)
    assert settings.estimates == pytest.approx({part: share})
    block = draw_block(settings, make_world(settings), 0)
    seen = block.late[f"estimate_{part + 1}"]
    assert seen.shape == block.parts[part].shape
    plain = block.parts[part] / (CHEAP_DEVIATION if part == 0 else 1)
    noise = seen - sqrt(share) * plain
    assert noise.var() == pytest.approx(1 - share, rel=0.03)
    assert np.corrcoef(noise.ravel(), plain.ravel())[0, 1] == pytest.approx(0, abs=0.02)


def test_who_knows_what_changes_nothing_that_is_logged(tmp_path):
    logs = [written(tmp_path / str(c), complementarity=c) for c in (0.0, 0.3, 0.5, 0.7, 1.0)]
    frames = [frame(log) for log in logs]
    assert [set(f.columns) - set(frames[2].columns) for f in frames] == [
        set(),
        {"estimate_2"},
        set(),
        {"estimate_1"},
        set(),
    ]
    for other in frames:
        assert other.select(frames[2].columns).equals(frames[2])


def test_uneven_items_have_one_part_of_the_utility():
    settings = FunnelSettings(**SMALL, stages=3, unevenness=0.6)
    world = make_world(settings)
    assert np.bincount(world.type).tolist() == [200, 100, 100, 100]
    block = draw_block(settings, world, 0)
    types, total = world.type[block.items], sqrt(CHEAP_DEVIATION**2 + 2)
    for part, values in enumerate(block.parts):
        assert not values[(types > 0) & (types != part + 1)].any()
        single = values[types == part + 1] / total
        assert single.std() == pytest.approx(1, abs=0.15)  # less the selection by the funnel


def test_the_type_is_a_feature_of_every_stage_and_only_of_uneven_funnels(tmp_path):
    even, uneven = (
        written(tmp_path / str(u), unevenness=u, complementarity=1.0) for u in (0.0, 0.5)
    )
    assert set(frame(uneven).columns) - set(frame(even).columns) == {"type"}
    assert {c for row in frame(uneven)["type"] for c in row} == {0, 1, 2}
    stages = uneven.manifest.extra["planted"]["stages"]
    assert all("type" in stage["features"] for stage in stages)
    for name in ("user_id", "timestamp", "segment"):
        assert frame(uneven)[name].equals(frame(even)[name])


def test_the_manifest_tells_what_was_planted(log):
    planted, stages = log.manifest.extra["planted"], stages_of(log)
    assert planted["quotas"] == [10 + 10 * t for t in range(stages, 0, -1)]
    assert planted["ground_truth"] == 10
    assert planted["seed"] == planted["settings"]["seed"] == 0
    assert planted["settings"]["requests"] == log.manifest.requests == 150
    assert len({s["name"] for s in planted["stages"]}) == stages
    for stage in planted["stages"]:
        assert [f.name for f in log.schema.select(stage["features"])] == stage["features"]
        assert planted["joint_recall"] <= stage["survival"] <= 1
    survival = [s["survival"] for s in planted["stages"]]
    assert survival == sorted(survival, reverse=True)
    assert survival[-1] == planted["joint_recall"]
    assert survival[0] == planted["stages"][0]["recall"]
    assert planted["random_recall"] == pytest.approx(20 / (10 * (stages + 2)))
    assert planted["random_recall"] < planted["joint_recall"] <= planted["bound"] < 1
    assert planted["settings"]["complementarity"] == 0.5


def test_quotas_may_be_chosen(tmp_path):
    log = written(tmp_path / "log", stages=2, quotas=(12, 4), ground_truth=4, per_level=8)
    planted = log.manifest.extra["planted"]
    assert planted["quotas"] == [12, 4]
    assert planted["random_recall"] == pytest.approx(4 / 28)
    assert 0.3 < planted["joint_recall"] < planted["stages"][0]["recall"]


def test_a_log_is_replaced_only_if_told_so(tmp_path):
    written(tmp_path / "log", seed=1)
    with pytest.raises(DataError, match="overwrite"):
        written(tmp_path / "log", seed=2)
    ticks = []
    log = written(
        tmp_path / "log", seed=2, overwrite=True, progress=lambda *a: ticks.append(a), name="mine"
    )
    assert log.manifest.extra["planted"]["seed"] == 2
    assert log.manifest.name == "mine"
    assert ticks[-1] == (150, 150)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"requests": 0, "days": 0}, "requests must be at least 1; got 0; days must be at least 1"),
        ({"stages": 0}, "stages must be at least 1"),
        ({"noise": 0.0}, "noise must be positive, in the range of float32; got 0.0"),
        ({"noise": nan}, "noise must be positive, in the range of float32; got nan"),
        ({"noise": inf}, "noise must be positive, in the range of float32; got inf"),
        ({"complementarity": 1.1}, r"complementarity must be in \[0, 1\]; got 1.1"),
        ({"complementarity": nan}, r"complementarity must be in \[0, 1\]; got nan"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"items": 79}, "items must be at least 80"),
        ({"quotas": (20, 30)}, "never grow"),
        ({"quotas": (30,)}, "one quota per stage"),
    ],
)
def test_what_is_out_of_range_is_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        written(tmp_path / "log", **options)
    assert not list(tmp_path.iterdir())


def test_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"reads no files, found a\.csv"):
        SOURCES["synthetic"]([Path("a.csv")], tmp_path / "log")
