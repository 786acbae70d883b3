"""COLD and FSCD are trained on all fields, and then on the most important ones."""

import json

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.runs.build import build_cascade
from cascaderank.runs.load import load_run
from cascaderank.settings.run import read_settings
from cascaderank.training.field_selection import select_fields
from cascaderank.training.train_run import train_run
from tests.cli.test_commands import cascaderank, refused
from tests.training.test_entire_chain import settings_of, written


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return written(tmp_path_factory.mktemp("logs") / "log")


def test_cold_is_trained_from_scratch_on_the_selected_fields(log, tmp_path):
    train_run(settings_of(log, ["cold"]), tmp_path / "run")
    found, second = select_fields(tmp_path / "run", keep=2)
    importance, kept = found["stage_0"].importance, found["stage_0"].kept
    assert set(importance) == {"user", "taste", "quality"}
    assert len(kept) == 2
    assert set(kept) & {"taste", "quality"}
    assert second.stages["stage_0"].features == kept
    assert second.train.start is None
    train_run(second, tmp_path / "second")
    cascade = load_run(tmp_path / "second").cascade
    stage = cascade.stages["stage_0"]
    assert stage.gate is None
    assert {*stage.embedder.request_fields, *stage.embedder.item_fields} == set(kept)


@pytest.mark.parametrize("model", ["cold", "fscd"])
def test_outputs_of_the_previous_stage_are_selected_apart_from_features(log, tmp_path, model):
    settings = settings_of(log, ["mlp", model], **({"penalty": 1e-5} if model == "fscd" else {}))
    settings = settings.changed({"stages.stage_1.previous": ["score", "rank"]})
    train_run(settings, tmp_path / "run")
    found, second = select_fields(tmp_path / "run", keep=4)
    assert {"previous_score", "previous_rank"} < {*found["stage_1"].importance}
    kept, stage = {*found["stage_1"].kept}, second.stages["stage_1"]
    assert {*stage.features, *(f"previous_{output}" for output in stage.previous)} == kept
    train_run(second, tmp_path / "second")
    for keep in range(1, 5):
        _, other = select_fields(tmp_path / "run", keep=keep)
        assert {*other.stages["stage_1"].features} & {"taste", "quality"}, "it ranks by an item"


def test_fscd_starts_from_the_weights_of_the_selected_fields(log, tmp_path, monkeypatch):
    train_run(settings_of(log, ["fscd", "mlp", "cold"], penalty=1e-5), tmp_path / "run")
    found, second = select_fields(tmp_path / "run", keep=2)
    assert list(found) == ["stage_0", "stage_2"]
    assert second.train.start == tmp_path / "run"
    whole = load_run(tmp_path / "run").cascade
    initial = {}

    def fit(trainer):
        initial.update({k: v.clone() for k, v in trainer.cascade.state_dict().items()})
        return real(trainer)

    from cascaderank.training.trainer import Trainer

    real = Trainer.fit
    monkeypatch.setattr(Trainer, "fit", fit)
    train_run(second, tmp_path / "second")
    expected = whole.stages["stage_0"].reduced(found["stage_0"].kept).state_dict()
    for name, tensor in expected.items():
        assert torch.equal(initial[f"stages.stage_0.{name}"], tensor)
    for name, tensor in whole.stages["stage_1"].state_dict().items():
        assert torch.equal(initial[f"stages.stage_1.{name}"], tensor)
    trained = load_run(tmp_path / "second").cascade
    assert any(not torch.equal(initial[k], v) for k, v in trained.state_dict().items())


def test_a_run_can_start_from_the_weights_of_another(log, tmp_path):
    settings = settings_of(log, ["mlp"], {"event": "click"})
    train_run(settings, tmp_path / "run")
    wider = settings.changed({"stages.stage_0.hidden": [9], "train.start": str(tmp_path / "run")})
    with pytest.raises(ConfigError, match=r"stage .stage_0. of .* has other parameters"):
        train_run(wider, tmp_path / "other")
    again = settings.changed({"train.start": str(tmp_path / "run"), "train.learning_rate": 1e-9})
    train_run(again, tmp_path / "again")
    before, after = (load_run(tmp_path / name) for name in ("run", "again"))
    for one, other in zip(before.cascade.parameters(), after.cascade.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    fresh = build_cascade(after.settings, after.schema)
    assert any(
        not torch.allclose(*p)
        for p in zip(fresh.parameters(), after.cascade.parameters(), strict=True)
    )


def test_the_command_prints_importances_and_writes_the_second_phase(log, tmp_path):
    train_run(settings_of(log, ["cold"]), tmp_path / "run")
    done = cascaderank("fields", tmp_path / "run", "--keep", 2, "--to", tmp_path / "second.toml")
    assert done.returncode == 0, done.stderr
    assert "quality" in done.stdout
    assert not read_settings(tmp_path / "second.toml").stages["stage_0"].options["gates"]
    half = cascaderank("fields", tmp_path / "run", "--json", "--to", tmp_path / "half.toml")
    assert len(json.loads(half.stdout)["stages"]["stage_0"]["kept"]) == 2
    again = ["fields", tmp_path / "run", "--to", tmp_path / "half.toml"]
    assert "half.toml exists; choose another file, or add --overwrite" in refused(*again)
    assert cascaderank(*again, "--overwrite").returncode == 0
    assert "expected a file, found a folder" in refused(
        "fields", tmp_path / "run", "--to", tmp_path
    )
    bad = refused("fields", tmp_path / "run", "--keep", 9, "--to", tmp_path / "x.toml")
    assert "keep" in bad
    train_run(settings_of(log, ["ecm"]), tmp_path / "ecm")
    none = refused("fields", tmp_path / "ecm", "--to", tmp_path / "y.toml")
    assert "no stage has field weights (stage_0 is ecm); train a 'cold' or 'fscd' stage" in none
