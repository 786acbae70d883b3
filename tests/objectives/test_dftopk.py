"""DFTopK is LCRON with another operator and cut; its terms are those of the formula."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from cascaderank.errors import ConfigError
from cascaderank.objectives import build_objective

TASK = {"stages": ["retrieval", "ranking"], "quotas": (5, 3)}


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(5)
    scores = torch.randn(2, 3, 9, generator=g, dtype=torch.float64)
    return scores, torch.stack([torch.randperm(9, generator=g) for _ in range(3)])


def kept(scores, k, temperature):
    best_first = scores.sort(-1, descending=True).values
    theta = (best_first[..., k - 1] + best_first[..., k]) / 2
    return ((scores - theta[..., None]) / temperature).sigmoid()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 500.0])
def test_its_terms_are_those_of_the_formula(batch, temperature):
    scores, labels = batch
    truth = (labels >= 7).double()  # the top 2 of 9
    both = kept(scores[0], 5, temperature) * kept(scores[1], 3, temperature)
    want = {
        "end_to_end": binary_cross_entropy(both, truth),
        "top_k/retrieval": binary_cross_entropy(kept(scores[0], 2, temperature), truth),
        "top_k/ranking": binary_cross_entropy(kept(scores[1], 2, temperature), truth),
    }
    objective = build_objective("dftopk", **TASK, ground_truth=2, temperature=temperature)
    torch.testing.assert_close(objective(scores, labels).terms, want)


@pytest.mark.parametrize(
    "options",
    [
        {"ground_truth": 2},
        {"threshold": 5.0, "relative_temperature": True},
        {"ground_truth": 2, "temperature": {"start": 2.0, "end": 0.5}, "weights": (1.0, 0.0)},
        {"ground_truth": 2, "end_to_end": 0.0},
    ],
    ids=str,
)
def test_it_is_lcron_with_an_operator_and_a_cut(batch, options):
    scores, labels = batch
    fixed = {"operator": "threshold", "cut": "quotas", "temperature": 0.5}
    got = build_objective("dftopk", **TASK, **options)(scores, labels)
    want = build_objective("lcron", **TASK, **{**fixed, **options})(scores, labels)
    assert got.terms == want.terms
    assert got.total == want.total


def test_it_has_no_published_form():
    with pytest.raises(ConfigError, match="objective 'dftopk' has no published form"):
        build_objective("dftopk", **TASK, ground_truth=2, published=True)


def test_a_message_names_no_other_objective():
    with pytest.raises(ConfigError) as caught:
        build_objective("dftopk", **TASK, ground_truth=2, end_to_end=0.0, weights=0.0)
    assert str(caught.value) == (
        "at least one term must have a positive weight; got end_to_end=0.0 and weights=0.0"
    )
