"""Tables of a report: contents, and width of at most 80 characters."""

import io

import pytest
import torch
from rich.console import Console

from cascaderank.evaluation import Evaluator
from cascaderank.reports import report_tables


def printed(report, width=80):
    text = io.StringIO()
    Console(file=text, width=width).print(*report_tables(report))
    return text.getvalue()


def report_of(stages=2, names=None, labels_to=5, **by):
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, labels_to, (5, 3000), generator=g).float()
    scores = labels + 3 * torch.randn(stages, 5, 3000, generator=g)
    quotas = [2000 // 2**i for i in range(stages)]
    evaluator = Evaluator(quotas=quotas, stage_names=names, **by)
    evaluator.update(scores, labels)
    return evaluator.report(bootstrap=20)


@pytest.mark.parametrize("by", [{"k": 100}, {"threshold": 3.0}])
@pytest.mark.parametrize("stages", [1, 2, 6])
def test_tables_fit_80_characters_without_truncation(stages, by):
    names = [f"{'a_very_long_name_of_a_stage' * 3}_{i}" for i in range(stages)]
    text = printed(report_of(stages, names, **by))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for i in range(stages):
        assert f"_{i}" in text


def test_numbers_are_those_of_the_report():
    report = report_of(2, ["retrieval", "ranking[red]"], k=100)
    lines = printed(report).splitlines()
    for name, stage in report.stages.items():
        line = next(line for line in lines if line.split()[:1] == [name])
        numbers = [
            f"{s.mean:,.{places}f}"
            for s, places in (
                (stage.recall, 4),
                (stage.ndcg_linear, 4),
                (stage.ndcg_exponential, 4),
                (stage.survival, 4),
                (stage.lost, 4),
                (stage.depth, 1),
                (stage.ceiling_if_perfect, 4),
            )
        ]
        assert line.split() == [name, f"{stage.quota:,}", *numbers]
    joint = report.metrics["joint_recall"]
    line = next(line for line in lines if "joint recall@100" in line)
    assert f"{joint.mean:.4f}  {joint.low:.4f} to {joint.high:.4f}" in line
    assert "95% interval" in printed(report)


def test_undefined_values_are_dashes_and_omitted_metrics_are_noted():
    text = printed(report_of(labels_to=50, threshold=1e9))
    assert "nan" not in text.lower()
    assert "5 of 5 requests have no ground truth" in text
    assert "ndcg_exponential is omitted" in text
    line = next(line for line in text.splitlines() if "stage_2" in line)
    assert line.split()[2] == "-"
