"""Every command and every line of Python in the README and the first pages does what it says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import cascaderank

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands():
    lines = [
        line.partition("#")[0].strip() for block in blocks("bash") for line in block.splitlines()
    ]
    return [line for line in lines if line]


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


def test_commands_run_in_order(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    own = [c for c in commands() if c.startswith("cascaderank ")]
    assert len(own) >= 5
    for command in own:
        done = cascaderank(*command.split()[1:], cwd=tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout, command
    report = json.loads((tmp_path / "runs/funnel_two_stage/report.json").read_text())
    assert report["test"]["metrics"]["joint_recall"]["mean"] > 0.70, "the config promises it"


def test_every_command_is_one_that_is_run():
    other = [c for c in commands() if not c.startswith(("make ", "cascaderank "))]
    assert not other, "a command that no test runs"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_nothing_was_left_to_fill_in():
    assert not re.findall(r"\b[A-Z]+_TABLES?\b", README)
