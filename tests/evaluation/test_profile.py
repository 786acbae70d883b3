"""Profiles: operation counts of the stages, and latencies on requests of the schema."""

import math

import pytest
import torch
from rich.console import Console

from cascaderank.cascade import Cascade, build_stage
from cascaderank.errors import ConfigError
from cascaderank.evaluation import profile_cascade
from cascaderank.evaluation.profile import cells, made_requests
from cascaderank.reports import profile_tables, tradeoff_table
from cascaderank.reports.profile_tables import short
from cascaderank.stages import STAGES, LookUps, look_ups, multiply_adds
from tests.contracts.test_stages import FEATURES, SCHEMA


@pytest.fixture
def cascade():
    torch.manual_seed(0)
    stages = {
        name: build_stage(model, SCHEMA, features=FEATURES)
        for name, model in (("first", "linear"), ("second", "mlp"), ("third", "din"))
    }
    return Cascade(stages, quotas=(6, 4, 2))


@pytest.fixture
def found(cascade):
    return profile_cascade(cascade, SCHEMA, lists=(9, 3), batch=2, history=7, seconds=0.001)


def test_counts_are_those_of_the_stages(cascade, found):
    assert list(found.stages) == ["first", "second", "third"]
    for name, stage in cascade.stages.items():
        of = found.stages[name]
        assert of.multiply_adds == multiply_adds(stage, SCHEMA, history=7)
        assert of.look_ups == look_ups(stage, SCHEMA, history=7)
        assert of.parameters == sum(p.numel() for p in stage.parameters())
    assert found.parameters == sum(p.numel() for p in cascade.parameters())


def test_trees_have_no_products_and_no_look_ups():
    stage = build_stage("boosted_trees", SCHEMA, features=FEATURES)
    assert (multiply_adds(stage, SCHEMA).of(10), look_ups(stage, SCHEMA).of(10)) == (0, 0)


@pytest.mark.parametrize("name", [name for name in STAGES if name != "boosted_trees"])
def test_look_ups_are_those_of_the_categories(name):
    stage = build_stage(name, SCHEMA, features=FEATURES)
    read = look_ups(stage, SCHEMA, history=7)
    assert (read.per_request, read.per_candidate) == (
        1 + 7,
        1,
    )  # per request: user and history; per candidate: video
    assert read.of(10) == 18
    several = build_stage(name, SCHEMA, features=[*FEATURES, "tags", "genres", "text"])
    assert look_ups(several, SCHEMA, history=7, values=4) == LookUps(1 + 7 + 4, 1 + 4)


def test_a_walk_sums_the_costs_of_the_inputs_of_each_stage(found):
    first, second, third = found.stages.values()
    short, long = found.walks
    assert (short.candidates, long.candidates) == (3, 9)
    for walk, gets in ((short, (3, 3, 3)), (long, (9, 6, 4))):
        stages = list(zip((first, second, third), gets, strict=True))
        assert walk.multiply_adds == sum(s.multiply_adds.of(n) for s, n in stages)
        assert walk.look_ups == sum(s.look_ups.of(n) for s, n in stages)
        assert walk.timing.candidates == walk.candidates


def test_times_are_of_single_requests_and_of_batches(found):
    for stage in found.stages.values():
        assert [(t.requests, t.candidates) for t in stage.timings] == [
            (1, 3), (1, 9), (2, 3), (2, 9),
        ]  # fmt: skip
        for timing in stage.timings:
            assert timing.calls >= 5
            assert 0 < timing.p50 <= timing.p99
            scored = timing.requests * timing.candidates
            assert timing.microseconds_per_candidate * scored == pytest.approx(1e6 * timing.p50)
            assert timing.candidates_per_second == pytest.approx(scored / timing.p50)


def test_the_latency_of_a_sleeping_stage_is_measured(monkeypatch, cascade):
    import time

    stage = cascade.stages["first"]
    forward = stage.forward
    monkeypatch.setattr(stage, "forward", lambda batch: time.sleep(0.02) or forward(batch))
    found = profile_cascade(cascade, SCHEMA, lists=(3,), batch=1, history=2, seconds=0.001)
    assert found.stages["first"].timings[0].p50 > 0.02
    assert found.walks[0].timing.p50 > 0.02


def test_the_modes_of_the_cascade_are_restored(cascade):
    cascade.train()
    cascade.stages["second"].eval()
    before = [module.training for module in cascade.modules()]
    calls = []
    profile_cascade(
        cascade, SCHEMA, lists=(3,), batch=2, seconds=0.001, progress=lambda: calls.append(1)
    )
    assert [module.training for module in cascade.modules()] == before
    assert len(calls) == cells(3, lists=1, batch=2)


def test_made_requests_fit_the_schema():
    batch = made_requests(SCHEMA, requests=40, candidates=6, history=5)
    assert set(batch.items) | set(batch.request) | set(batch.history) == set(SCHEMA.names)
    assert set(batch.items["video"].flatten().tolist()) == set(range(6))
    assert batch.history["seen"].shape == batch.history_mask["history"].shape == (40, 5)
    assert batch.items["score"].isnan().any()
    assert not batch.items["price"].isnan().any()
    assert batch.items["genres"].shape == (40, 6, 3)
    assert batch.items["genres"].min() == 0
    assert batch.items["text"].shape == (40, 6, 3)


@pytest.mark.parametrize(
    "wrong",
    [{"lists": ()}, {"lists": (0,)}, {"batch": 0}, {"history": 0}, {"seconds": 0},
     {"seconds": math.nan}],
)  # fmt: skip
def test_arguments_out_of_range_are_rejected(cascade, wrong):
    with pytest.raises(ConfigError, match="at least"):
        profile_cascade(cascade, SCHEMA, **wrong)


def test_tables_fit_and_contain_the_counts(found):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        for table in (*profile_tables(found), tradeoff_table({"a" * 60: (math.nan, found)})):
            console.print(table)
        said = console.export_text()
    assert max(map(len, said.splitlines())) <= 100
    assert "…" not in said
    products = found.stages["third"].multiply_adds
    row = next(line for line in said.splitlines() if line.strip().startswith("third"))
    assert row.split()[4:7] == ["6,192", *short(products.per_candidate).split()]


def test_recall_is_drawn_against_cost(found):
    pytest.importorskip("matplotlib")
    from cascaderank.reports.profile_plot import profile_png

    one = profile_png({"a": (0.5, found), "b": (math.nan, found)})
    assert one.startswith(b"\x89PNG")
    assert one == profile_png({"a": (0.5, found)})
    assert one != profile_png({"a": (0.5, found), "b": (0.6, found)})
