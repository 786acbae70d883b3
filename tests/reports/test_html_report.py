"""The report page: its numbers are those of the run, it is self-contained, and names are escaped."""

import dataclasses
import json
import re
import shlex
import shutil

import numpy as np
import polars as pl
import pytest

from cascaderank.errors import ConfigError, DataError, MissingExtraError, RunError
from cascaderank.reports import write_report
from cascaderank.reports._html.reported_run import read_run
from cascaderank.reports._html.worst_section import worst_section
from tests.reports.report_pages import HOSTILE, Page, number, small_run, write_log

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("report") / "log")


@pytest.fixture(scope="module")
def run(log, tmp_path_factory):
    return small_run(log, tmp_path_factory.mktemp("report") / "two")


@pytest.fixture(scope="module")
def text(run, tmp_path_factory):
    to = tmp_path_factory.mktemp("report") / "report.html"
    done = write_report([run], to, pictures=to.parent / "pictures")
    assert done.bytes == to.stat().st_size < 6_000_000
    files = sorted(p.name for p in (to.parent / "pictures").iterdir())
    assert len(files) == 2 * done.pictures
    assert {"funnel.png", "funnel.svg", "quotas.png", "slices.svg"} <= set(files)
    return to.read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


@pytest.fixture(scope="module")
def test_part(run):
    return json.loads((run / "report.json").read_text())["test"]


def test_the_first_screen_is_that_of_the_run(page, test_part):
    joint, stages = test_part["metrics"]["joint_recall"], test_part["stages"]
    worst = max(stages, key=lambda name: stages[name]["lost"]["mean"])
    total = sum(stage["lost"]["mean"] for stage in stages.values())
    text = "".join(page.text)
    assert (
        f"{worst} loses most: {number(stages[worst]['lost']['mean'])} of {number(total)}; mending "
        f"it alone would give {number(stages[worst]['ceiling_if_perfect']['mean'])}." in text
    )
    first = text[: text.index("Funnel: what survives")]
    assert f"interval {number(joint['low'])} to {number(joint['high'])}" in first
    share = joint["mean"] / test_part["metrics"]["reachable"]["mean"]
    assert f"{100 * share:.0f} %" in first
    assert "retrieval (linear, keeps 8), then ranking (linear, keeps 5)" in first


def test_funnel_and_attribution_are_those_of_the_run(page, test_part):
    funnel = page.table("Survival of the ground truth by stage")
    potential = page.table("Potential of each stage")
    assert [row["Stage"] for row in funnel] == list(test_part["stages"])
    for row, more, stage in zip(funnel, potential, test_part["stages"].values(), strict=True):
        assert row["Alive after"] == number(stage["survival"]["mean"])
        assert row["Lost here"] == number(stage["lost"]["mean"])
        lost = stage["lost"]
        assert row["Interval 2"] == f"{number(lost['low'])} to {number(lost['high'])}"
        assert more["Joint recall if perfect"] == number(stage["ceiling_if_perfect"]["mean"])
        assert more["Recall alone"] == number(stage["recall"]["mean"])
        assert more["NDCG alone"] == number(stage["ndcg_linear"]["mean"])
    assert [row["Candidates in"] for row in funnel] == ["30", "8"]


def test_the_present_quota_has_the_joint_recall_of_the_run(page, test_part):
    rows = page.table("Joint recall by quota")
    now = [row for row in rows if row["Quota"].endswith("(now)")]
    joint = test_part["metrics"]["joint_recall"]["mean"]
    assert [row["Joint recall"] for row in now] == [number(joint)] * 2


def test_distances_cover_what_was_lost(page, test_part, run):
    values = pl.read_parquet(run / "per_request.parquet")
    for row in page.table("Lost ground truth by the number of ranks below the cut"):
        lost = (values[f"lost/{row['Stage']}"] * values["ground_truth"]).sum()
        assert float(row["Lost"].replace(",", "")) == pytest.approx(lost)


def test_the_planted_weakness_is_first(page):
    """Before it are only slices by the features that the stages score with."""
    rows = page.table("Worst slices first")
    first, *others = [r for r in rows if not r["Slice"].startswith(("late", "price"))]
    assert first["Slice"] == "country = FR"
    assert first["p, Holm"] == "<.001"
    assert first["Lost mostly by"].startswith("retrieval: ")
    assert all(r["p, Holm"] > ".05" for r in others)


def test_worst_requests_are_those_that_lose_most(page, run):
    values = pl.read_parquet(run / "per_request.parquet").with_columns(
        missing=pl.col("ground_truth") * (1 - pl.col("joint_recall"))
    )
    worst = values.sort("missing", descending=True, maintain_order=True)["request_id"][:15]
    rows = page.table("Requests that lose the largest number of good candidates")
    assert [row["Request"] for row in rows] == worst.to_list()
    assert "Row" in rows[0], "ids are not numbers of rows"
    command = shlex.join(["cascaderank", "explain", str(run), "--request", worst[0]])
    assert f"Why candidates of a request were cut: {command}" in "".join(page.text)


def test_rows_are_left_out_where_they_are_the_ids(run):
    reported = read_run(run)
    rows = pl.Series([str(row) for row in reported.test.per_request["row"]])
    section = worst_section(dataclasses.replace(reported, request_ids=rows))
    assert section.tables[0].head[:2] == ("Request", "Ground truth")
    (note,) = section.notes
    assert note.endswith(f"--request {section.tables[0].rows[0][0]}")


def test_epochs_are_those_of_the_run(page, run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = page.table("Terms, weights and validation metrics by epoch")
    for row, line in zip(rows, lines, strict=True):
        for name, value in line["train"].items():
            assert float(row[f"train {name}"]) == pytest.approx(value, abs=1e-4)
        for name, value in line["validation"].items():
            assert float(row[f"validation {name}"]) == pytest.approx(value, abs=1e-4)


def test_data_and_sources_are_named(page, run, log):
    text = "".join(page.text)
    assert json.loads((run / "report.json").read_text())["dataset"]["fingerprint"] in text
    assert f"cascaderank report {run} --to report.html" in text
    assert "[stages.retrieval]" in text or "[stages" in text
    assert {row[""]: row["Value"] for row in page.table("Data")}[
        "Candidates of a test request"
    ] == "30"


def test_names_of_users_are_escaped(page, text):
    assert HOSTILE in "".join(page.text)
    assert "<img" not in text
    assert page.tags["img"] == page.tags["script"] == page.tags["b"] == 0
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_the_page_needs_nothing_else(page, text):
    assert [a for a in page.addresses if not a.startswith("#")] == []
    assert {a[1:] for a in page.addresses} <= set(page.ids)
    assert not re.search(r"@import|url\((?!#)", text)
    urls = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert urls <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }  # names, not files


def test_ids_are_distinct_and_headings_in_order(page):
    assert max(page.ids.values()) == 1
    assert page.headings[:3] == [1, 2, 3]
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert page.tags["main"] == page.tags["h1"] == 1


def test_every_picture_has_a_caption_and_a_table(text):
    for section in re.findall(r"<section.*?</section>", text, flags=re.DOTALL):
        pictures = section.count("<figure>")
        assert section.count("<figcaption") == pictures
        assert section.count('role="img"') == pictures
        assert not pictures or "<table>" in section
        for name in re.findall(r'role="img" aria-labelledby="([^"]+)"', section):
            assert re.search(rf'<figcaption id="{re.escape(name)}">[^<]{{20,}}', section)


def test_pictures_follow_the_colours_of_the_page(text):
    svgs = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--ink)" in svgs
    left = {c.lower() for c in re.findall(r"#[0-9a-fA-F]{6}", svgs)}
    assert not left


def test_equal_runs_have_equal_pages_but_for_times(run, tmp_path, text):
    write_report([run], tmp_path / "again.html")

    def without_cost(content):
        return re.sub(r'<section id="run-cost".*?</section>', "", content, flags=re.DOTALL)

    assert without_cost((tmp_path / "again.html").read_text()) == without_cost(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"stages": 1},
        {"stages": 3},
        {"objective": "bce"},
        {"objective": "cut_likelihood"},
        {"data__split": {"by": "day", "validation_days": 0, "test_days": 1}},
        {"model": "boosted_trees"},
    ],
    ids=str,
)
def test_other_runs_have_reports(changes, log, tmp_path):
    if changes.get("model") == "boosted_trees":
        pytest.importorskip("lightgbm")
    run = small_run(log, tmp_path / "run", **changes)
    done = write_report([run], tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    stages = json.loads((run / "report.json").read_text())["test"]["stages"]
    assert len(page.table("Potential of each stage")) == len(stages)
    (verdict,) = done.chapters.values()
    assert verdict.endswith(".")
    text = "".join(page.text)
    if changes.get("objective") == "bce":
        assert "The objective bce has no survival probability." in text
    if "data__split" in changes:
        assert "there are no validation requests" in text


def test_runs_with_the_same_last_folder_have_different_names(run, tmp_path):
    folders = [tmp_path / name / "seed-0" for name in ("lcron", "mine")]
    for folder in folders:
        shutil.copytree(run, folder)
    done = write_report(folders, tmp_path / "report.html", with_data=False)
    assert list(done.chapters) == ["2 runs", "1. lcron", "2. lcron, mine"]
    rows = Page((tmp_path / "report.html").read_text()).table("Runs")
    assert [row["Run"] for row in rows] == ["1. lcron", "2. lcron, mine"]


def test_several_runs_are_side_by_side(run, log, tmp_path):
    other = small_run(log, tmp_path / "other", train__seed=1, train__epochs=1)
    done = write_report([run, other], tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    title, *names = done.chapters
    assert title == "2 runs"
    assert [re.sub(", .*/", ", ", name) for name in names] == ["1. lcron, two", "2. lcron, other"]
    rows = page.table("Runs")
    recalls = [
        json.loads((r / "report.json").read_text())["test"]["metrics"]["joint_recall"]["mean"]
        for r in (run, other)
    ]
    assert [row["Joint recall"] for row in rows] == [number(x) for x in recalls]
    assert float(rows[1]["Gain over the first"]) == pytest.approx(recalls[1] - recalls[0], abs=6e-4)
    assert max(page.ids.values()) == 1


def test_a_report_without_the_data_set(run, tmp_path):
    write_report([run], tmp_path / "report.html", with_data=False)
    page = Page((tmp_path / "report.html").read_text())
    assert "Potential of each stage" in page.tables
    assert "Joint recall by quota" not in page.tables


def test_a_sample_of_the_requests_is_said(run, tmp_path):
    write_report([run], tmp_path / "report.html", most_requests=30)
    text = "".join(Page((tmp_path / "report.html").read_text()).text)
    assert re.search(r"are over 30 of \d+ test requests", text)


def test_what_is_no_run_is_refused(run, log, tmp_path):
    (tmp_path / "empty").mkdir()
    to = tmp_path / "report.html"
    with pytest.raises(
        RunError, match=r"empty: no weights.safetensors, so the run is not complete"
    ):
        write_report([tmp_path / "empty"], to)
    with pytest.raises(RunError, match="nothing: no such folder"):
        write_report([tmp_path / "nothing"], to)
    with pytest.raises(RunError, match=r"found files and no config\.toml"):
        write_report([log], to)
    with pytest.raises(ConfigError, match="two is given twice"):
        write_report([run, run], to)
    with pytest.raises(ConfigError, match="expected the folder of a run or of a comparison"):
        write_report([], to)
    assert not to.exists()


def test_another_data_set_is_refused(run, tmp_path):
    other = write_log(tmp_path / "other", requests=40, seed=5)
    with pytest.raises(DataError, match=r"was trained on shop .*is another data set.*--data"):
        write_report([run], tmp_path / "report.html", dataset=other)
    with pytest.raises(DataError, match=r"the data set of the run:.*--no-data"):
        write_report([run], tmp_path / "report.html", dataset=tmp_path / "absent")
    with pytest.raises(ConfigError, match="leave one of both out"):
        write_report([run], tmp_path / "report.html", dataset=other, with_data=False)


def test_an_existing_file_is_kept(run, tmp_path):
    to = tmp_path / "report.html"
    to.write_text("mine")
    with pytest.raises(ConfigError, match=r"report.html exists; choose another file, or add"):
        write_report([run], to)
    assert to.read_text() == "mine"
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "funnel.png").write_text("mine")
    with pytest.raises(ConfigError, match=r"funnel.png exists"):
        write_report([run], tmp_path / "new.html", pictures=tmp_path / "pictures")
    assert not (tmp_path / "new.html").exists()


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_without_the_extra_it_is_named(run, tmp_path, monkeypatch, module):
    import sys

    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingExtraError, match=rf"{module} is not installed.*cascaderank\[report\]"
    ):
        write_report([run], tmp_path / "report.html")


def test_shifts_and_unknown_values_of_the_test_day_are_warnings(tmp_path):
    days = {"by": "day", "validation_days": 1, "test_days": 1}
    for shift in (0.0, 2.0):
        log = write_log(tmp_path / f"log {shift}", requests=200, shift=shift, weak=False)
        run = small_run(log, tmp_path / f"run {shift}", data__split=days)
        write_report([run], tmp_path / f"{shift}.html")
        page = Page((tmp_path / f"{shift}.html").read_text())
        text = "".join(page.text)
        rows = page.table("Features in training and test, largest shift first")
        found = {row["Feature"]: row for row in rows}
        assert ("price differs between training and test" in text) == bool(shift)
        assert (f"{HOSTILE}: 50 % of the test values are unknown or missing" in text) == bool(shift)
        assert found[HOSTILE]["in test"] == ("50.0 %" if shift else "0.0 %")
        assert float(found["country"]["Stability index"]) < 0.1


def test_slices_of_a_log_without_weakness_are_not_flagged(tmp_path):
    log = write_log(tmp_path / "log", weak=False, requests=300, seed=2)
    run = small_run(log, tmp_path / "run")
    write_report([run], tmp_path / "report.html")
    rows = Page((tmp_path / "report.html").read_text()).table("Worst slices first")
    assert not [
        r for r in rows if r["Slice"].startswith(("country", HOSTILE)) and r["p, Holm"] < ".05"
    ]
    assert np.isfinite(float(rows[0]["Joint recall"]))
