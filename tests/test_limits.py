"""What asks for more memory than the machine has is refused before any of it is allocated."""

import functools
import math

import numpy as np
import pytest
import torch

from cascaderank import limits
from cascaderank.cascade import build_stage, parameters_of
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.funnel.funnel_settings import FunnelSettings
from cascaderank.data.funnel.world import make_world
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.errors import ConfigError, DataError
from cascaderank.evaluation.profile import made_requests
from cascaderank.evaluation.statistics.bootstrap import bootstrap_interval
from cascaderank.experiments.compare import compare
from cascaderank.experiments.heatmap import heatmap
from cascaderank.limits import check_fits, machine_memory
from cascaderank.runs.build import build_cascade
from cascaderank.runs.data import run_data
from cascaderank.schema import Feature, FittedSchema
from cascaderank.simulation.population import Population
from cascaderank.stages import STAGES
from cascaderank.training.optimizer import build_optimizer
from cascaderank.training.train_run import train_run

GIB = 2**30


@pytest.fixture
def small_machine(monkeypatch):
    """A machine with 1 MiB of memory."""
    monkeypatch.setattr(limits, "machine_memory", lambda: 2**20)


def schema(buckets=50):
    return FittedSchema(
        features=(
            Feature(name="price", role="item", kind="numeric"),
            Feature(name="video", role="item", kind="categorical", buckets=buckets),
            Feature(name="user", role="request", kind="categorical", buckets=20),
            Feature(
                name="seen", role="history", kind="categorical", buckets=buckets, vocabulary="video"
            ),
        ),
        moments={"price": {"mean": 0.0, "deviation": 1.0}},
    )


@pytest.mark.parametrize(
    ("needed", "present", "text"),
    [
        (29.8 * GIB, 23 * GIB, "needs about 30 GiB of memory, and the machine has 23 GiB; do less"),
        (1.26 * GIB, 1.04 * GIB, "about 1.3 GiB of memory, and the machine has 1.0 GiB"),
        (2**83, 7.5 * GIB, "needs about 9,000,000,000,000,000 GiB of memory"),
        (0.4 * GIB, 0.011 * GIB, "needs about 0.40 GiB of memory, and the machine has 0.011 GiB"),
    ],
)
def test_the_message_states_both_sizes_and_what_to_do(monkeypatch, needed, present, text):
    monkeypatch.setattr(limits, "machine_memory", lambda: int(present))
    with pytest.raises(ConfigError) as error:
        check_fits(needed, "a table", "do less")
    assert text in str(error.value)
    check_fits(int(present), "a table", "do less")


def test_without_a_known_size_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(limits, "machine_memory", lambda: None)
    check_fits(2.0**90, "a table", "do less")


def test_the_memory_is_the_lowest_limit_of_machine_groups_and_resources(monkeypatch, tmp_path):
    of_process, groups = tmp_path / "cgroup", tmp_path / "groups"
    inner = groups / "service" / "work"
    inner.mkdir(parents=True)
    monkeypatch.setattr(limits, "_OF_PROCESS", of_process)
    monkeypatch.setattr(limits, "_GROUPS", groups)
    monkeypatch.setattr(limits, "_address_space", lambda: None)
    physical = machine_memory()
    assert physical > 0

    of_process.write_text("0::/service/work\n")
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("12345\n")
    assert machine_memory() == 12345

    of_process.write_text("5:cpu:/\n4:memory:/service\n0::/other\n")
    old = groups / "memory" / "service"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("777\n")
    assert machine_memory() == 777
    monkeypatch.setattr(limits, "_address_space", lambda: 99)
    assert machine_memory() == 99


def test_a_limit_of_the_address_space_counts():
    resource = pytest.importorskip("resource")
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    expected = None if limit == resource.RLIM_INFINITY else limit
    assert limits._address_space() == expected


@pytest.mark.parametrize("name", list(STAGES))
def test_parameters_are_counted_without_building_a_stage(name):
    features = ["video", "user"] if name == "matrix_factorisation" else ["*"]
    torch.manual_seed(5)
    counted = parameters_of(name, schema(), features=features)
    stage = build_stage(name, schema(), features=features)
    assert counted == sum(p.numel() for p in stage.parameters())
    torch.manual_seed(5)
    again = build_stage(name, schema(), features=features)  # the count takes no random numbers
    for a, b in zip(stage.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_stage_that_no_outline_can_be_built_of_is_built(monkeypatch):
    class Learned(torch.nn.Module):
        def __init__(self, schema, features, *, scale: float = 1.0):
            super().__init__()
            self.scale = torch.tensor(scale).item()

    class Ruled(torch.nn.Module):
        def __init__(self, schema, features):
            super().__init__()
            self.scale = {"cpu": 1.0}[torch.zeros(1).device.type]

    for stage in (Learned, Ruled):
        monkeypatch.setitem(STAGES._entries, "learned", stage)
        assert parameters_of("learned", schema()) == 0
        assert build_stage("learned", schema()).scale == 1.0


def test_an_outline_does_not_change_the_initial_weights(monkeypatch):
    class Permuted(torch.nn.Module):
        def __init__(self, schema, features):
            super().__init__()
            order = torch.randperm(50, device="cpu")
            self.weight = torch.nn.Parameter(order.float())

    monkeypatch.setitem(STAGES._entries, "permuted", Permuted)
    torch.manual_seed(0)
    expected = torch.randperm(50)
    torch.manual_seed(0)
    assert torch.equal(build_stage("permuted", schema()).weight, expected.float())


def before_building(monkeypatch, model, call):
    """Call a function before each construction of a stage."""
    construct = STAGES[model].__init__

    @functools.wraps(construct)
    def constructed(*args, **kwargs):
        call()
        construct(*args, **kwargs)

    monkeypatch.setattr(STAGES[model], "__init__", constructed)


def test_a_stage_that_fails_is_named(monkeypatch, funnel, settings_for):
    settings = settings_for(funnel)
    before_building(monkeypatch, settings.stages["ranking"].model, lambda: {}["width"])
    with run_data(settings) as data, pytest.raises(ConfigError) as error:
        build_cascade(settings, data.schema)
    assert str(error.value) == (
        f"stages.ranking: stage '{settings.stages['ranking'].model}' cannot be built "
        "(KeyError: 'width'); correct the stage or its options"
    )


def test_a_stage_of_a_cascade_is_outlined_once(monkeypatch, funnel, settings_for):
    settings, built = settings_for(funnel), []
    for model in {stage.model for stage in settings.stages.values()}:
        before_building(monkeypatch, model, lambda: built.append(torch.zeros(1).device.type))
    with run_data(settings) as data:
        build_cascade(settings, data.schema)
    assert built == ["meta"] * len(settings.stages) + ["cpu"] * len(settings.stages)


@pytest.mark.parametrize(
    ("name", "options", "buckets"),
    [
        ("mlp", {"hidden": [2**31 - 1]}, 50),
        ("mlp", {"hidden": [2**31 - 1] * 2}, 50),
        ("mlp", {"dim": 2**31 - 1}, 50),
        ("mlp", {"dim": 2**40}, 50),
        ("mlp", {"hidden": [2**63 - 1] * 2}, 50),
        ("two_tower", {"dim": 2**31 - 1}, 2**40),
        ("ecmm", {"width": 2**31 - 1, "blocks": [2**31 - 1, 1]}, 50),
        ("matrix_factorisation", {"dim": 2**31 - 1}, 50),
        ("linear", {}, 2**40),
    ],
)
def test_a_stage_that_no_machine_has_room_for_is_refused(name, options, buckets):
    features = ["video", "user"] if name == "matrix_factorisation" else ["*"]
    with pytest.raises(ConfigError, match=r"parameters needs about [\d,]+ GiB .*reduce the widths"):
        build_stage(name, schema(buckets), features=features, options=options)


def test_all_stages_of_a_run_count(monkeypatch, funnel, settings_for):
    settings = settings_for(funnel)
    with run_data(settings) as data:
        one = max(
            parameters_of(s.model, data.schema, features=s.features, options=s.options)
            for s in settings.stages.values()
        )
        monkeypatch.setattr(limits, "machine_memory", lambda: 4 * one)
        with pytest.raises(ConfigError, match=r"a model of .* parameters needs about"):
            build_cascade(settings, data.schema)


def test_training_needs_gradients_and_moments(monkeypatch, settings_for, funnel):
    stage = build_stage("mlp", schema(), options={"hidden": [64]})
    size = 4 * sum(p.numel() for p in stage.parameters())
    train, empty = settings_for(funnel).train, torch.nn.Module()
    monkeypatch.setattr(limits, "machine_memory", lambda: 4 * size)
    build_optimizer(stage, empty, train)
    monkeypatch.setattr(limits, "machine_memory", lambda: 4 * size - 1)
    with pytest.raises(ConfigError, match=r"training of [0-9,]+ parameters needs about"):
        build_optimizer(stage, empty, train)
    build_optimizer(stage, empty, train.model_copy(update={"embedding_optimizer": "sparse_adam"}))


def encoded(funnel):
    log = RequestLog.open(funnel)
    fitted = FittedSchema(
        features=[log.schema["quality"]], moments={"quality": {"mean": 0.0, "deviation": 1.0}}
    )
    return EncodedLog.of_frame(next(iter(log.frames(["request_id", "quality"]))), fitted)


def test_a_batch_must_fit(monkeypatch, funnel):
    log = encoded(funnel)
    rows = np.arange(20)
    needed = 4 * 20 * 40
    monkeypatch.setattr(limits, "machine_memory", lambda: needed)
    RequestLoader(log, rows, batch_size=2**31 - 1)
    monkeypatch.setattr(limits, "machine_memory", lambda: needed - 1)
    RequestLoader(log, rows, batch_size=19)
    with pytest.raises(ConfigError, match=r"a batch of 20 requests with up to 40 candidates"):
        RequestLoader(log, rows, batch_size=2**31 - 1)


def test_random_candidates_of_a_batch_must_fit(funnel, settings_for, tmp_path):
    stage = {"model": "linear", "quota": 20, "features": ["item_id", "category"]}
    changes = {
        "stages": {"ranking": stage},
        "objective": {"name": "bce"},
        "catalogue": {"item": "item_id"},
        "train.candidates": {"pool": 2**31 - 1},
    }
    settings = settings_for(funnel).changed(changes)
    with pytest.raises(ConfigError, match=r"up to 2,147,483,687 candidates needs about .* GiB"):
        train_run(settings, tmp_path / "run")


@pytest.mark.parametrize(
    "sizes",
    [
        {"candidates": 2 * 10**9, "requests": 1, "history": 50},
        {"candidates": 10, "requests": 2**31 - 1, "history": 50},
        {"candidates": 10, "requests": 16, "history": 2**31 - 1},
    ],
)
def test_requests_of_a_profile_must_fit(small_machine, sizes):
    with pytest.raises(ConfigError, match="reduce --lists, --batch or --history"):
        made_requests(schema(), **sizes)


def test_replicates_of_a_bootstrap_must_fit(small_machine):
    bootstrap_interval(np.ones(3), resamples=1000)
    with pytest.raises(ConfigError, match=r"10,000,000 bootstrap replicates of 1 mean needs about"):
        bootstrap_interval(np.ones(3), resamples=10**7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"users": 2 * 10**6}, r"2,000,000 users, .* needs about [\d.]+ GiB"),
        ({"items": 2**31 - 1}, r"2,147,483,647 items .* needs about \d+ GiB"),
        ({"users": 2**31 - 1}, "users must be at most 2,603,707 with 10 days"),
        ({"users": 10**5, "days": 36_525}, "users must be at most 2,920 with 36,525 days"),
        ({"stages": 24, "items": 2**31 - 1}, "requests of 335,544,320 candidates needs about"),
        ({"stages": 50_000}, "stages must be at most 100; got 50,000"),
        ({"days": 10**9}, "days must be at most 36,525"),
        ({"requests": 10**12}, "requests must be at most 2,147,483,647"),
        ({"ground_truth": 10**9}, "ground_truth must be at most 32,767"),
        ({"noise": math.nan}, "noise must be positive, in the range of float32; got nan"),
        ({"noise": 1e39}, r"noise must be positive, in the range of float32; got 1e\+39"),
        ({"seed": 2**63}, "seed must be at least 0 and less than"),
    ],
)
def test_a_synthetic_funnel_must_fit(small_machine, options, message):
    with pytest.raises(ConfigError, match=message):
        make_world(FunnelSettings(**options))


def test_a_letor_file_has_as_many_columns_as_its_largest_index(tmp_path):
    file = tmp_path / "train.txt"
    file.write_text("1 qid:1 1:0.5 2:1\n0 qid:1 1:0.25\n")
    with pytest.raises(DataError, match="at most 10,000 features, found the index 1,000,000,000"):
        SOURCES["letor"](file, tmp_path / "log", features=10**9)


def test_users_and_items_of_a_simulation_must_fit(small_machine):
    import polars as pl

    columns = (("user", "request"), ("video", "item"))
    features = [Feature(name=n, role=r, kind="categorical") for n, r in columns]
    population = Population(
        schema=FittedSchema(features=features),
        user="user",
        item="video",
        users=pl.DataFrame({"user": range(2000)}),
        items=pl.DataFrame({"video": range(2000)}),
    )
    with pytest.raises(ConfigError, match="a table of 2,000 users and 2,000 items needs about"):
        population.unseen()


def test_a_grid_is_counted_before_it_is_built(funnel, settings_for, tmp_path):
    axes = {f"objective.option_{i}": list(range(10)) for i in range(12)}
    settings = settings_for(funnel).changed({"compare": {"grid": {"*": axes}}})
    with pytest.raises(ConfigError, match=r"at most 100,000 runs, found 2,000,000,000,004"):
        compare(settings, tmp_path / "runs")
    one = settings_for(funnel).changed({"stages": {"r": {"model": "linear", "quota": 20}}})
    lengths = range(1, 4001)
    with pytest.raises(ConfigError, match=r"at most 100,000 runs, found 1,600,000,000"):
        heatmap(one, tmp_path / "runs", losses=["bce"], m=lengths, k=lengths, seeds=100)
    assert not (tmp_path / "runs").exists()


def test_there_are_at_most_as_many_folds_as_requests(funnel, settings_for, tmp_path):
    settings = settings_for(funnel).changed({"data.split": {"by": "fold", "folds": 10_000}})
    with pytest.raises(DataError, match="240 requests are too few for 10000 folds"):
        compare(settings, tmp_path / "runs")
