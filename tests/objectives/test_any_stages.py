"""A stage that keeps everything changes nothing for the others."""

import pytest
import torch

from cascaderank.objectives import OBJECTIVES, build_objective

LENGTH, QUOTAS = 9, (5, 3)
SPECIAL = {
    # By default, the end-to-end term cuts every stage at the size of the ground truth, even a stage
    # that keeps all.
    "lcron": ({"cut": "quotas"}, {"cut": "quotas"}),
    # By default, entry levels are evenly spaced over the stages.
    "bce": ({"entry_levels": (0, 2)}, {"entry_levels": (0, 0, 2)}),
    # Likewise, and the exposed level is the top level of a log with two more levels than stages.
    "level_contrastive": (
        {"entry_levels": (0, 2), "exposed_level": 3},
        {"entry_levels": (0, 0, 2), "exposed_level": 3},
    ),
    # By default, the exposed level is the top level of a log with two more levels than stages.
    "entire_chain": ({"exposed_level": 3}, {"exposed_level": 3}),
}


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(5)
    scores = torch.randn(2, 3, LENGTH, generator=g, dtype=torch.float64)
    labels = torch.rand(3, LENGTH, generator=g, dtype=torch.float64)
    return scores, labels, torch.arange(LENGTH) < torch.tensor([[9], [7], [6]])


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_a_stage_that_keeps_all_does_not_affect_the_others(name, batch):
    scores, labels, mask = batch
    truth = {"ground_truth": 2} if "ground_truth" in OBJECTIVES.options(name) else {}
    without, within = SPECIAL.get(name, ({}, {}))
    if "cuts" in OBJECTIVES.options(name):
        pytest.skip("cut-offs are specified per stage")
    two = build_objective(name, stages=["a", "b"], quotas=QUOTAS, **truth, **without)
    three = build_objective(
        name, stages=["all", "a", "b"], quotas=(LENGTH, *QUOTAS), **truth, **within
    )
    levels = (4 * labels).long()

    def evaluated(objective, front):
        own = scores.clone().requires_grad_()
        # The terms by which the first stage is trained on the next one are excluded.
        counted = {t.name for t in objective.terms if not t.name.endswith("/all")}
        out = objective(torch.cat([front, own]), labels, mask=mask, levels=levels, terms=counted)
        return out.terms, torch.autograd.grad(out.total, own)[0]

    terms, gradient = evaluated(two, scores[:0])
    with_stage, gradient_with_stage = evaluated(three, torch.ones_like(scores[:1]))
    torch.testing.assert_close(with_stage, terms)
    torch.testing.assert_close(gradient_with_stage, gradient)
    assert gradient.any()
