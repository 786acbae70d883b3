"""RankFlow trains a stage on the candidates that reach it, and to predict the next stage."""

import pytest
import torch

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.objectives import CascadeInputs, build_objective
from tests.oracles.losses import rankflow

QUOTAS = (5, 4, 2)


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(5)
    scores = torch.randn(3, 4, 9, generator=g, dtype=torch.float64)
    labels = torch.randint(0, 4, (4, 9), generator=g).double()
    return scores, labels, torch.arange(9) < torch.tensor([[9], [6], [4], [1]])


def build(stages=3, **options):
    options = {"ground_truth": 2, **options}
    return build_objective("rankflow", stages=stages, quotas=QUOTAS[:stages], **options)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_agrees_with_plain_python(batch, stages):
    scores, labels, mask = batch
    got = build(stages)(scores[:stages], labels, mask=mask).terms
    lists = [
        rankflow(
            [s[i, :n].tolist() for s in scores[:stages]],
            labels[i, :n].tolist(),
            2,
            quotas=QUOTAS[:stages],
        )
        for i, n in enumerate(mask.sum(-1).tolist())
    ]
    assert set(got) == set(lists[0])
    for term, value in got.items():
        want = sum(terms[term] for terms in lists) / len(lists)
        assert value.item() == pytest.approx(want, rel=1e-9, abs=1e-12), term


def test_alpha_is_shared_between_regression_and_ranking(batch):
    scores, labels, mask = batch
    weights = build(2, alpha=0.2)(scores[:2], labels, mask=mask).weights
    want = {"self/stage_1": 1.0, "regression/stage_1": 0.8, "ranking/stage_1": 0.2}
    assert {k: round(w.item(), 6) for k, w in weights.items()} == {**want, "self/stage_2": 1.0}


@pytest.mark.parametrize("term", ["regression/stage_1", "ranking/stage_1"])
def test_a_tutor_receives_no_gradient(batch, term):
    scores, labels, mask = batch
    scores = scores[:2].clone().requires_grad_()
    objective = build(2)
    function = next(t.function for t in objective.terms if t.name == term)
    function(CascadeInputs(scores=scores, labels=labels, mask=mask, levels=None)).backward()
    assert scores.grad[0].any()
    assert not scores.grad[1].any()


def test_the_regression_of_a_stage_on_an_equal_tutor_is_zero(batch):
    scores, labels, mask = batch
    terms = build(2)(scores[:1].expand(2, -1, -1), labels, mask=mask).terms
    assert terms["regression/stage_1"].item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_a_weight_out_of_range_is_refused(alpha):
    with pytest.raises(ConfigError, match=r"alpha must be a number in \[0, 1\]"):
        build(alpha=alpha)


def test_the_published_form_is_not_defined_for_everything(batch):
    scores, labels, _ = batch
    with pytest.raises(ConfigError, match="has no alpha for 3 stages"):
        build(alpha=0.5, published=True)
    with pytest.raises(ConfigError, match="threshold"):
        build(ground_truth=None, threshold=1.0, published=True)
    with pytest.raises(ShapeError, match="at least 40 candidates"):
        build(published=True)(scores, labels)
    long = torch.zeros(len(scores), 1, 45)
    assert build(published=True)(long, long[0], mask=torch.arange(45)[None] < 40).total.isfinite()
    with pytest.raises(ShapeError, match=r"at least 40 candidates.* got a list of 39\. Leave out"):
        build(published=True)(long, long[0], mask=torch.arange(45)[None] < 39)
