"""Results as frames, as HTML that notebooks show, and as plots on axes of the caller."""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import polars as pl
import pytest
from torch import nn

from cascaderank.cascade import Cascade
from cascaderank.errors import ConfigError, MissingExtraError
from cascaderank.evaluation.report import STAGE_METRICS, Report
from cascaderank.experiments.heatmap import Heatmap, LossMap
from cascaderank.html_tables import html_table
from cascaderank.reports import plot_heatmap, plot_joint_recall, plot_survival, plot_tradeoff
from cascaderank.training.train_run import train_run
from tests.reports.test_comparison_files import comparison  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def report(funnel, tmp_path_factory):
    from cascaderank.settings.run import check_settings

    stages = {
        name: {"model": "linear", "quota": quota}
        for name, quota in (("<b>retrieval", 30), ("ranking", 20))
    }
    settings = check_settings(
        {
            "data": {"path": str(funnel)},
            "relevance": {"top": 10},
            "stages": stages,
            "objective": {"name": "bce"},
            "train": {"epochs": 1},
            "evaluation": {"bootstrap": 50, "metrics": ["precision@5"]},
        }
    )
    return train_run(settings, tmp_path_factory.mktemp("runs") / "run").test


def test_a_report_as_a_frame(report):
    frame = report.frame()
    assert frame.columns == ["stage", "metric", "mean", "low", "high", "requests", "undefined"]
    recall = frame.row(
        by_predicate=pl.col("stage").is_null() & (pl.col("metric") == "joint_recall")
    )
    expected = report.metrics["joint_recall"]
    assert recall[2:5] == (expected.mean, expected.low, expected.high)
    of_stage = frame.filter(pl.col("stage") == "ranking")
    known = {n for n in STAGE_METRICS if getattr(report.stages["ranking"], n) is not None}
    assert set(of_stage["metric"]) == known | {"all_candidates/precision@5"}
    lost = of_stage.row(by_predicate=pl.col("metric") == "lost", named=True)
    assert lost["mean"] == report.stages["ranking"].lost.mean
    assert frame.to_pandas().shape == frame.shape


def test_undefined_values_are_null(report):
    undefined = replace(report.metrics["joint_recall"], mean=math.nan)
    frame = replace(report, metrics={"joint_recall": undefined}, stages={}).frame()
    assert frame["mean"].to_list() == [None]


def test_values_per_request_as_a_frame(report):
    frame = report.per_request_frame()
    assert frame.height == report.requests
    assert frame["joint_recall"].mean() == pytest.approx(report.metrics["joint_recall"].mean)
    with pytest.raises(ConfigError, match="found none, as in a report from JSON"):
        Report.from_json(report.to_json()).per_request_frame()


def parsed(html):
    return ET.fromstring(f"<div>{html}</div>")  # raises for text that is not escaped


def cells(html):
    return [[c.text or "" for c in row] for row in parsed(html).iter("tr")]


def test_html_of_a_report(report):
    rows = cells(report._repr_html_())
    assert ["joint_recall", f"{report.metrics['joint_recall'].mean:.4f}"] in [r[:2] for r in rows]
    assert ["<b>retrieval", "30"] in [row[:2] for row in rows]
    both = replace(report, k=5, threshold=2.0)._repr_html_()
    assert "the top 5 by label among labels of at least 2" in both
    assert "labels of at least 2" in replace(report, k=None, threshold=2.0)._repr_html_()


def test_html_of_a_cascade():
    cascade = Cascade({"a & b": nn.Linear(3, 1), "last": nn.Linear(999, 2)}, (20, 10))
    assert cells(cascade._repr_html_()) == [
        ["stage", "model", "keeps", "parameters"],
        ["a & b", "Linear", "20", "4"],
        ["last", "Linear", "10", "2,000"],
    ]


def test_html_of_a_comparison(comparison):  # noqa: F811
    found = comparison()
    html = found._repr_html_()
    assert "a_shop &amp; more" in html
    rows = {row[0]: row for row in cells(html)}
    best = next(m for m in found.methods if m.name == "lcron")
    assert rows["lcron"][1] == f"{best.joint_recall:.4f}"
    assert set(rows) == {"method", *(m.name for m in found.methods)}


def test_cells_of_html():
    html = html_table("t", ["a"], [[math.nan], [None], [1234], [0.5]], notes="<x>")
    assert [row[0] for row in cells(html)] == ["a", "", "", "1,234", "0.5000"]
    assert html.endswith("<p>&lt;x&gt;</p>")


def heat():
    of = LossMap(loss="ranknet", recall=[[0.5, 0.6], [0.4, 0.7]], consistency=0.5, regret=0.0)
    return Heatmap(dataset="web", requests=4, folds=1, seeds=1, grid=[(2, 1), (2, 3)], losses=[of])


@pytest.fixture
def plots(comparison):  # noqa: F811
    from types import SimpleNamespace as Record

    walk = Record(multiply_adds=5e6, candidates=100, timing=Record(p50=0.002))
    profiles = {"a": (0.5, Record(walks=[walk])), "b": (math.nan, Record(walks=[walk]))}
    found = comparison()
    return {
        "joint recall": lambda ax: plot_joint_recall(found, ax),
        "survival": lambda ax: plot_survival(found, ax),
        "heat map": lambda ax: plot_heatmap(heat(), "ranknet", ax),
        "multiply-adds": lambda ax: plot_tradeoff(profiles, ax=ax),
        "milliseconds": lambda ax: plot_tradeoff(profiles, "milliseconds", ax=ax),
    }


NAMES = ["joint recall", "survival", "heat map", "multiply-adds", "milliseconds"]


@pytest.mark.parametrize("name", NAMES)
def test_plots_draw_on_given_axes_or_new_ones(name, plots):
    pytest.importorskip("matplotlib")
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    given = Figure().subplots()
    assert plots[name](given) is given
    assert given.lines or given.images
    try:
        new = plots[name](None)
        assert new.figure in [plt.figure(number) for number in plt.get_fignums()]
        assert [t.get_text() for t in new.get_yticklabels()] == [
            t.get_text() for t in given.get_yticklabels()
        ]
        new.figure.canvas.draw()
    finally:
        plt.close("all")


def test_a_heat_map_of_an_unknown_loss():
    with pytest.raises(ConfigError, match=r"no loss 'ranknt' \(did you mean 'ranknet'\?\)"):
        plot_heatmap(heat(), "ranknt")


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cascaderank\[report\]'"):
        plot_heatmap(heat(), "ranknet")
