"""The tables of mutants fit the source that they change, and the script counts what it kills."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLES = sorted((ROOT / "tools" / "mutants").glob("*.toml"))


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        import mutants

        yield mutants


def exists(target):
    """Whether the file of a test exists and, if the target names a function, holds it."""
    path, _, function = target.partition("::")
    return (ROOT / path).exists() and f"def {function}" in (ROOT / path).read_text()


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_every_mutant_applies(tool, table):
    mutants = tool.read_mutants(table)
    assert mutants
    problems = []
    for number, mutant in enumerate(mutants, 1):
        try:
            mutant.apply(ROOT)
        except ValueError as error:
            problems.append(f"{number}: {error}")
        problems.extend(f"{number}: no test {t}" for t in mutant.tests if not exists(t))
        assert mutant.tests
        assert mutant.why
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"old": "three"}, "found 0"),
        ({"old": "x"}, "found 2"),
        ({"new": "x = 1"}, "new equals old"),
        ({"new": "x = ("}, "does not parse"),
    ],
)
def test_a_mutant_that_does_not_apply_is_an_error(tool, tmp_path, change, message):
    (tmp_path / "source.py").write_text("x = 1\nx += 1\n")
    mutant = {"file": "source.py", "old": "x = 1", "new": "x = 2", "tests": ["t.py"], "why": "w"}
    with pytest.raises(ValueError, match=message):
        tool.Mutant(**{**mutant, **change}).apply(tmp_path)


TABLE = """
[[mutant]]
file = "src/source.py"
old = "a + b"
new = "a - b"
tests = ["test_source.py"]
why = "the wrong sign"

[[mutant]]
file = "src/source.py"
old = "a * b"
new = "a / b"
tests = ["test_source.py"]
why = "a function without a test"
"""


def test_the_script_tells_killed_from_survived(tmp_path):
    (tmp_path / "tools").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    script = tmp_path / "tools" / "mutants.py"
    script.write_text((ROOT / "tools" / "mutants.py").read_text())
    (tmp_path / "table.toml").write_text(TABLE)
    source = tmp_path / "src" / "source.py"
    content = "def add(a, b):\n    return a + b\n\n\ndef times(a, b):\n    return a * b\n"
    source.write_text(content)
    test = tmp_path / "test_source.py"
    test.write_text("import source\n\n\ndef test_add():\n    assert source.add(1, 2) == 3\n")

    def run(*options):
        command = [sys.executable, str(script), str(tmp_path / "table.toml"), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 1, done.stderr
    first, second, rate = done.stdout.splitlines()
    assert first.split()[:2] == ["1", "killed"]
    assert second.split()[:2] == ["2", "survived"]
    assert rate == "1 of 2 killed (50 %)"
    assert run("--only", "1").returncode == 0
    assert source.read_text() == content, "the repository itself is never changed"
    test.write_text("def test_nothing():\n    assert False\n")
    done = run()
    assert (done.returncode, done.stdout.split()[:4]) == (2, ["the", "tests", "fail", "without"])
