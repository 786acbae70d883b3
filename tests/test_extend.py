"""The files of `examples/extend` and the steps of `docs/extend.md` work as the page describes."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.losses import LOSSES
from cascaderank.metrics import METRICS, named_metric
from cascaderank.objectives import build_objective
from cascaderank.stages import STAGES
from tests.conftest import ROOT

EXTEND = ROOT / "examples" / "extend"
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
PLACES = {
    "my_loss.py": "src/cascaderank/losses/hinge.py",
    "my_metric.py": "src/cascaderank/metrics/rbp.py",
    "my_stage.py": "src/cascaderank/stages/bilinear.py",
    "my_source.py": "src/cascaderank/data/sources/sessions.py",
}
"""Place of each example inside the repository."""


def run(*command, folder, path=()):
    """Run Python in a fresh process and return its output."""
    paths = [*map(str, path), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def block(start):
    """Return the fenced block of the page that starts with a text."""
    blocks = re.findall(r"```\w+\n(.*?)```", PAGE, re.DOTALL)
    (text,) = [text for text in blocks if text.lstrip().startswith(start)]
    return text


@pytest.mark.parametrize("file", [*PLACES, "config.toml", "train.py", "pyproject.toml"])
def test_the_page_includes_every_file(file):
    assert (EXTEND / file).is_file()
    assert f'\n--8<-- "examples/extend/{file}"\n' in PAGE


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    """Sixty requests with three candidates each."""
    path = tmp_path_factory.mktemp("csv") / "sessions.csv"
    levels = ("retrieved", "ranked", "shown")
    lines = [
        f"r{i},2024-05-01T{i % 24:02}:00:00Z,u{i % 7},"
        + " ".join(f"{(i + j) % 9}/{levels[(i + j) % 3]}/{j % 2}" for j in range(3))
        for i in range(60)
    ]
    path.write_text("\n".join(["request,time,user,candidates", *lines, ""]))
    return path


def test_a_script_trains_with_its_own_components(csv, tmp_path):
    """The stage is defined in the script itself, and is trained under the name it is given."""
    script = (EXTEND / "train.py").read_text(encoding="utf-8")
    stage = (EXTEND / "my_stage.py").read_text(encoding="utf-8")
    for file in ("my_loss.py", "my_metric.py", "my_source.py", "config.toml"):
        shutil.copy(EXTEND / file, tmp_path)
    (tmp_path / "train.py").write_text(re.sub("import my_stage.*\n", lambda _: stage, script))
    run("-W", "error", "train.py", csv, tmp_path / "out", folder=tmp_path)
    folder = tmp_path / "out" / "run"
    settings, report = (folder / "config.toml").read_text(), (folder / "report.json").read_text()
    assert 'model = "bilinear"' in settings
    assert 'name = "hinge"\nmargin = 0.5' in settings
    metrics = json.loads(report)["test"]["stages"]["retrieval"]["all_candidates"]
    assert 0 <= metrics["rbp(persistence=0.9)@10"]["mean"] <= 1
    terms = [
        line for line in (folder / "metrics.jsonl").read_text().splitlines() if "hinge" in line
    ]
    assert len(terms) == 2, "one line per epoch, with the terms of the objective"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder with the example package, installed by pip without the network."""
    pytest.importorskip("setuptools", minversion="70.1")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for file in (*PLACES, "pyproject.toml"):
        shutil.copy(EXTEND / file, source)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    run("-m", "pip", "install", *options, "--target", target, source, folder=source)
    return target


def cascaderank(*command, installed):
    return run("-m", "cascaderank.cli", *command, folder=installed, path=[installed])


def test_the_command_lists_the_components_of_an_installed_package(installed):
    shelves = json.loads(cascaderank("ls", "--json", installed=installed))
    assert shelves["losses"]["hinge"].startswith("Hinge loss of every pair")
    assert shelves["objectives"]["hinge"].startswith("Hinge loss of every pair")
    assert "rbp" in shelves["metrics"]
    assert "bilinear" in shelves["stages"]
    assert "sessions" in shelves["sources"]


def test_the_command_converts_by_a_source_of_an_installed_package(installed, csv, tmp_path):
    options = ("--from", csv, "--to", tmp_path / "log", "--set", "min_candidates=2", "--json")
    summary = json.loads(cascaderank("prepare", "sessions", *options, installed=installed))
    assert summary["source"] == "sessions"
    assert summary["requests"] == 60


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the repository after the steps of the page."""
    root = tmp_path_factory.mktemp("repository")
    for folder in ("src", "tests", "tools", "docs"):
        skipped = shutil.ignore_patterns("__pycache__", "*.egg-info", "golden")
        shutil.copytree(ROOT / folder, root / folder, ignore=skipped)
    for file in ("mkdocs.yml", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / file, root)
    for file, place in PLACES.items():
        shutil.copy(EXTEND / file, root / place)
    (root / "docs/methods/hinge.md").write_text(block("# hinge"))
    maker = block("def sessions_input")
    for file, before, addition in [
        ("tests/contracts/test_losses.py", "RULES = {\n", block('"margin": Rule')),
        ("tests/contracts/test_objectives.py", "    other = {\n", block('"margin": 2.0')),
        ("tests/contracts/test_sources.py", "MAKERS = {\n", block('"sessions": sessions_input')),
        ("mkdocs.yml", "  - Methods:\n", block("- methods/hinge.md")),
    ]:
        text = (root / file).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{file}: {before}"
        ahead = f"{maker}\n\n" if before.startswith("MAKERS") else ""
        (root / file).write_text(text.replace(before, ahead + before + addition))
    run("tools/generate.py", folder=root)
    return root


def test_the_steps_add_every_component_to_the_generated_files(repository):
    assert "hinge_loss" in (repository / "src/cascaderank/losses/__init__.pyi").read_text()
    assert "Bilinear" in (repository / "src/cascaderank/stages/__init__.pyi").read_text()
    assert "cascaderank.metrics.rbp" in (repository / "docs/api.md").read_text()
    run("tools/generate.py", "--check", folder=repository)


@pytest.mark.slow
def test_the_contracts_of_the_library_hold_for_every_component(repository):
    names = "[hinge or -hinge- or rbp or bilinear or sessions or rule or navigation or search_all"
    tests = ("tests/contracts", "tests/test_pages.py", "tests/objectives/test_any_stages.py")
    options = ("-q", "-x", "-p", "no:cacheprovider", "-k", names)
    output = run("-m", "pytest", *options, *tests, folder=repository, path=[repository / "src"])
    assert int(re.search(r"(\d+) passed", output)[1]) > 150


@pytest.fixture
def examples(monkeypatch):
    """The loss and the metric, registered for the duration of a test."""
    monkeypatch.syspath_prepend(str(EXTEND))
    list(LOSSES), list(METRICS)  # loaded before entries are replaced
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    for name in ("my_loss", "my_metric"):
        importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)


def test_a_loss_of_targets_has_the_ground_truth_of_the_run(monkeypatch):
    """The labels are those of the target, and the loss converts them to 0/1, or to shares."""
    list(LOSSES)  # loaded before entries are replaced
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))
    code = compile(block("from torch import Tensor\n\nimport cascaderank"), "extend.md", "exec")
    exec(code, {"__name__": "brier"})
    scores = torch.tensor([[1.0, 0.0, -2.0, torch.nan]])
    labels = torch.tensor([[131071.0, 7.0, 7.0, torch.nan]])
    mask = torch.tensor([[True, True, True, False]])
    for truth, targets in (
        ({"ground_truth": 2}, (1.0, 0.5, 0.5)),
        ({"threshold": 100.0}, (1.0, 0.0, 0.0)),
    ):
        objective = build_objective("brier", stages=1, quotas=(1,), **truth)
        expected = (scores[0, :3].sigmoid() - torch.tensor(targets)).square().mean()
        torch.testing.assert_close(objective(scores[None], labels, mask=mask).total, expected)


def test_mistakes_have_the_messages_of_the_page(examples):
    def hinge(scores, labels):
        pass

    def bce_loss(scores, labels):
        pass

    bilinear = type("Bilinear", (), {"__module__": "__main__"})
    task = {"stages": 1, "quotas": (1,)}
    mistakes = [
        lambda: STAGES["bilinear"],
        lambda: build_objective("hinge", **task, magrin=1.0),
        lambda: build_objective("hinge", **task, margin="wide"),
        lambda: named_metric("rbp(persistence=1.5)@10"),
        lambda: LOSSES.register(hinge),
        lambda: STAGES.register(bilinear),
        lambda: LOSSES.register(bce_loss),
    ]
    rows = re.findall(r"^\| .* \| `(.*)` \|$", PAGE.partition("\n## Messages")[2], re.MULTILINE)
    for mistake, row in zip(mistakes, rows, strict=False):
        pattern = "^" + re.escape(row).replace(re.escape("..."), ".*") + "$"
        with pytest.raises(ConfigError, match=pattern):
            mistake()
