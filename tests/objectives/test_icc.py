"""ICC scores a candidate by the stage that drops it, and ranks by these scores."""

import pytest
import torch

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.losses import lambda_ndcg_loss, ranknet_loss
from cascaderank.objectives import build_objective
from cascaderank.sorting import relative_temperature, top_k_probability
from tests.oracles.losses import icc

QUOTAS = (5, 4, 2)


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(5)
    scores = torch.randn(3, 4, 9, generator=g, dtype=torch.float64) - 5  # padding would win at 0
    labels = torch.randint(0, 4, (4, 9), generator=g).double()
    return scores, labels, torch.arange(9) < torch.tensor([[9], [6], [4], [1]])


def build(stages=3, **options):
    return build_objective("icc", stages=stages, quotas=QUOTAS[:stages], **options)


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("temperature", [1e-3, 0.5])
def test_agrees_with_plain_python(batch, stages, temperature):
    scores, labels, mask = batch
    got = build(stages, temperature=temperature)(scores[:stages], labels, mask=mask).total
    want = [
        icc(
            [s[i, :n].tolist() for s in scores[:stages]],
            labels[i, :n].tolist(),
            quotas=QUOTAS[:stages],
            temperature=temperature,
        )
        for i, n in enumerate(mask.sum(-1).tolist())
    ]
    assert got.item() == pytest.approx(sum(want) / len(want), rel=1e-9)


def test_at_a_low_temperature_the_score_is_that_of_the_stage_that_drops_a_candidate():
    first = torch.tensor([[9.0, 8.0, 7.0, 1.0]])
    second = torch.tensor([[-5.0, 6.0, 0.0, 99.0]])  # the 99 is not reached
    labels = torch.tensor([[0.0, 3.0, 2.0, 1.0]])
    objective = build_objective(
        "icc", stages=2, quotas=(3, 1), loss="lambda_ndcg", temperature=1e-3
    )
    got = objective(torch.stack([first, second]), labels).total
    # The last candidate to pass is at the cut-off, where both stages have weight 1/2.
    first, second = first - first.mean(), second - second.mean()
    merged = torch.tensor([[-30.0, -19.0, (0.75 - 25.0) / 2, -5.25]])
    torch.testing.assert_close(got, lambda_ndcg_loss(merged, labels, m=1))


@pytest.mark.parametrize("temperature", [0.5, None])
def test_a_constant_added_to_a_stage_changes_nothing(batch, temperature):
    scores, labels, mask = batch
    leaf, moved = (s.clone().requires_grad_() for s in (scores, scores))
    build(temperature=temperature)(leaf, labels, mask=mask).total.backward()
    constant = torch.tensor([0.0, 3.0, -4.0], dtype=scores.dtype)[:, None, None]
    build(temperature=temperature)(moved + constant, labels, mask=mask).total.backward()
    torch.testing.assert_close(leaf.grad, moved.grad)


def test_low_scores_of_the_next_stage_do_not_reverse_the_gradient():
    g = torch.Generator().manual_seed(0)
    labels = torch.randn(64, 50, generator=g)
    scores = 0.1 * torch.randn(3, 64, 50, generator=g) + 0.05 * labels
    scores[2] -= 2
    scores.requires_grad_()
    build_objective("icc", stages=3, quotas=(40, 30, 20))(scores, labels).total.backward()
    # The gradient of each stage favours higher labels.
    assert ((scores.grad * labels).sum((-1, -2)) < 0).all()


def test_a_stage_that_keeps_all_of_a_list_does_not_affect_its_loss(batch):
    scores, labels, _ = batch
    objective = build_objective("icc", stages=3, quotas=(9, 9, 2))
    scores = scores.clone().requires_grad_()
    objective(scores, labels).total.backward()
    assert not scores.grad[:2].any()
    assert scores.grad[2].any()


def test_the_default_temperature_of_the_gate_is_three_spreads(batch):
    scores, labels, mask = batch
    own = relative_temperature(
        scores[0], 3.0, operator="sigmoid", mask=mask
    )  # per list: the other lists differ
    got = build(stages=2)(scores[:2], labels, mask=mask).total
    wide = build(stages=2, temperature=3.0, relative_temperature=True)
    torch.testing.assert_close(got, wide(scores[:2], labels, mask=mask).total)
    for i in range(len(labels)):
        alone = [x[..., i : i + 1, :] for x in (scores[:2], labels, mask)]
        one = build(stages=2)(*alone[:2], mask=alone[2]).total
        explicit = build(stages=2, temperature=own[i].item())
        torch.testing.assert_close(one, explicit(*alone[:2], mask=alone[2]).total)


def test_an_operator_can_take_the_place_of_the_gate(batch):
    scores, labels, mask = batch
    got = build(stages=2, operator="soft_sort", temperature=0.7)(scores[:2], labels, mask=mask)
    passed = top_k_probability(
        scores[0], QUOTAS[0], operator="soft_sort", temperature=0.7, mask=mask
    )
    count = mask.sum(-1, keepdim=True)
    first, second = (s - (s * mask).sum(-1, keepdim=True) / count for s in scores[:2])
    merged = (1 - passed) * first + passed * second
    torch.testing.assert_close(got.total, ranknet_loss(merged, labels, mask=mask))


def test_equal_labels_carry_no_preference(batch):
    scores, labels, mask = batch
    assert build()(scores, torch.ones_like(labels), mask=mask).total == 0


def test_wrong_options_and_what_the_published_form_fixes_are_refused(batch):
    scores, labels, _ = batch
    with pytest.raises(ConfigError, match="temperature must be a positive number"):
        build(temperature=0.0)
    with pytest.raises(ConfigError, match="loss='bce'"):
        build(loss="bce")
    with pytest.raises(ConfigError, match="fixes loss"):
        build(loss="lambda_ndcg", published=True)
    with pytest.raises(ConfigError, match="fixes temperature"):
        build(temperature=1.0, published=True)
    with pytest.raises(ConfigError, match="fixes operator"):
        build(operator="soft_sort", published=True)
    with pytest.raises(ConfigError, match="fixes relative_temperature"):
        build(relative_temperature=True, published=True)
    with pytest.raises(ConfigError, match="did you mean 'soft_sort'"):
        build(operator="soft_srot")
    with pytest.raises(ShapeError, match="at least 40 candidates"):
        build(published=True)(scores, labels)
    long = torch.zeros(len(scores), 1, 45)
    assert build(published=True)(long, long[0], mask=torch.arange(45)[None] < 40).total.isfinite()
    with pytest.raises(ShapeError, match=r"at least 40 candidates.* got a list of 39\. Leave out"):
        build(published=True)(long, long[0], mask=torch.arange(45)[None] < 39)
