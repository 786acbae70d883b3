"""Every command and every line of Python in the README and the first pages does what it says."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cascaderank.settings.run import read_settings
from tests.command_line import cascaderank, cascaderank_process
from tests.serving.http.server_process import serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALLATION = {
    "python3 -m venv .venv",
    "source .venv/bin/activate",
    "python -m pip install -c constraints.txt '.[report,serve]'",
}
"""Commands that no test runs, since they load packages."""


def tool(name):
    """Import a module of tools/, which is no package."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return module


RENEW = tool("renew_readme")
OUTPUTS = {match[2]: match[3] for match in RENEW.QUOTED.finditer(README)}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


CURL = [block for block in blocks("bash") if block.startswith("curl ")]


def commands():
    lines = [
        line.partition("  #")[0].strip()
        for block in blocks("bash")
        if block not in CURL
        for line in block.splitlines()
    ]
    return [line for line in lines if line]


def disagreements(quoted, found):
    """Words and numbers of a quoted output that a run does not have; last digits may differ."""
    pairs = [re.findall(r"[^\s\[\],<]+", text) for text in (quoted, found)]
    if len(pairs[0]) != len(pairs[1]):
        return [f"{len(pairs[0])} words, {len(pairs[1])} in the run"]
    return [f"{a}: {b} in the run" for a, b in zip(*pairs, strict=True) if not _agree(a, b)]


def _agree(a, b):
    try:
        one, two = float(a.rstrip("%")), float(b.rstrip("%"))
    except ValueError:
        return a == b
    return abs(one - two) <= max(0.02, 0.03 * abs(one))


def test_python_runs():
    assert len(blocks("python")) >= 2
    code = "\n".join(blocks("python"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "end_to_end" in done.stdout


@pytest.mark.parametrize("page", ["start.md", "learning_to_rank.md"])
def test_python_of_the_pages_runs(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = [c.split()[1] for c in commands() if c.startswith("make ")]
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{t}:", makefile, flags=re.MULTILINE) for t in targets)


def test_commands_run_in_order_and_print_what_is_quoted(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    own = RENEW.commands(README)
    assert len(own) >= 5
    for command in own:
        done = cascaderank(*shlex.split(command)[1:], cwd=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout or " init " in command, command  # init writes a file
        if command in OUTPUTS:
            found = disagreements(OUTPUTS[command], RENEW.quoted(done.stdout))
            assert not found, f"{command}: run tools/renew_readme.py: {found}"
    test = json.loads((tmp_path / "runs/funnel_two_stage/report.json").read_text())["test"]
    joint = test["metrics"]["joint_recall"]["mean"]
    assert joint > 0.70, "the config promises it"
    # What the text concludes from the numbers, and what the picture shows.
    retrieval, ranking = test["stages"].values()
    assert retrieval["lost"]["mean"] > 2 * ranking["lost"]["mean"]
    gained = retrieval["ceiling_if_perfect"]["mean"] - joint
    promised = re.search(r"alone would raise joint recall by (\.\d+)", README)[1]
    assert abs(gained - float(promised)) < 0.015
    methods = json.loads((tmp_path / "runs/funnel_two_stage-compare/comparison.json").read_text())
    p = next(m["p_holm"] for m in methods["methods"] if m["name"] == "lcron")
    assert p > 0.05, "the text says: no significant difference"
    drawn = RENEW.picture_of(tmp_path / "runs/funnel_two_stage", tmp_path / "datasets/funnel")
    shown = (ROOT / "docs" / "funnel.svg").read_text(encoding="utf-8")
    texts = [" ".join(re.findall(r">([^<>]+)</text>", svg)) for svg in (shown, drawn)]
    assert "8." in texts[0]
    assert not disagreements(*texts), "run tools/renew_readme.py"


@pytest.mark.slow
def test_the_demo_prints_what_is_quoted(tmp_path):
    done = cascaderank_process("demo", cwd=tmp_path, timeout=590)
    found = disagreements(OUTPUTS["cascaderank demo"], RENEW.quoted(done.stdout))
    assert not found, f"run tools/renew_readme.py: {found}"
    check_serving(tmp_path)


def test_a_small_demo_is_served_as_the_text_says(tmp_path):
    small = ["--requests", 600, "--set", "train.epochs=1"]
    assert cascaderank("demo", *small, cwd=tmp_path).returncode == 0
    check_serving(tmp_path)


def check_serving(folder):
    """Run the commands of "Serve it", with a free port, and its request by the real curl."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    export, serve = (shlex.split(c)[1:] for c in RENEW.commands(README, serving=True))
    done = cascaderank(*export, cwd=folder)
    assert done.returncode == 0, done.stderr
    (request,) = CURL
    assert "http://127.0.0.1:8000/" in request, "the default of serve"
    assert serve[0] == "serve"
    with serving(folder / serve[1], *serve[2:]) as server:
        command = shlex.split(request.replace("http://127.0.0.1:8000", server.url))
        answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert answer["bundle"] == "demo"
    assert sorted(item["id"] for item in answer["items"]) == [4, 17, 99]
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    assert [(s["name"], s["came"], s["left"]) for s in answer["stages"]] == [
        ("retrieval", 3, 3),
        ("ranking", 3, 3),
    ]


def test_a_stale_number_is_found():
    text = "lcron  .8502  94%  +.0118  <.001\n[.847, .854]"
    assert not disagreements(text, text.replace(".8502", ".8511"))
    assert disagreements(text, text.replace(".8502", ".7502"))
    assert disagreements(text, text.replace("lcron", "bce"))
    assert disagreements(text, f"{text} .1")


def test_quoted_outputs_are_those_of_commands_and_fit_80_columns():
    assert len(OUTPUTS) == 2
    for command, output in OUTPUTS.items():
        assert command == "cascaderank demo" or command in RENEW.commands(README)
        assert output.strip()
        assert max(map(len, output.splitlines())) <= 80


def test_every_command_is_one_that_is_run():
    other = [c for c in commands() if not c.startswith(("make ", "cascaderank "))]
    assert set(other) == INSTALLATION, "a command that no test runs"
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert re.search(r"^report = \[", pyproject, flags=re.MULTILINE)


def test_blocks_of_commands_work_in_a_new_shell():
    for block in blocks("bash"):
        lines = block.splitlines()
        if any(line.startswith("cascaderank ") for line in lines):
            before = lines[: next(i for i, x in enumerate(lines) if x.startswith("cascaderank "))]
            assert "source .venv/bin/activate" in before, block


def test_results_on_real_data_are_those_that_the_recipes_state():
    """The tables of the README, to two digits, are in the line "Expect" of the recipe."""
    tables = dict(
        re.findall(r"\(configs/(\w+)\.toml\), joint recall:\n\n(.*?)\n\n", README, re.DOTALL)
    )
    assert len(tables) == 2
    for name, table in tables.items():
        path = ROOT / "configs" / f"{name}.toml"
        read_settings(path)
        expected = path.read_text().partition("Expect: ")[2].partition("\n\n")[0]
        rows = [[c.strip(" *") for c in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
        found = {row[0]: float(row[1].split()[0]) for row in rows}
        assert {"random order", "bce", "lcron"} < set(found)
        for method, value in found.items():
            if method in ("bce", "lcron") or method.startswith("ceiling"):
                assert f"{value:.2f}"[1:] in expected, (name, method)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)[^)]*\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_nothing_was_left_to_fill_in():
    assert not re.findall(r"\b[A-Z]+_?TABLES?\b", README)
