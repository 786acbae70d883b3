"""``cascaderank report``: verdicts on stdout, one HTML file, and mistakes in one line."""

import json

import pytest
from tests.command_line import cascaderank
from tests.reports.report_pages import Page, number, small_run, write_log

from cascaderank.experiments.compare import compare

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return small_run(write_log(folder / "log", requests=120), folder / "run")


@pytest.fixture(scope="module")
def comparison(funnel, tmp_path_factory):
    """A comparison with a grid of two axes, two seeds and a scorer that is no cascade."""
    from cascaderank.settings.run import check_settings

    settings = check_settings(
        {
            "data": {"path": str(funnel), "split": {"by": "request", "seed": 1, "test": 0.4}},
            "relevance": {"top": 10},
            "stages": {
                "retrieval": {"model": "linear", "quota": 30},
                "ranking": {"model": "linear", "quota": 20},
            },
            "train": {"epochs": 2, "batch_size": 32},
            "evaluation": {"bootstrap": 50},
            "compare": {
                "objectives": ["bce", "lcron"],
                "seeds": 2,
                "baselines": ["random"],
                "tuning": {"extend": 0},
                "grid": {
                    "lcron": {
                        "train.learning_rate": [0.01, 0.1],
                        "objective.temperature": [20.0, 50.0],
                    }
                },
            },
        }
    )
    folder = tmp_path_factory.mktemp("comparison") / "runs"
    compare(settings, folder)
    return folder


def test_verdicts_are_printed_and_the_file_is_written(run, tmp_path):
    done = cascaderank("report", str(run), "--to", "report.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "loses most" in done.stdout
    assert done.stderr.startswith("wrote report.html, 0.")
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_json_has_verdicts_and_files(run, tmp_path):
    words = [
        "--to",
        "report.html",
        "--json",
        "--no-data",
        "--pictures",
        "pictures",
        "--title",
        "Shop",
    ]
    done = cascaderank("report", str(run), *words, cwd=tmp_path)
    result = json.loads(done.stdout)
    assert result["to"] == "report.html"
    assert result["bytes"] == (tmp_path / "report.html").stat().st_size
    assert len(list((tmp_path / "pictures").iterdir())) == 2 * result["pictures"]
    assert "<title>Shop</title>" in (tmp_path / "report.html").read_text()


def _runs(comparison, method):
    chosen = method["tuning"][0]["chosen"]
    point = "_".join(f"{k.rpartition('.')[2]}={v}" for k, v in chosen.items()) or "run"
    return [
        comparison / method["name"] / point / "fold-0" / f"seed-{s}" / "report.json" for s in (0, 1)
    ]


def test_a_comparison_has_its_numbers_and_a_run_in_detail(comparison, tmp_path):
    done = cascaderank("report", str(comparison), "--to", "report.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = Page((tmp_path / "report.html").read_text())
    found = json.loads((comparison / "comparison.json").read_text())
    methods = {m["name"]: m for m in found["methods"]}
    rows = page.table("Joint recall and gain by method")
    assert [row["Joint recall"] for row in rows] == sorted(
        (number(m["joint_recall"]) for m in methods.values()), reverse=True
    )
    by_name = {row["Method"].removesuffix(" (reference)"): row for row in rows}
    assert by_name["lcron"]["Gain"] == number(methods["lcron"]["gain"], sign="+")
    assert by_name["bce"]["Gain"] == "-"
    for row in page.table("Stages by method"):
        m = methods[row["Method"]]
        assert row["Alive after"] == number(m["stage_survival"][row["Stage"]])
        assert row["Recall alone"] == number(m["stage_recall"][row["Stage"]])
    tried = methods["lcron"]["tuning"][0]["tried"]
    points = page.table("Validation recall by point")
    assert [row["Validation recall"] for row in points] == [
        number(x, places=4) for x in sorted((t["validation"] for t in tried), reverse=True)
    ]
    assert any(caption.startswith("Gain by slice") for caption in page.tables)
    best = max((m for m in methods.values() if m["trained"]), key=lambda m: m["joint_recall"])
    text = "".join(page.text)
    assert f"In detail: {best['name']}/" in text
    reports = [json.loads(p.read_text()) for p in _runs(comparison, best)]
    alive = [1.0, *best["stage_survival"].values()]
    lost = {s: a - b for s, a, b in zip(best["stage_survival"], alive, alive[1:], strict=False)}
    worst = max(lost, key=lost.get)
    mended = [r["test"]["stages"][worst]["ceiling_if_perfect"]["mean"] for r in reports]
    assert len(mended) == 2
    assert (
        f"With {best['name']}, {worst} loses most: {number(lost[worst])} of "
        f"{number(sum(lost.values()))}; mending it alone would give "
        f"{number(sum(mended) / 2)}." in text
    )
    assert "Potential of each stage" in page.tables
    assert max(page.ids.values()) == 1


def test_mistakes_are_one_line(run, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    for words, message in {
        (
            str(run),
            "--to",
            "report.html",
        ): "report.html exists; choose another file, or add --overwrite",
        (str(run), "--to", "."): ".: expected a file, found a folder",
        (
            str(run),
            "--to",
            "a.html",
            "--data",
            "absent",
        ): "the data set of the run: absent: no such folder",
        (str(run), "--to", "a.html", "--requests", "0"): "--requests",
        (str(tmp_path), "--to", "a.html"): "found files and no config.toml",
        ("absent", "--to", "a.html"): "absent: no such folder",
        (str(run),): "Missing option '--to'",
    }.items():
        done = cascaderank("report", *words, cwd=tmp_path)
        assert done.returncode == 2, words
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert message in line, line
    assert (tmp_path / "report.html").read_text() == "mine"


def test_a_damaged_comparison_is_named(tmp_path):
    (tmp_path / "comparison.json").write_text('{"dataset": "shop"}')
    done = cascaderank("report", str(tmp_path), "--to", "report.html", cwd=tmp_path)
    assert done.returncode == 2
    assert "comparison.json: not a file of a run: requests: Field required" in done.stderr


def test_a_comparison_without_its_data_set_says_what_to_do(comparison, tmp_path):
    import shutil

    copy = shutil.copytree(comparison, tmp_path / "copy")
    done = cascaderank("report", str(copy), "--to", "a.html", "--data", "absent", cwd=tmp_path)
    assert done.returncode == 2
    assert "--no-data" in done.stderr
    done = cascaderank("report", str(copy), "--to", "a.html", "--no-data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
