"""Every table fits into 80 characters, with all headings and all numbers."""

import dataclasses
import io
import math

import numpy as np
import pytest
import torch
from rich.console import Console

import cascaderank.reports
from cascaderank.evaluation import (
    Evaluator,
    ExposureLog,
    FeatureImportance,
    Importance,
    off_policy_difference,
)
from cascaderank.evaluation.item_retrieval import CatalogueReport
from cascaderank.evaluation.profile import Profile, StageProfile, Timing, Walk
from cascaderank.evaluation.statistics.bootstrap import Summary
from cascaderank.experiments.against_reference import ComparedMetric
from cascaderank.experiments.heatmap import Heatmap, LossMap
from cascaderank.experiments.metric_results import StageMetric
from cascaderank.experiments.results import summarise
from cascaderank.reports.component_tables import component_table
from cascaderank.reports.noted_table import noted_table
from cascaderank.reports.table_width import WIDTH, column_groups
from cascaderank.runs.listing import ListedRun, Listing
from cascaderank.stages import MultiplyAdds, Pruned
from cascaderank.stages._cost import LookUps
from cascaderank.training.check.check_data import DataCheck
from cascaderank.training.check.findings import error, note, warning
from cascaderank.training.field_selection import SelectedFields
from tests.experiments.runs import runs_of, searched

STAGES = ("retrieval", "pre_ranking[red]", "ranking_by_a_network_of_many_layers")
METRICS = ("ndcg@10", 'ndcg(gain="linear")@10 among >= 2', "gauc")


def a_comparison(settings_for):
    tables = {s: {"model": "mlp", "quota": 40 - 5 * i} for i, s in enumerate(STAGES)}
    changes = {"stages": tables, "compare.published": "lcron_table_6"}
    means = {"random order": 0.5, "bce": 0.8, "conditional_survival (cut=quotas)": 0.87}
    runs = searched(runs_of(means, requests=60, stages=STAGES, folds=2))
    settings = settings_for("log").changed(changes)
    found = summarise(settings, runs, dataset="a shop [red]", fold_names=["one", "two"])
    numbers = (0.8123, 0.7913, 0.8349, -0.0123, -0.0312, 0.0119)
    names = ("mean", "low", "high", "gain", "gain_low", "gain_high")
    values = dict(zip(names, numbers, strict=True))
    metrics = tuple(StageMetric(stage=s, metric=m, **values) for s in STAGES[:2] for m in METRICS)
    final = tuple(
        ComparedMetric(metric=m, requests=108, p=0.0123, p_holm=0.0246, **values)
        for m in ("joint_recall_decided", *METRICS[:2])
    )
    methods = tuple(
        dataclasses.replace(m, final_metrics=final, stage_metrics=metrics, sees_more=True)
        for m in found.methods
    )
    return cascaderank.reports.comparison_tables(dataclasses.replace(found, methods=methods))


def a_difference_of_policies():
    exposed = np.eye(2, dtype=bool)[[0, 1] * 50]
    rewards = exposed * -123456.789
    log = ExposureLog(rewards=rewards, exposed=exposed, propensities=exposed * 0.0 + 0.5)
    policies = (exposed * 0 + [0.9, 0.1], exposed * 0 + [0.2, 0.8])
    return off_policy_difference(log, *policies, predicted=rewards / 2)


def a_report():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (5, 3000), generator=g).float()
    scores = labels + 3 * torch.randn(3, 5, 3000, generator=g)
    by = {"quotas": (2000, 1000, 500), "k": 100, "metrics": METRICS}
    evaluator = Evaluator(stage_names=STAGES, **by)
    evaluator.update(scores, labels)
    return evaluator.report(bootstrap=5)


def a_catalogue():
    summary = Summary(mean=0.1234, low=0.1111, high=0.1357, requests=12_345, undefined=17)
    names = ("hit_rate", "ndcg", "recall", "precision")
    return CatalogueReport(
        requests=12_362,
        items=1_000_000,
        absent=3,
        index="HNSW32",
        index_recall=0.9876,
        metrics={f"{n}@{m}": summary for n in names for m in (10, 20, 50, 100)},
        per_request={},
    )


def a_profile():
    timing = Timing(requests=16, candidates=10_000, calls=1_234, p50=1.234567, p99=7.654321)
    stage = StageProfile(
        model="MatrixFactorisation",
        parameters=123_456_789,
        multiply_adds=MultiplyAdds(per_request=123_456_789, per_candidate=987_654_321),
        look_ups=LookUps(per_request=123_456, per_candidate=654_321),
        timings=(timing, timing),
    )
    walk = Walk(candidates=10_000, multiply_adds=123_456_789, look_ups=1_234_567, timing=timing)
    return Profile(
        stages=dict.fromkeys(STAGES, stage), walks=(walk,), history=50, threads=2, machine="a CPU"
    )


def a_heatmap():
    grid = [(m, k) for m in (10, 20, 100, 200) for k in (5, 15, 50)]
    recall = [[0.123 + 0.001 * (i + j) for j in range(12)] for i in range(12)]
    loss = LossMap(loss="relaxed_recall", recall=recall, consistency=0.5, regret=0.01)
    return Heatmap(dataset="log", requests=60, folds=5, seeds=3, grid=grid, losses=[loss])


def a_summary():
    return {
        "name": "a shop [red]",
        "requests": 12_345_678,
        "candidates": 1_234_567_890,
        "list_length": {"min": 1, "mean": 100.1, "max": 12_345},
        "features": {"request": {"categorical": 12, "numeric": 123}},
        "several_values": [f"a_feature_{i}" for i in range(30)],
        "levels": {f"a_level_{i}": 12_345_678 for i in range(9)},
        "label": None,
        "feedback": None,
        "time_range": ("2026-01-01T00:00:00+00:00", "2026-01-31T00:00:00+00:00"),
        "days": 31,
        "notes": {"a_note_with_a_name_that_is_long": "/a/path/" + "of/many/folders/" * 9},
        "bytes": 123_456_789,
        "seconds": 123.4,
    }


def an_importance():
    names = ("a_feature_with_a_name_that_is_long" * 3, "history_item + history_category")
    features = tuple(
        FeatureImportance(
            stage=stage, feature=name, role="request", joint_recall_loss=-0.1234,
            joint_recall_error=0.1234, recall_loss=0.5, recall_error=math.nan,
        )
        for stage in STAGES
        for name in names
    )  # fmt: skip
    return Importance(
        requests=12_345_678,
        undefined=12_345,
        repeats=100,
        joint_recall=0.8123,
        recall=dict.fromkeys(STAGES, 0.8123),
        features=features,
    )


def a_check():
    message = (
        "feature 'a_feature_[red]" + "_with_a_long_name" * 9 + "' orders the ground truth. " * 9
    )
    findings = tuple(kind("learning rate", message) for kind in (error, warning, note))
    return DataCheck(dataset="a shop [red]", requests=12_345_678, read=6_500, findings=findings)


def a_listing():
    run = ListedRun(
        name="comparison/a_method_with_a_long_name" * 3, data="a_data_set[red]" * 3,
        objective="conditional_survival", validation=0.8123, recall=0.8123, low=0.7912,
        high=0.8354, steps=12_345_678, date="2026-11-30T20:12:13+00:00", complete=True,
    )  # fmt: skip
    unfinished = dataclasses.replace(run, recall=None, low=None, high=None, complete=False)
    return Listing(runs=(run, unfinished), damaged={"runs/" * 20: "not [red] JSON: " * 20})


PRUNED = Pruned(
    stage=torch.nn.Identity(),
    parameters=(123_456_789, 2_345),
    multiply_adds=tuple(MultiplyAdds(per_request=n, per_candidate=9) for n in (987_654, 7)),
    options={},
)
FIELDS = SelectedFields(
    {"a_feature_with_a_name_that_is_long" * 3: 0.125, "price": 0.25}, ("price",)
)

TABLES = {
    "catalogue_table": lambda of: of.catalogue_table(a_catalogue()),
    "check_table": lambda of: of.check_table(a_check()),
    "dataset_table": lambda of: of.dataset_table(a_summary()),
    "fields_table": lambda of: of.fields_table(dict.fromkeys(STAGES, FIELDS)),
    "funnel_table": lambda of: of.funnel_table(a_report()),
    "off_policy_tables": lambda of: of.off_policy_tables(a_difference_of_policies()),
    "heatmap_tables": lambda of: of.heatmap_tables(a_heatmap()),
    "profile_tables": lambda of: of.profile_tables(a_profile()),
    "importance_tables": lambda of: of.importance_tables(an_importance()),
    "pruning_table": lambda of: of.pruning_table(dict.fromkeys(STAGES, PRUNED)),
    "report_tables": lambda of: of.report_tables(a_report()),
    "runs_table": lambda of: of.runs_table(a_listing()),
    "summary_table": lambda of: of.summary_table(a_report()),
    "tradeoff_table": lambda of: of.tradeoff_table({"runs/" * 20: (0.8123, a_profile())}),
}
"""How each table is made; the tables of a comparison and of ``ls`` have tests of their own."""


def fits(*tables):
    """Check that tables fit, and that all headings and cells are in the text."""
    console = Console(width=WIDTH, file=io.StringIO(), color_system=None)
    console.print(*tables)
    text = console.file.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= WIDTH
    assert "…" not in text
    folded = "".join(text.split())
    for table in tables:
        for column in table.columns:
            is_number = column.justify == "right"
            for cell in column.cells if is_number else ():
                for line in str(cell).replace("[bold]", "").splitlines():
                    assert line.strip() in text, (table.title, str(column.header), line)
            if column.overflow != "fold":
                assert all(word in folded for word in str(column.header).split()), column.header
    return text


@pytest.mark.parametrize("name", TABLES)
def test_a_table_fits_with_every_heading_and_number(name):
    tables = TABLES[name](cascaderank.reports)
    fits(*(tables if isinstance(tables, list | tuple) else [tables]))


def test_the_tables_of_a_comparison_fit(settings_for):
    tables = a_comparison(settings_for)
    text = fits(*tables)
    recall, *_ = tables
    headings = ["method", "joint recall", "published", "of\nceiling", "gain", "p"]
    assert [str(column.header) for column in recall.columns] == headings
    assert text.count("Single stages over all candidates") == 3, "six columns, two in a table"
    assert text.count(".8123 [.791, .835]") == 18 + 9, "two by three of stages, three of the list"
    assert text.count("-.0123 [-.031, +.012]") == 18 + 9


def test_the_table_of_components_fits():
    text = fits(component_table("losses", {"a_name_" * 9: "A long text " * 9, "bce": "Short."}))
    assert "bce" in text


def test_every_table_of_the_library_is_covered():
    made = {n for n in cascaderank.reports.__all__ if n.endswith(("_table", "_tables"))}
    assert made == {*TABLES, "comparison_tables"}, "add how the table is made, at its widest"


def test_columns_are_divided_over_tables():
    assert column_groups([]) == []
    assert column_groups([200, 3]) == [slice(0, 1), slice(1, 2)]
    groups = column_groups([12] * 9)
    assert [s.stop - s.start for s in groups] == [4, 4, 1]


@pytest.mark.parametrize(("width", "lines"), [(200, 2), (80, 2), (40, 3)])
def test_notes_are_as_wide_as_the_terminal_up_to_80(width, lines):
    """Not as narrow as the columns above them."""
    table = noted_table("a title " * 9, ["words [red] " * 8])
    table.add_column("narrow")
    table.add_row("1")
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    text = console.file.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= min(width, WIDTH)
    assert text.count("[red]") == 8
    assert len(text[text.index("words") :].splitlines()) == lines
