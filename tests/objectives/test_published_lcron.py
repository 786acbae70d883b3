"""The published form of LCRON is the formula of the released code, as plain Python computes it."""

import pytest
import torch

from cascaderank.objectives import build_objective
from tests.oracles.published import (
    EPSILON,
    column_sums,
    difference_quotients,
    lcron,
    lcron_total,
    soft_rows,
)

K, TEMPERATURE = 4, 5.0
LABELS = {
    "distinct": [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1],
    "tied below the cut": [29, 28, 27, 26, 7, 7, 7, 7, 6, 6, 6, 5],
    "tied at the cut": [29, 28, 7, 7, 7, 7, 7, 6, 6, 6, 5, 5],
    "all tied": [7] * 12,
}


def scores_of(stages, lists=1):
    g = torch.Generator().manual_seed(stages)
    return torch.randn(stages, lists, 12, generator=g, dtype=torch.float64)


def published(stages):
    return build_objective(
        "lcron",
        stages=stages,
        quotas=(8, 6, 5)[:stages],
        ground_truth=K,
        published=True,
        temperature=TEMPERATURE,
    ).double()


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("stages", [2, 3])
def test_values_and_gradient_are_those_of_the_formula(stages, labels):
    scores = scores_of(stages).requires_grad_()
    out = published(stages)(scores, torch.tensor([labels], dtype=torch.float64))
    out.total.backward()
    plain = scores[:, 0].tolist()
    terms, totals = lcron(plain, labels, K, temperature=TEMPERATURE)
    assert {name: value.item() for name, value in out.terms.items()} == pytest.approx(terms)

    def total(moved):
        return lcron_total(moved, labels, K, temperature=TEMPERATURE, totals=totals)

    gradient = torch.tensor(difference_quotients(total, plain), dtype=torch.float64)
    torch.testing.assert_close(scores.grad[:, 0], gradient, rtol=1e-6, atol=1e-8)


def test_tied_negatives_count_with_the_size_of_their_group_for_three_stages_only():
    """Ten tied candidates per level, as in the released labels of RecFlow."""
    g = torch.Generator().manual_seed(0)
    for stages, share in ((2, 1.0), (3, 10.0)):
        scores = torch.randn(stages, 1, 10 * (stages + 2), generator=g, dtype=torch.float64)
        below = torch.arange(stages + 1).repeat_interleave(10).double()
        tied, distinct = (
            torch.cat([torch.arange(90, 100).double(), x])[None]
            for x in (below, torch.arange(10.0 * (stages + 1)).double())
        )
        task = {"stages": stages, "quotas": (30, 20, 20)[:stages], "ground_truth": 10}
        objective = build_objective("lcron", **task, published=True).double()
        one, other = (objective(scores, labels) for labels in (tied, distinct))
        torch.testing.assert_close(one.terms["end_to_end"], other.terms["end_to_end"])
        ours = build_objective("lcron", **task).double()
        torch.testing.assert_close(ours(scores, tied).total, ours(scores, distinct).total)
        for t in range(stages):
            name = f"top_k/stage_{t + 1}"
            positive = _positive_part(scores[t, 0])
            tied_negatives, negatives = (x.terms[name] - positive for x in (one, other))
            torch.testing.assert_close(tied_negatives, share * negatives)


def _positive_part(scores):
    rows = soft_rows(scores.tolist(), 50.0)
    total = torch.tensor(column_sums(rows), dtype=torch.float64)
    kept = torch.tensor(column_sums(rows[:10]), dtype=torch.float64) / (total + EPSILON)
    return -(kept[:10] + EPSILON).log().sum() / len(scores)
