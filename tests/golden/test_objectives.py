"""Objectives with published=True agree with values computed outside this project."""

import pytest
import torch

from cascaderank.objectives import build_objective
from tests.golden.conftest import GRADIENT, VALUE
from tests.oracles.published import lcron as oracle

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
"""By name of a published method: objective, options, and component of each term."""


def published(golden, name, **options):
    return build_objective(
        name,
        stages=golden.stages,
        quotas=golden.quotas,
        ground_truth=golden.ground_truth,
        published=True,
        **options,
    ).double()


def assert_golden(got, expected, tolerance):
    torch.testing.assert_close(
        torch.as_tensor(got), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", list(TERMS))
def test_objective(golden, case, name):
    expected = golden.expected(case, name)
    method, options, names = TERMS[name]
    objective = published(golden, method, **options)
    out, gradient = golden.evaluate(objective, case)
    assert_golden(out.total, expected["total"], VALUE)
    assert_golden(gradient, expected["grad"], GRADIENT)
    known = expected.get("components", {})
    for term, component in names.items():
        for stage in golden.stages:
            if component.format(stage) in known:
                got = out.terms[term.format(stage)]
                assert_golden(got, known[component.format(stage)], VALUE)
    for stage, by_weight in expected.get("weight_grad", {}).items():
        assert_golden(objective.raw_weights[f"global/{stage}"].grad, by_weight, GRADIENT)


@pytest.mark.parametrize("case", CASES)
def test_bce(golden, case):
    expected = golden.expected(case, "bce")
    out, gradient = golden.evaluate(published(golden, "bce"), case)
    assert_golden(out.total, expected["total"], VALUE)
    assert_golden(gradient, expected["grad"], GRADIENT)
    for stage in golden.stages:
        assert_golden(out.terms[f"bce/{stage}"], expected["components"][stage], VALUE)


@pytest.mark.parametrize("case", CASES)
def test_the_default_bce_equals_the_published_one_where_both_are_defined(golden, case):
    task = {"stages": golden.stages, "quotas": golden.quotas}
    ours = build_objective("bce", **task, ground_truth=golden.ground_truth)
    got, expected = (golden.evaluate(o, case) for o in (ours, published(golden, "bce")))
    torch.testing.assert_close((got[0].total, got[1]), (expected[0].total, expected[1]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["lcron", "lcron_weights"])
def test_lcron(golden, case, name):
    expected = golden.expected(case, name)
    objective = published(golden, "lcron")
    with torch.no_grad():
        for stage, weight in expected["weights"].items():
            objective.raw_weights[f"top_k/{stage}"].fill_(weight)
    out, gradient = golden.evaluate(objective, case)
    assert_golden(out.total, expected["total"], VALUE)
    assert_golden(gradient, expected["grad"], GRADIENT)
    assert_golden(out.terms["end_to_end"], expected["components"]["L_e2e"], VALUE)
    for stage, weight in expected["weights"].items():
        name = f"top_k/{stage}"
        assert_golden(out.terms[name], expected["components"][f"L_single_{stage}"], VALUE)
        assert_golden(out.weights[name], 1 / (2 * weight**2), VALUE)
        by_weight = objective.raw_weights[name].grad
        assert_golden(by_weight, expected["weight_grad"][stage], GRADIENT)


@pytest.mark.parametrize("case", CASES)
def test_lcron_is_the_formula_in_plain_python(golden, case):
    """Also for tied labels and three stages, for which the files have no value."""
    out, _ = golden.evaluate(published(golden, "lcron"), case)
    lists = [
        oracle(golden.scores[:, i].tolist(), labels, golden.ground_truth, temperature=50.0)[0]
        for i, labels in enumerate(golden.labels(case).tolist())
    ]
    for term, of_oracle in zip(out.terms, lists[0], strict=True):
        mean = sum(terms[of_oracle] for terms in lists) / len(lists)
        assert_golden(out.terms[term], mean, VALUE)
    if len(golden.stages) == 3:  # the weight of ten tied negatives
        assert (out.total > 4) == (case == "tied")


@pytest.mark.parametrize("case", CASES)
def test_the_default_lcron_differs_from_the_published_one_by_the_epsilons_only(golden, case):
    """For full lists and moderate scores, and, with three stages, distinct labels."""
    if case == "tied" and len(golden.stages) == 3:
        pytest.skip("the published code weights tied negatives by the size of their group")
    mild = {"temperature": 500.0}  # no probability as small as the 1e-6 that the code adds
    task = {"stages": golden.stages, "quotas": golden.quotas}
    ours = build_objective("lcron", **task, ground_truth=golden.ground_truth, **mild).double()
    got = golden.evaluate(ours, case)
    expected = golden.evaluate(published(golden, "lcron", **mild), case)
    torch.testing.assert_close(got[0].terms, expected[0].terms, rtol=0, atol=5e-5)
    torch.testing.assert_close(got[1], expected[1], rtol=0, atol=1e-5)
    assert expected[1].abs().max() > 1e-3, "vacuous: gradients smaller than the tolerance"


@pytest.mark.parametrize("case", CASES)
def test_the_default_fs_ranknet_is_a_mean_over_levels_and_the_published_one_a_sum(golden, case):
    task = {"stages": golden.stages, "quotas": golden.quotas}
    got = golden.evaluate(build_objective("fs_ranknet", **task), case)
    expected = golden.evaluate(published(golden, "fs_ranknet"), case)
    above = len(golden.stages) + 1  # levels above the lowest
    torch.testing.assert_close(
        (above * got[0].total, above * got[1]), (expected[0].total, expected[1])
    )


def test_the_default_fs_lambdaloss_equals_the_published_one_where_both_are_defined(golden):
    """For its cut-off in every stage and a lowest label of 0; the published code counts pairs twice."""
    task = {"stages": golden.stages, "quotas": [30] * len(golden.stages)}
    labels, scores = golden.labels("distinct") - 1, golden.scores
    got = build_objective("fs_lambdaloss", **task)(scores, labels)
    expected = published(golden, "fs_lambdaloss")(scores, labels)
    torch.testing.assert_close(2 * got.total, expected.total)


def test_the_default_rankflow_has_the_self_learning_terms_of_the_published_one(golden):
    """For its cut-offs, which are the quotas."""
    task = {"stages": golden.stages, "quotas": golden.quotas, "ground_truth": golden.ground_truth}
    got, _ = golden.evaluate(build_objective("rankflow", **task), "distinct")
    expected, _ = golden.evaluate(published(golden, "rankflow"), "distinct")
    for stage in golden.stages:
        torch.testing.assert_close(got.terms[f"self/{stage}"], expected.terms[f"self/{stage}"])
    if len(golden.stages) == 3:  # where the tutors keep their quotas
        for stage in golden.stages[:-1]:
            term = f"ranking/{stage}"
            torch.testing.assert_close(got.terms[term], expected.terms[term])
