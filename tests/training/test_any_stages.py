"""The same code trains one to four stages, also with an objective of another distribution."""

import os
import subprocess
import sys

import pytest

from cascaderank.settings.run import check_settings
from cascaderank.training.train_run import train_run

PLUGIN = '''
from functools import partial

from cascaderank.objectives import OBJECTIVES, Objective, Term


def squared(inputs, stage, strength):
    scores = inputs.scores[stage].masked_fill(~inputs.mask, 0.0)
    return strength * (scores - inputs.labels).masked_fill(~inputs.mask, 0.0).square().mean()


@OBJECTIVES.register
def squares_objective(*, stages: tuple[str, ...], strength: float = 1.0) -> Objective:
    """Squared distance of scores from labels."""
    terms = [
        Term(f"squares/{name}", partial(squared, stage=t, strength=strength), stage=t)
        for t, name in enumerate(stages)
    ]
    return Objective(terms, stages=len(stages))
'''


def settings_of(log, stages, **train):
    quotas = (30, 25, 20, 15)
    return check_settings(
        {
            "data": {"path": str(log), "split": {"by": "request", "seed": 1}},
            "relevance": {"top": 10},
            "stages": {
                f"stage_{t}": {"model": "linear", "quota": quotas[t]} for t in range(stages)
            },
            "train": {"epochs": 1, "batch_size": 32, **train},
            "evaluation": {"bootstrap": 20},
        }
    )


@pytest.mark.parametrize("schedule", ["joint", "sequential"])
@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_any_number_of_stages_is_trained(funnel, tmp_path, stages, schedule):
    result = train_run(settings_of(funnel, stages, schedule=schedule), tmp_path / "run")
    assert list(result.test.stages) == [f"stage_{t}" for t in range(stages)]
    assert 0 < result.test.metrics["joint_recall"].mean <= 1


def test_an_objective_of_another_distribution_is_trained_by_the_command(funnel, tmp_path):
    site = tmp_path / "site"
    described = site / "cascade_squares-1.0.dist-info"
    described.mkdir(parents=True)
    (site / "cascade_squares.py").write_text(PLUGIN)
    (described / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: cascade-squares\nVersion: 1.0\n"
    )
    (described / "entry_points.txt").write_text(
        "[cascaderank.objectives]\nsquares = cascade_squares\n"
    )
    config = tmp_path / "run.toml"
    config.write_text(settings_of(funnel, 2).to_toml())
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])

    def train(*changes):
        words = [w for change in changes for w in ("--set", change)]
        run = ["train", str(config), "--run", str(tmp_path / "run"), *words]
        return subprocess.run(
            [sys.executable, "-m", "cascaderank.cli", *run],
            capture_output=True,
            text=True,
            timeout=200,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )

    done = train("objective.name=squares", "objective.strength=0.5")
    assert done.returncode == 0, done.stderr
    assert "squares/stage_1" in (tmp_path / "run" / "metrics.jsonl").read_text()
    wrong = train("objective.name=squares", "objective.stregth=0.5")
    assert wrong.returncode == 2
    assert "objective 'squares' has no option 'stregth' (did you mean 'strength'?)" in wrong.stderr
