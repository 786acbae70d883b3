"""The benchmarks run and print their tables; the measured times are not tested."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "run.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        timeout=240,
        check=False,
    )


@pytest.fixture
def modules(monkeypatch):
    """Makes the modules of the benchmarks importable."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.mark.usefixtures("modules")
def test_top_k_prints_a_table(capsys):
    from measuring import Bench
    from run import measured
    from tables import text

    lines = text(measured("top_k", Bench(1, 0.0, 0.002, True, False))[0]).splitlines()
    assert max(map(len, lines)) <= 100
    header = next(i for i, line in enumerate(lines) if line.startswith("what"))
    columns = ["what", "size", "type", "th", "beside", "ours ms", "theirs", "ratio", "MiB"]
    assert re.split(r"\s{2,}", lines[header]) == columns
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[header + 1 :]]
    assert len(rows) >= 10
    for what, size, dtype, threads, beside, *times in rows:
        assert re.fullmatch(r"(\d x )?[\d,]+ x [\d,]+", size), what
        assert (dtype, threads) == ("f32", "1")
        if times == ["not installed"]:
            assert beside.removesuffix(" ≠") in ("diffsort", "torchsort")
            continue
        ours, theirs, ratio, _ = times
        assert all(float(one.replace(",", "")) > 0 for one in (ours, theirs)), what
        assert re.fullmatch(r"[\d.,]+x", ratio)
    assert "beside formula" in capsys.readouterr().err, "progress is written to stderr"


def test_json_has_rates_and_floors():
    done = run("--quick", "--scale", "0.002", "--only", "floor", "--json")
    assert done.returncode == 0, done.stderr
    floor = json.loads(done.stdout)["floor"]
    assert all(rate > 0 for rate in floor["rates"].values())
    assert {"what", "size", "ours", "bytes", "milliseconds"} <= floor["rows"][0].keys()


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("words", [("--only", "top_k,stepp"), ("--only", "step", "--page", "x.md")])
def test_invalid_options_are_refused(words, monkeypatch, capsys):
    from run import parsed

    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    with pytest.raises(SystemExit) as caught:
        parsed()
    assert caught.value.code == 2
    assert re.search("no group 'stepp'; there are top_k|takes all groups", capsys.readouterr().err)


@pytest.mark.usefixtures("modules")
def test_growth_is_a_power():
    from growth import Point, Series
    from measuring import Row

    row = Row("", "")
    points = tuple(Point(size, 0.5 * size**1.5, row) for size in (10, 100, 1000))
    assert Series("", "", "1", "list", points).exponent == pytest.approx(1.5)


@pytest.mark.usefixtures("modules")
def test_a_page_keeps_its_other_parts(tmp_path):
    from measuring import Row
    from tables import MEASURED, markdown, row_table, write

    page = tmp_path / "performance.md"
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    page.write_text(text, encoding="utf-8")
    rows = [
        Row("this", "2 x 3", "that", ours=2.0, other=5.0),
        Row("this", "2 x 3", "missing"),
    ]
    write(page, MEASURED, "measured by hand", [markdown(row_table("Top k", rows))])
    written = page.read_text(encoding="utf-8")
    begin, end = text.index("<!-- measured"), text.index("<!-- end of")
    assert written.startswith(text[:begin])
    assert written.endswith(text[end:])
    assert "| this | 2 x 3 | f32 | 1 |" in written
    assert "| that | 2.00 | 5.00 | 2.50x |" in written
    assert "| missing | not installed |  |  |  |" in written
    write(page, MEASURED, "measured by hand", [markdown(row_table("Top k", rows))])
    assert page.read_text(encoding="utf-8") == written


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("name", ["cut_likelihood", "conditional_survival"])
def test_losses_with_thresholds_agree_with_bisection(name):
    from cuts import cut_pair

    theirs, ours = (gradient() for gradient in cut_pair(name, 20, 40, beside="bisection"))
    assert theirs.abs().max() > 0
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("modules")
def test_both_parts_of_the_page_are_there_once():
    from tables import MEASURED, SERVED

    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    places = [text.index(line) for part in (MEASURED, SERVED) for line in part]
    assert places == sorted(places)
    assert all(text.count(line) == 1 for part in (MEASURED, SERVED) for line in part)
