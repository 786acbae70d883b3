"""Every recipe says how it is run, is checked without a mistake, and runs."""

import shlex
from itertools import pairwise

import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.experiments.compare import compare
from cascaderank.settings.files import parsed_change
from cascaderank.settings.run import read_settings
from cascaderank.stages import STAGES
from tests.conftest import ROOT

SIMULATIONS = ROOT / "configs" / "simulation"  # no runs: see tests/cli/test_simulate.py
RECIPES = [p for p in sorted((ROOT / "configs").rglob("*.toml")) if SIMULATIONS not in p.parents]
NAMES = [str(path.relative_to(ROOT)) for path in RECIPES]


def header(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line[1:].strip() for line in lines[: lines.index("")]]


def commands(path):
    return [shlex.split(line) for line in header(path) if line.startswith("cascaderank ")]


def funnels():
    found = {}
    for path, name in zip(RECIPES, NAMES, strict=True):
        made = [c for c in commands(path) if c[1:3] == ["prepare", "synthetic"]]
        if made:
            found[name] = made[0]
    return found


def is_chain(command):
    """Whether the log has all candidates, and the truth about them in the place of an order."""
    return any(option.startswith("chain=") for option in command)


CHAINS = {name: command for name, command in funnels().items() if is_chain(command)}
FUNNELS = {name: command for name, command in funnels().items() if name not in CHAINS}


@pytest.fixture(scope="module")
def small_log(tmp_path_factory):
    """Makes the log that a recipe asks for, with few requests; each once."""
    made = {}

    def log_of(command):
        options = dict(parsed_change(c) for o, c in pairwise(command) if o == "--set")
        key = tuple(sorted(options.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("logs") / "log"
            SOURCES["synthetic"](None, made[key], **{**options, "requests": 60, "users": 20})
        return made[key]

    return log_of


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_tells_how_it_is_run_and_what_to_expect(name):
    path = ROOT / name
    assert path.read_text(encoding="utf-8").isascii()
    assert any(line.startswith("Expect: ") for line in header(path))
    words = commands(path)
    assert [c for c in words if c[1] in {"train", "compare"} and c[2] == name]
    prepared = [c[c.index("--to") + 1] for c in words if c[1] in {"prepare", "simulate"}]
    assert str(read_settings(path).data.path) in prepared


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.toml")), ids=lambda p: p.stem)
def test_a_recipe_reads_data_that_any_reader_can_get(path):
    """No folder of one machine: the page of data sets has the commands, the licence is named."""
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    text = " ".join(header(path))
    for command in commands(path):
        if "--from" in command:
            source = command[command.index("--from") + 1]
            assert source.startswith("downloads/")
            assert source in page or source == "downloads/RecFlow"
            assert "docs/datasets.md" in text or "docs/recflow.md" in text


def test_the_recipes_of_synthetic_funnels_are_found():
    assert {"configs/funnel_two_stage.toml", "configs/funnel_three_stage.toml"} < set(FUNNELS)


@pytest.mark.parametrize("name", FUNNELS)
def test_a_stage_of_a_funnel_sees_no_more_than_was_planted_for_it(name, small_log):
    log = RequestLog.open(small_log(FUNNELS[name]))
    planted = log.manifest.extra["planted"]
    settings = read_settings(ROOT / name)
    assert planted["quotas"] == list(settings.quotas)
    assert planted["ground_truth"] == settings.relevance.top
    for own, stage in zip(planted["stages"], settings.stages.values(), strict=True):
        left_out = ("user_id", "item_id") if stage.model == "boosted_trees" else ()
        expected = [name for name in own["features"] if name not in left_out]
        assert [f.name for f in log.schema.select(stage.features)] == expected


@pytest.mark.parametrize("name", FUNNELS)
def test_a_recipe_runs(name, small_log, tmp_path):
    small = ["train.epochs=1", "train.batch_size=32", "compare.seeds=1", "evaluation.bootstrap=2"]
    small += [
        f"stages.{n}.hidden=[4]"
        for n, stage in read_settings(ROOT / name).stages.items()
        if "hidden" in STAGES.options(stage.model)
    ]
    small += [f"data.path={small_log(FUNNELS[name])}", "compare.tuning.trials=1"]
    small += ["compare.tuning.extend=0", "compare.jobs=1"]
    settings = read_settings(ROOT / name, small)
    result = compare(settings, tmp_path / "runs")
    methods = {method.name: method for method in result.methods}
    trained = settings.compare.objectives
    assert len(methods) == len(trained) + len(settings.compare.baselines)
    assert set(trained) < set(methods)
    assert all(0 <= method.joint_recall <= 1 for method in methods.values())
    # The planted ceiling is that of stages with all their features; trees leave ids out.
    trees = any(stage.model == "boosted_trees" for stage in settings.stages.values())
    assert result.ceiling_kind == ("quotas" if trees else "planted")


@pytest.mark.parametrize("name", CHAINS)
def test_a_recipe_that_is_judged_by_the_truth_runs(name, small_log, tmp_path):
    small = ["train.epochs=1", "train.batch_size=16", "compare.seeds=1", "evaluation.bootstrap=2"]
    small += [f"data.path={small_log(CHAINS[name])}", "compare.jobs=1"]
    settings = read_settings(ROOT / name, small)
    result = compare(settings, tmp_path / "runs")
    for method in result.methods:
        found = {v.metric: v.mean for v in method.stage_metrics if v.stage == "preranking"}
        assert set(found) == set(settings.evaluation.metrics)
        assert -1 < found["bias"] < 1
        assert abs(found["bias"]) <= found["absolute_error"] < 1


def test_recipes_that_are_judged_by_the_truth_are_found():
    names = ("exposure", "click", "l0")
    assert {f"configs/ecm_funnel/{name}.toml" for name in names} <= set(CHAINS)
