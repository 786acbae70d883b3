"""The commands: results on stdout, messages on stderr, exit code 2 for user errors."""

import hashlib
import json
import re
import shutil
import sys

import polars as pl
import pytest
from tests.command_line import cascaderank, cascaderank_process

from cascaderank import __version__
from cascaderank.data.log.request_log import RequestLog
from cascaderank.metrics import NAMED

COMMANDS = [
    "demo",
    "prepare",
    "init",
    "check",
    "train",
    "evaluate",
    "score",
    "compare",
    "heatmap",
    "profile",
    "quotas",
    "report",
    "prune",
    "ls",
]


def refused(*words, cwd=None, run=cascaderank):
    done = run(*words, cwd=cwd)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


@pytest.fixture
def config(funnel, settings_for, tmp_path):
    path = tmp_path / "quick.toml"
    path.write_text(settings_for(funnel, train__epochs=2).to_toml())
    return path


@pytest.mark.parametrize("command", [[], *[[c] for c in COMMANDS]])
def test_help_fits_into_80_columns(command):
    done = cascaderank_process(*command, "--help")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "Usage" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_a_short_option(command):
    short, long = cascaderank(command, "-h"), cascaderank(command, "--help")
    assert short.returncode == long.returncode == 0
    assert short.stdout == long.stdout
    assert "Usage" in short.stdout


def test_the_version_is_printed():
    done = cascaderank("--version")
    assert done.returncode == 0
    assert done.stdout == f"cascaderank {__version__}\n"


def test_no_color_is_respected(tmp_path, monkeypatch):
    """A terminal with NO_COLOR receives no colours, in help, errors and tables."""
    for command in (["ls", "--help"], ["ls", "losses"], ["train", tmp_path / "nothing.toml"]):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("NO_COLOR", "1")
        done = cascaderank(*command)
        assert not re.search(r"\x1b\[[\d;]*[34]\d", done.stdout + done.stderr), command


def test_ls_lists_all_components():
    done = cascaderank("ls", "--json")
    shelves = json.loads(done.stdout)
    assert list(shelves) == ["losses", "metrics", "stages", "objectives", "operators", "sources"]
    assert {"bce", "lcron"} <= set(shelves["objectives"])
    assert all(summary for shelf in shelves.values() for summary in shelf.values())
    one = cascaderank("ls", "stages")
    assert "two_tower" in one.stdout
    assert max(map(len, one.stdout.splitlines())) <= 80


def test_ls_describes_one_component():
    done = cascaderank("ls", "stages", "mlp")
    assert "hidden: tuple[int, ...] = (128, 64, 32)" in done.stdout
    assert "widths of the hidden layers" in done.stdout
    letor = json.loads(cascaderank("ls", "sources", "letor", "--json").stdout)
    assert "features" in letor["options"]
    assert "no stage called 'mpl' (did you mean 'mlp'?)" in refused("ls", "stages", "mpl")


def test_every_component_and_named_metric_is_described():
    shelves = json.loads(cascaderank("ls", "--json").stdout)
    assert set(NAMED) < set(shelves["metrics"])
    for shelf, names in shelves.items():
        for name in names:
            done = cascaderank("ls", shelf, name)
            assert done.returncode == 0, done.stderr
            assert len(done.stdout.splitlines()) > 2, (shelf, name)
            widest = max(len(line) for line in done.stdout.splitlines())
            assert widest <= 80 or ">>>" in done.stdout or ".. math" in done.stdout, (shelf, name)
    text = cascaderank("ls", "metrics", "gauc").stdout
    assert "weighted by its number of candidates" in text
    assert ":func:" not in text
    assert "Mean precision at the ranks" in cascaderank("ls", "metrics", "map").stdout
    assert "(did you mean 'gauc'?)" in refused("ls", "metrics", "gauk")


def test_a_kind_that_does_not_exist_is_reported_with_the_nearest():
    assert refused("ls", "metric") == (
        "cascaderank ls: no kind of component called 'metric' (did you mean 'metrics'?); there are "
        "losses, metrics, stages, objectives, operators, sources, recipes, runs\n"
    )
    assert "Value error" not in refused("evaluate", "run", "log", "--part", "tset")


def test_train_then_evaluate(config, funnel, tmp_path):
    trained = cascaderank_process("train", config, "--run", tmp_path / "run")
    assert trained.returncode == 0, trained.stderr
    assert "retrieval" in trained.stdout
    assert "joint recall" in trained.stdout
    assert max(map(len, trained.stdout.splitlines())) <= 80
    assert str(tmp_path / "run") in trained.stderr
    evaluated = cascaderank("evaluate", tmp_path / "run", funnel, "--json")
    found = json.loads(evaluated.stdout)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert found["part"] == "test"
    assert found["metrics"] == report["test"]["metrics"]
    other = cascaderank(
        "evaluate", tmp_path / "run", funnel, "--target", "level", "--threshold", "2", "--json"
    )
    assert json.loads(other.stdout)["metrics"] != found["metrics"]
    whole = json.loads(
        cascaderank("evaluate", tmp_path / "run", funnel, "--part", "all", "--json").stdout
    )
    assert whole["requests"] == 240


def test_train_prints_one_json_object(config, tmp_path):
    done = cascaderank(
        "train", config, "--run", tmp_path / "run", "--json", "--set", "train.seed=4"
    )
    assert json.loads(done.stdout)["test"]["metrics"]["joint_recall"]["mean"] > 0


def test_compare_does_not_train_complete_runs_again(config, tmp_path):
    words = ("compare", config, "--run", tmp_path / "runs", "--seeds", 2, "--objectives")
    first = cascaderank(*words, "bce", "--json")
    baselines = ["random order", "best feature by stage", "rank fusion by stage"]
    assert [m["name"] for m in json.loads(first.stdout)["methods"]] == [*baselines, "bce"]
    before = (tmp_path / "runs/bce/run/fold-0/seed-1/weights.safetensors").stat().st_mtime_ns
    both = cascaderank(*words, "bce,lcron", "--json")
    found = json.loads(both.stdout)
    assert [m["name"] for m in found["methods"]] == [*baselines, "bce", "lcron"]
    after = (tmp_path / "runs/bce/run/fold-0/seed-1/weights.safetensors").stat().st_mtime_ns
    assert before == after
    assert found == json.loads((tmp_path / "runs/comparison.json").read_text())
    table = cascaderank(*words, "bce,lcron")
    assert "lcron" in table.stdout
    assert max(map(len, table.stdout.splitlines())) <= 80


def test_compare_against_another_method_trains_no_run_again(config, tmp_path):
    words = ("compare", config, "--run", tmp_path / "runs", "--seeds", 1)
    assert cascaderank(*words).returncode == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("weights.safetensors")}
    published = ("--set", "compare.published=lcron_table_2")
    done = cascaderank(*words, "--against", "lcron", *published, "--json")
    found = json.loads(done.stdout)
    assert found["reference"] == "lcron"
    assert [m["name"] for m in found["methods"] if m["gain"] is not None] == ["bce"]
    assert found["methods"][-1]["published"] == {"mean": 0.8732, "std": 0.0005}
    assert before
    assert before == {p: p.stat().st_mtime_ns for p in before}
    written = {p.name for p in (tmp_path / "runs").glob("comparison.*")}
    assert written == {f"comparison.{kind}" for kind in ("json", "md", "tex", "png", "svg")}


def test_compare_without_matplotlib_reports_how_to_install_it(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = cascaderank("compare", config, "--run", tmp_path / "runs", "--seeds", 1, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["reference"] == "bce"
    assert "no plot: matplotlib is not installed; run: pip install 'cascaderank[report]'" in (
        done.stderr
    )
    assert not list((tmp_path / "runs").glob("comparison.png"))


def test_demo_shows_the_whole_path(tmp_path):
    done = cascaderank_process(
        "demo", "--run", tmp_path / "demo", "--requests", 300, "--set", "train.epochs=1"
    )
    assert done.returncode == 0, done.stderr
    for word in ("bce", "lcron", "ceiling (planted)", "retrieval", "ranking"):
        assert word in done.stdout
    assert str(tmp_path / "demo") in done.stderr
    assert RequestLog.open(tmp_path / "demo" / "log").manifest.requests == 300


# User errors.


def test_a_missing_folder(config, tmp_path):
    words = ("train", config, "--set", f"data.path={tmp_path / 'nothing'}")
    message = refused(*words, cwd=tmp_path, run=cascaderank_process)
    assert "nothing" in message
    assert not (tmp_path / "runs/quick/weights.safetensors").exists()


def test_a_missing_config(tmp_path):
    assert "cannot be read" in refused("train", tmp_path / "nothing.toml")


def test_a_misspelt_setting(config, tmp_path):
    message = refused("train", config, "--set", "train.epohs=3", cwd=tmp_path)
    assert "unknown setting train.epohs (did you mean 'epochs'?)" in message


def test_quotas_that_grow(config, tmp_path):
    message = refused("train", config, "--set", "stages.ranking.quota=35", cwd=tmp_path)
    assert "never grow; got [30, 35]" in message


def test_a_stage_that_names_an_unknown_feature(config, tmp_path):
    message = refused("train", config, "--set", 'stages.ranking.features=["itm_id"]', cwd=tmp_path)
    assert "stages.ranking" in message
    assert "no feature 'itm_id' (did you mean 'item_id'?)" in message


def test_an_unknown_objective_in_compare(config, tmp_path):
    message = refused("compare", config, "--objectives", "bce,lcorn", cwd=tmp_path)
    assert "no objective called 'lcorn' (did you mean 'lcron'?)" in message


def test_an_unknown_reference_in_compare(config, tmp_path):
    message = refused("compare", config, "--against", "lcorn", cwd=tmp_path)
    assert "got 'lcorn' (did you mean 'lcron'?)" in message
    assert not list(tmp_path.rglob("weights.safetensors"))


def test_a_mistake_in_a_process_of_compare(config, tmp_path):
    (tmp_path / "runs/bce/run/fold-0/seed-0").mkdir(parents=True)
    (tmp_path / "runs/bce/run/fold-0/seed-0/mine.txt").touch()
    message = refused("compare", config, "--run", tmp_path / "runs", "--jobs", 2, "--seeds", 1)
    assert "seed-0: expected the folder of a run, found files and no config.toml" in message


def test_streaming_needs_days(config, tmp_path):
    assert "streaming needs" in refused("compare", config, "--streaming", 2, cwd=tmp_path)


def test_a_run_folder_of_other_settings(config, tmp_path):
    assert cascaderank("train", config, "--run", tmp_path / "run").returncode == 0
    message = refused("train", config, "--run", tmp_path / "run", "--set", "train.seed=9")
    assert "holds a run with other settings" in message


def test_a_log_of_another_schema(config, tmp_path):
    assert cascaderank("train", config, "--run", tmp_path / "run").returncode == 0
    (tmp_path / "q.txt").write_text("1 qid:1 1:0.5 2:1\n0 qid:1 1:0.1 2:2\n")
    made = cascaderank("prepare", "letor", "--from", tmp_path / "q.txt", "--to", tmp_path / "other")
    assert made.returncode == 0, made.stderr
    message = refused("evaluate", tmp_path / "run", tmp_path / "other")
    assert "the schema differs from that of the model" in message


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_a_damaged_log(config, funnel, tmp_path, damage):
    log = tmp_path / "log"
    shutil.copytree(funnel, log)
    part = next(log.rglob("*.parquet"))
    content = part.read_bytes()
    if damage == "truncated":
        part.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        part.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    else:
        part.unlink()
    message = refused("train", config, "--set", f"data.path={log}", "--run", tmp_path / "run")
    assert part.name in message
    assert ("checksum does not match" if damage == "changed" else damage) in message


def shortened(frame, columns):
    lists = [pl.when(pl.int_range(pl.len()) == 3).then(pl.col(c).list.head(n)) for c, n in columns]
    return frame.with_columns(
        new.otherwise(pl.col(c)).alias(c) for new, (c, _) in zip(lists, columns, strict=True)
    )


ITEMS = ["item_id", "category", "quality", "price", "match_2", "gap_2", "level", "position"]

BY_HAND = {
    "lists of unequal length": (
        lambda frame: shortened(frame, [("price", 5)]),
        "lists of unequal length in 1 requests",
    ),
    "a request without candidates": (
        lambda frame: shortened(frame, [(c, 0) for c in ITEMS]),
        "1 requests have no candidates",
    ),
    "numbers that are not": (
        lambda frame: frame.with_columns(
            pl.col("price").list.eval(pl.when(pl.element() > 1).then(float("nan")).otherwise(1.0))
        ),
        "feature 'price': 800 of 800 values are NaN or infinite",
    ),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_an_invalid_log(config, funnel, tmp_path, case):
    change, expected = BY_HAND[case]
    log = tmp_path / "log"
    shutil.copytree(funnel, log)
    manifest = json.loads((log / "manifest.json").read_text())
    first = manifest["parts"][0]
    part = log / first["path"]
    frame = change(pl.read_parquet(part))
    frame.write_parquet(part)
    content, candidates = part.read_bytes(), int(frame["level"].list.len().sum())
    manifest["candidates"] += candidates - first["candidates"]
    first["candidates"] = candidates
    first |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    del manifest["checksum"]
    (log / "manifest.json").write_text(json.dumps(manifest))
    message = refused("train", config, "--set", f"data.path={log}", "--run", tmp_path / "run")
    assert str(log) in message
    assert expected in message


def test_an_empty_log(config, funnel, tmp_path):
    log = tmp_path / "log"
    shutil.copytree(funnel, log)
    manifest = json.loads((log / "manifest.json").read_text())
    manifest |= {"requests": 0, "candidates": 0, "parts": [], "checksum": None}
    (log / "manifest.json").write_text(json.dumps(manifest))
    message = refused("train", config, "--set", f"data.path={log}", "--run", tmp_path / "run")
    assert "the data set is empty" in message


def test_no_such_run(funnel, tmp_path):
    assert "no such folder" in refused("evaluate", tmp_path / "nothing", funnel)


def test_a_folder_that_is_no_run(funnel):
    assert "expected the folder of a run" in refused("evaluate", funnel, funnel)


def test_an_unavailable_device(config, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is available")
    message = refused("train", config, "--set", "train.device=cuda", "--run", tmp_path / "run")
    assert "device 'cuda' is not available here" in message


def test_unknown_options_and_commands_are_reported_in_one_line(config):
    assert "'--seeds'" in refused("compare", config, "--seeds", 0)
    assert "--bogus" in refused("train", config, "--bogus")
    assert "Did you mean 'compare'" in refused("compre", run=cascaderank_process)


def test_help_keeps_the_names_of_tables():
    message = cascaderank("compare", "--help").stdout
    assert "[compare.variants]" in message
    assert "[compare.grid]" in message


def test_a_folder_that_is_not_writable_is_refused(config, tmp_path):
    (tmp_path / "file").write_text("")
    for run in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "not writable" in refused("compare", config, "--run", run)


def test_levels_that_a_log_does_not_have_are_refused(config, tmp_path):
    changes = ("--set", "objective.name=bce", "--set", "objective.entry_levels=[0,9]")
    message = refused("train", config, "--run", tmp_path / "run", *changes)
    assert "objective.entry_levels" in message
    assert "leave the option out" in message


def test_ls_prints_types_as_in_a_config():
    message = cascaderank("ls", "objectives", "lcron").stdout
    assert "temperature: Optional[float | {start, end, shape}] = None" in message
    assert "Annotated" not in message
