"""Each part of a run uses its rows of the split, the seed of the run, and the settings."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.errors import ConfigError
from cascaderank.metrics import METRICS
from cascaderank.objectives import Objective
from cascaderank.runs.build import build_cascade, build_run_objective
from cascaderank.runs.data import run_data
from cascaderank.runs.load import load_run
from cascaderank.settings.run import check_settings
from cascaderank.training.domain_checks import check_domains
from cascaderank.training.evaluate_run import evaluate_rows, evaluate_run_catalogue
from cascaderank.training.field_selection import select_fields
from cascaderank.training.retrieval import ItemRetrieval
from cascaderank.training.train_run import train_run
from tests.training.test_entire_chain import LEVELS, SCHEMA, written
from tests.training.test_entire_chain import settings_of as chain_settings
from tests.training.test_retrieval import settings as search_settings

CPU = torch.device("cpu")


def settings_of(log, **changes):
    settings = check_settings(
        {
            "data": {"path": str(log), "split": {"by": "request", "seed": 1}},
            "relevance": {"top": 10},
            "stages": {
                "retrieval": {"model": "linear", "quota": 30},
                "ranking": {"model": "linear", "quota": 20},
            },
            "train": {"epochs": 1, "batch_size": 32},
            "evaluation": {"bootstrap": 5},
        }
    )
    return settings.changed({k.replace("__", "."): v for k, v in changes.items()})


@pytest.fixture(scope="module")
def data(funnel):
    with run_data(settings_of(funnel)) as data:
        yield data


@pytest.fixture
def batches(monkeypatch):
    """Rows, labels and mask of each batch that the objective is evaluated on."""
    found, evaluate = [], Objective.evaluate

    def spy(self, inputs, **options):
        found.append((inputs.rows.tolist(), inputs.labels, inputs.mask))
        return evaluate(self, inputs, **options)

    monkeypatch.setattr(Objective, "evaluate", spy)
    return found


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize(("order", "bucketing"), [("days", False), ("shuffled", True)])
def test_the_training_loader_is_that_of_the_settings(
    funnel, data, batches, tmp_path, seed, order, bucketing
):
    options = {"seed": seed, "order": order, "bucketing": bucketing}
    settings = settings_of(funnel, **{f"train__{name}": value for name, value in options.items()})
    train_run(settings, tmp_path / "run", data=data)

    def expected(**changes):
        loader = RequestLoader(
            data.encoded, data.split.train, batch_size=32, **{**options, **changes}
        )
        return [batch.rows.tolist() for batch in loader.epoch(0)]

    assert [rows for rows, _, _ in batches] == expected()
    if bucketing:
        assert expected() != expected(bucketing=False)


def test_the_seed_of_a_run_draws_its_first_weights(funnel, data, tmp_path):
    weights = []
    for seed in (0, 1):
        settings = settings_of(funnel, train__seed=seed, train__learning_rate=1e-9)
        train_run(settings, tmp_path / str(seed), data=data)
        cascade = load_run(tmp_path / str(seed)).cascade
        weights.append(torch.cat([p.detach().flatten() for p in cascade.parameters()]))
    assert (weights[0] - weights[1]).abs().max() > 0.01


def test_random_items_have_the_label_of_the_lowest_level(funnel, batches, tmp_path):
    settings = search_settings(funnel, data__target={"z": [4, 5, 6, 7]}, train__epochs=1)
    settings = settings.changed({"relevance.threshold": 7})
    train_run(settings, tmp_path / "run")
    labels = torch.cat([labels[mask] for _, labels, mask in batches])
    assert sorted(set(labels.tolist())) == [4, 5, 6, 7]


def test_the_report_follows_the_settings_of_evaluation(funnel, data):
    settings = settings_of(funnel)
    torch.manual_seed(0)
    cascade = build_cascade(settings, data.schema)

    def report(**changes):
        changed = settings.changed({f"evaluation.{k}": v for k, v in changes.items()})
        return evaluate_rows(changed, cascade, data, data.split.test, device=CPU).to_json()

    plain = report()
    assert report(seed=0) == plain
    assert report(seed=1)["metrics"] != plain["metrics"]
    assert report(bootstrap=6)["metrics"] != plain["metrics"]
    assert "recall@5" in str(report(metrics=["recall@5"])["stages"])


def test_default_levels_of_an_objective_are_spread_evenly(funnel):
    """With four levels and two stages, the second stage enters at level 2."""
    log = RequestLog.open(funnel)
    assert len(log.manifest.level_names) == 4
    scores = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0))
    levels = torch.arange(12).remainder(4).expand(3, 12)

    def terms(**options):
        objective = build_run_objective(
            settings_of(funnel, objective={"name": "bce", **options}), log
        )
        return objective(scores, levels.float(), levels=levels).terms

    assert terms() == terms(entry_levels=[0, 2])
    assert terms() != terms(entry_levels=[1, 2])


def test_candidates_are_drawn_by_seed_and_training_frequency(funnel):
    settings = search_settings(funnel)
    with run_data(settings) as data:
        samplers = [
            ItemRetrieval(settings.changed({"train.seed": s}), data, CPU).sampler()
            for s in (0, 1, 1)
        ]
        one, other, same = (s.draw(data.split.train, 0).places.tolist() for s in samplers)
        assert one != other
        assert other == same
        catalogue, encoded = samplers[0].catalogue, data.encoded
        expected = dict.fromkeys(catalogue.codes.tolist(), 0)
        for row in data.split.train:
            for code in encoded.items["item_id"][encoded.offsets[row] : encoded.offsets[row + 1]]:
                if int(code) in expected:
                    expected[int(code)] += 1
        assert catalogue.counts.tolist() == list(expected.values())


def test_a_search_of_another_log_leaves_nothing_out(funnel, tmp_path):
    """The training part of another log is not excluded: the run was not trained on it."""
    log = RequestLog.open(funnel)
    other = tmp_path / "other"
    with RequestLogWriter(
        other, name="other", schema=log.schema, level_names=log.manifest.level_names
    ) as writer:
        writer.write(pl.concat(log.frames())[:200])
    found = {}
    for user in ("user_id", None):
        settings = search_settings(funnel, train__epochs=1, catalogue={"item": "item_id"})
        if user:
            settings = settings.changed({"catalogue.user": user})
        folder = tmp_path / str(user)
        train_run(settings, folder)
        for path in (funnel, other):
            _, report = evaluate_run_catalogue(folder, path, part="test")
            found[user, path] = report.metrics
    assert found["user_id", funnel] != found[None, funnel]
    assert found["user_id", other] == found[None, other]


def test_the_schema_is_fitted_on_the_training_requests_alone(funnel, data):
    log = RequestLog.open(funnel)
    assert data.schema == fit_schema(log.schema, log.frames(rows=data.split.train))
    assert data.schema != fit_schema(log.schema, log.frames())


def test_histories_are_cut_to_history_length(funnel):
    with run_data(settings_of(funnel, data__history_length=2)) as data:
        offsets = data.encoded.history_offsets
        assert offsets
        assert all(np.diff(of).max() == 2 for of in offsets.values())


def test_only_the_last_quota_must_drop_candidates(funnel):
    with run_data(settings_of(funnel, stages__retrieval__quota=500)) as data:
        assert np.diff(data.encoded.offsets).max() < 500


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return written(tmp_path_factory.mktemp("logs") / "chain")


@pytest.fixture(scope="module")
def cold(chain, tmp_path_factory) -> Path:
    """A run of COLD with gates."""
    folder = tmp_path_factory.mktemp("runs") / "cold"
    train_run(chain_settings(chain, ["cold"]), folder)
    return folder


def test_cold_with_gates_starts_from_the_weights_of_a_run(chain, cold, tmp_path):
    changes = {"train.start": str(cold), "train.learning_rate": 1e-9}
    train_run(chain_settings(chain, ["cold"]).changed(changes), tmp_path / "run")
    before, after = load_run(cold).cascade, load_run(tmp_path / "run").cascade
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_fields_are_weighed_on_the_training_requests(cold):
    found, _ = select_fields(cold, keep=2)
    run = load_run(cold)
    with run_data(run.settings) as data:

        def importance(rows):
            batches = RequestLoader(data.encoded, rows, batch_size=256).epoch(0)
            return run.cascade.stages["stage_0"].importance(batches)

        assert found["stage_0"].importance == importance(data.split.train)
        assert found["stage_0"].importance != importance(data.split.test)


def check(settings):
    with run_data(settings) as data:
        check_domains(settings, data, build_cascade(settings, data.schema))


def test_clicks_are_exposures_where_clicks_are_not_learnt(tmp_path):
    check(chain_settings(written(tmp_path / "log", clicks=1.0), ["mlp"]))


def test_a_joint_objective_is_checked_with_the_levels_of_the_whole(tmp_path):
    """No candidate has the highest level of the log; both objectives use level 1 as exposed."""
    rng = np.random.default_rng(0)
    level = rng.integers(0, 2, (40, 16))
    columns = {
        "request_id": list(range(40)),
        "user": rng.integers(0, 9, 40),
        "taste": rng.normal(size=level.shape).tolist(),
        "quality": rng.normal(size=level.shape).tolist(),
        "label": level.tolist(),
        "level": level.astype(np.int8).tolist(),
    }
    with RequestLogWriter(
        tmp_path / "log", name="shop", schema=SCHEMA, level_names=LEVELS
    ) as writer:
        writer.write(pl.DataFrame(columns))
    joint = {"name": "entire_chain", "learns": ["stage_1"]}
    options = {"exposed_level": 1, "learns": ["stage_0"], "joint": joint}
    check(chain_settings(tmp_path / "log", ["mlp", "mlp"], **options))


def test_metrics_are_tried_before_training(funnel, tmp_path, monkeypatch):
    def broken_metric(scores, labels, *, mask=None):
        raise KeyError("mine")

    monkeypatch.setitem(METRICS._entries, "broken", broken_metric)
    with pytest.raises(ConfigError, match="metric 'broken' failed with KeyError: 'mine'"):
        train_run(settings_of(funnel, evaluation__metrics=["broken"]), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
