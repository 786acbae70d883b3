"""Heat maps: every model is evaluated at every (m, k); consistency, regret and output."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cascaderank.cli import app
from cascaderank.data.sources import SOURCES
from cascaderank.errors import ConfigError
from cascaderank.experiments.heatmap import Heatmap, LossMap, consistency, heatmap
from cascaderank.reports import heatmap_markdown
from cascaderank.reports.heatmap_plot import heatmap_png
from cascaderank.settings.run import check_settings
from cascaderank.training.evaluate_run import evaluate_run

CELLS = [(2, 1), (2, 3), (5, 1), (5, 3)]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("letor")
    rng = np.random.default_rng(0)
    lines = []
    for query in range(40):
        for _ in range(12):
            x = rng.normal(size=2)
            grade = int(np.clip(round(1 + x[0]), 0, 4))
            lines.append(f"{grade} qid:{query} 1:{x[0]:.4f} 2:{x[1]:.4f}")
    (folder / "web.txt").write_text("\n".join(lines))
    SOURCES["letor"](folder / "web.txt", folder / "log")
    return check_settings(
        {
            "data": {"path": str(folder / "log"), "target": "label", "split": {"by": "request"}},
            "relevance": {"top": 3},
            "stages": {"ranking": {"model": "linear", "quota": 5}},
            "train": {"epochs": 1},
        }
    )


def test_every_model_is_evaluated_at_every_cell_on_the_test_requests(settings, tmp_path):
    losses = ["relaxed_recall", "lambda_recall"]
    found = heatmap(settings, str(tmp_path), losses=losses, m=[5, 2], k=[3, 1])
    assert found.grid == CELLS
    assert [of.loss for of in found.losses] == losses
    assert found.requests == 4
    row = CELLS.index((5, 1))
    _, report = evaluate_run(
        tmp_path / "lambda_recall" / "m-5-k-1" / "fold-0" / "seed-0", settings.data.path
    )
    want = [report.stages["ranking"].metrics[f"recall@{m}@{k}"].mean for m, k in CELLS]
    assert found.losses[1].recall[row] == pytest.approx(want)
    # At the (m, k) of training, the value is the recall of the report of the run.
    assert found.losses[1].recall[row][row] == report.metrics["joint_recall"].mean
    assert json.loads((tmp_path / "heatmap.json").read_text()) == found.to_json()
    assert all(f"`{loss}`" in heatmap_markdown(found) for loss in losses)


def test_seeds_are_averaged_and_runs_are_reused(settings, tmp_path):
    def found(seeds):
        return heatmap(settings, tmp_path, losses=["ranknet"], m=[2], k=[1, 3], seeds=seeds)

    one = np.array(found(1).losses[0].recall)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("report.json")}
    (tmp_path / ".lock").unlink()  # as in a copy without hidden files
    two = np.array(found(2).losses[0].recall)
    assert all(path.stat().st_mtime_ns == time for path, time in made.items())
    second = [
        evaluate_run(tmp_path / "ranknet" / f"m-2-k-{k}" / "fold-0" / "seed-1", settings.data.path)
        for k in (1, 3)
    ]
    of_second = [
        [report.stages["ranking"].metrics[f"recall@2@{k}"].mean for k in (1, 3)]
        for _, report in second
    ]
    np.testing.assert_allclose(two, (one + of_second) / 2)


def test_consistency_is_one_if_proximity_helps_and_minus_one_if_it_hurts():
    cells = [(m, k) for m in (10, 20, 30) for k in (5, 15)]
    at = np.array([(i, j) for i in range(3) for j in range(2)])
    steps = np.abs(at[:, None] - at[None]).sum(-1)
    of_columns = np.linspace(0.1, 0.9, 6)  # the level of a column does not matter
    assert consistency(of_columns - 0.01 * steps, cells) == pytest.approx(1)
    assert consistency(of_columns + 0.01 * steps, cells) == pytest.approx(-1)
    chance = np.random.default_rng(0).normal(size=(200, 6, 6))
    assert abs(np.mean([consistency(one, cells) for one in chance])) < 0.05
    assert np.isnan(consistency(np.full((6, 6), 0.5), cells))


def test_regret_is_the_gap_to_the_best_model_of_a_column(settings, tmp_path):
    found = heatmap(settings, tmp_path, losses=["ranknet"], m=[2], k=[1, 3])
    recall = np.array(found.losses[0].recall)
    lacks = [max(recall[:, j]) - recall[j, j] for j in range(2)]
    assert found.losses[0].regret == pytest.approx(np.mean(lacks))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"losses": []}, "losses of a heat map must be one or more"),
        ({"losses": ["relaxed_recal"]}, "did you mean 'relaxed_recall'"),
        ({"m": [2, 2]}, "m of a heat map must be one or more distinct values"),
        ({"k": [0]}, "must be at least 1"),
    ],
)
def test_invalid_options_are_rejected_before_any_run(settings, tmp_path, options, message):
    asked = {"losses": ["ranknet"], "m": [2], "k": [1], **options}
    with pytest.raises(ConfigError, match=message):
        heatmap(settings, tmp_path / "runs", **asked)
    assert not (tmp_path / "runs").exists()


def test_a_heat_map_requires_one_stage(settings, tmp_path):
    two = settings.changed({"stages.more": {"model": "linear", "quota": 2}})
    with pytest.raises(ConfigError, match="a config with one stage; got 2"):
        heatmap(two, tmp_path / "runs", losses=["ranknet"], m=[2], k=[1])


def test_a_plot_is_drawn_with_an_undefined_consistency():
    pytest.importorskip("matplotlib")
    recall = [[0.5, 0.5], [0.5, 0.5]]
    of = LossMap(loss="ranknet", recall=recall, consistency=float("nan"), regret=0.0)
    found = Heatmap(
        dataset="web", requests=4, folds=1, seeds=1, grid=[(2, 1), (2, 3)], losses=[of, of]
    )
    assert heatmap_png(found).startswith(b"\x89PNG")
    assert heatmap_png(found) == heatmap_png(found)
    assert found.to_json()["losses"][0]["consistency"] is None


def test_the_command_writes_json_markdown_and_a_plot(settings, tmp_path):
    (tmp_path / "config.toml").write_text(settings.to_toml())
    command = ["heatmap", str(tmp_path / "config.toml"), "--run", str(tmp_path / "runs")]
    result = CliRunner().invoke(app, [*command, "--losses", "ranknet", "--m", "2", "--k", "1,3"])
    assert result.exit_code == 0, result.stderr
    assert "trained for    2@1    2@3" in result.stdout
    assert {p.name for p in (tmp_path / "runs").glob("heatmap.*")} >= {"heatmap.json", "heatmap.md"}
    wrong = CliRunner().invoke(app, [*command, "--m", "two"])
    assert wrong.exit_code == 2
    assert "--m takes integers separated by commas" in wrong.stderr
