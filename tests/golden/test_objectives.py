"""Objectives with published=True as computed outside this project."""

from math import log

import pytest
import torch

from cascaderank.objectives import build_objective
from tests.golden.conftest import GRADIENT, VALUE

CASES = ["distinct", "tied"]

TERMS = {
    "fs_ranknet": ("fs_ranknet", {}, {"ranknet/{}": "{}"}),
    "fs_lambdaloss": ("fs_lambdaloss", {}, {"lambda_ndcg/{}": "{}"}),
    "icc": ("icc", {}, {}),
    "rankflow": ("rankflow", {}, {"self/{}": "{}_bce", "regression/{}": "{}_mse"}),
    "rankflow_alpha1": ("rankflow", {"alpha": 1.0}, {}),
    "arf": ("arf", {}, {"relax/{}": "{}_relax", "global/{}": "{}_global"}),
    "arf_v2": ("arf_v2", {}, {"top_m/{}": "{}_relax", "global/{}": "{}_global"}),
}
"""What is published under a name: objective, options, and which term is which component."""


def published(golden, name, **options):
    return build_objective(
        name,
        stages=golden.stages,
        quotas=golden.quotas,
        ground_truth=golden.ground_truth,
        published=True,
        **options,
    ).double()


def assert_golden(got, want, tolerance):
    torch.testing.assert_close(
        torch.as_tensor(got), torch.tensor(want, dtype=torch.float64), rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", list(TERMS))
def test_objective(golden, case, name):
    want = golden.want(case, name)
    method, options, names = TERMS[name]
    objective = published(golden, method, **options)
    out, gradient = golden.judge(objective, case)
    assert_golden(out.total, want["total"], VALUE)
    assert_golden(gradient, want["grad"], GRADIENT)
    known = want.get("components", {})
    for term, component in names.items():
        for stage in golden.stages:
            if component.format(stage) in known:
                got = out.terms[term.format(stage)]
                assert_golden(got, known[component.format(stage)], VALUE)
    for stage, by_weight in want.get("weight_grad", {}).items():  # at w = 1, d ln w / d w = 1
        assert_golden(objective.log_weights[f"global/{stage}"].grad, by_weight, GRADIENT)


@pytest.mark.parametrize("case", CASES)
def test_bce(golden, case):
    want = golden.want(case, "bce")
    out, gradient = golden.judge(published(golden, "bce"), case)
    assert_golden(out.total, want["total"], VALUE)
    assert_golden(gradient, want["grad"], GRADIENT)
    for stage in golden.stages:
        assert_golden(out.terms[f"bce/{stage}"], want["components"][stage], VALUE)


@pytest.mark.parametrize("case", CASES)
def test_ours_and_the_published_bce_are_one_where_both_are_defined(golden, case):
    task = {"stages": golden.stages, "quotas": golden.quotas}
    ours = build_objective("bce", **task, ground_truth=golden.ground_truth)
    got, want = (golden.judge(o, case) for o in (ours, published(golden, "bce")))
    torch.testing.assert_close((got[0].total, got[1]), (want[0].total, want[1]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["lcron", "lcron_weights"])
def test_lcron(golden, case, name):
    want = golden.want(case, name)
    objective = published(golden, "lcron")
    with torch.no_grad():
        for stage, weight in want["weights"].items():
            objective.log_weights[f"top_k/{stage}"].fill_(log(weight))
    out, gradient = golden.judge(objective, case)
    assert_golden(out.total, want["total"], VALUE)
    assert_golden(gradient, want["grad"], GRADIENT)
    assert_golden(out.terms["end_to_end"], want["components"]["L_e2e"], VALUE)
    for stage, weight in want["weights"].items():
        name = f"top_k/{stage}"
        assert_golden(out.terms[name], want["components"][f"L_single_{stage}"], VALUE)
        assert_golden(out.weights[name], 1 / (2 * weight**2), VALUE)
        by_weight = objective.log_weights[name].grad / weight  # d ln w / d w = 1 / w
        assert_golden(by_weight, want["weight_grad"][stage], GRADIENT)


@pytest.mark.parametrize("case", CASES)
def test_ours_and_the_published_lcron_differ_by_the_epsilons_only(golden, case):
    """With full lists, distinct labels and scores that are not extreme."""
    mild = {"temperature": 500.0}  # no probability as small as the 1e-6 that is added to it
    task = {"stages": golden.stages, "quotas": golden.quotas}
    ours = build_objective("lcron", **task, ground_truth=golden.ground_truth, **mild).double()
    got = golden.judge(ours, case)
    want = golden.judge(published(golden, "lcron", **mild), case)
    torch.testing.assert_close(got[0].terms, want[0].terms, rtol=0, atol=5e-5)
    torch.testing.assert_close(got[1], want[1], rtol=0, atol=1e-5)
    assert want[1].abs().max() > 1e-3, "vacuous: gradients smaller than the tolerance"


@pytest.mark.parametrize("case", CASES)
def test_ours_is_the_mean_over_levels_of_what_the_published_fs_ranknet_sums(golden, case):
    task = {"stages": golden.stages, "quotas": golden.quotas}
    got = golden.judge(build_objective("fs_ranknet", **task), case)
    want = golden.judge(published(golden, "fs_ranknet"), case)
    above = len(golden.stages) + 1  # levels above the lowest
    torch.testing.assert_close((above * got[0].total, above * got[1]), (want[0].total, want[1]))


def test_ours_and_the_published_fs_lambdaloss_are_one_where_both_are_defined(golden):
    """With its cut in every stage, and labels that start at 0; pairs are counted once."""
    task = {"stages": golden.stages, "quotas": [30] * len(golden.stages)}
    labels, scores = golden.labels("distinct") - 1, golden.scores
    got = build_objective("fs_lambdaloss", **task)(scores, labels)
    want = published(golden, "fs_lambdaloss")(scores, labels)
    torch.testing.assert_close(2 * got.total, want.total)


def test_ours_and_the_published_rankflow_share_what_each_stage_learns_by_itself(golden):
    """With its cuts, which are the quotas."""
    task = {"stages": golden.stages, "quotas": golden.quotas, "ground_truth": golden.ground_truth}
    got, _ = golden.judge(build_objective("rankflow", **task), "distinct")
    want, _ = golden.judge(published(golden, "rankflow"), "distinct")
    for stage in golden.stages:
        torch.testing.assert_close(got.terms[f"self/{stage}"], want.terms[f"self/{stage}"])
    if len(golden.stages) == 3:  # where the tutors keep their quotas
        for stage in golden.stages[:-1]:
            term = f"ranking/{stage}"
            torch.testing.assert_close(got.terms[term], want.terms[term])
