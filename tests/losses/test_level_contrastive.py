"""Level contrastive: one denominator for each level, agreement with plain Python, options."""

from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.losses import level_contrastive_loss
from tests.oracles.contrast import level_contrastive

DOUBLE = {"dtype": torch.float64}


@st.composite
def lists(draw):
    n = draw(st.integers(1, 9))

    def column(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    scores = column(st.integers(-12, 12).map(lambda x: x / 4))
    return scores, column(st.integers(0, 3)), column(st.integers(0, 4)), column(st.booleans())


@given(
    case=lists(),
    temperature=st.sampled_from([0.1, 1.0, 20.0]),
    weights=st.none() | st.lists(st.sampled_from([0.0, 0.1, 3.0]), min_size=5, max_size=5),
    pointwise=st.sampled_from([0.0, 0.7]),
)
@settings(max_examples=80, deadline=None)
def test_agrees_with_plain_python(case, temperature, weights, pointwise):
    scores, labels, levels, exposed = case
    got = level_contrastive_loss(
        torch.tensor(scores, **DOUBLE),
        torch.tensor(labels),
        threshold=2,
        levels=torch.tensor(levels),
        level_weights=weights,
        exposed=torch.tensor(exposed),
        pointwise=pointwise,
        temperature=temperature,
    )
    want = level_contrastive(
        scores,
        [y >= 2 for y in labels],
        levels,
        weights=weights or [1.0] * 5,
        temperature=temperature,
        negatives=[True] * len(scores),
        exposed=exposed,
        pointwise=pointwise,
    )
    torch.testing.assert_close(got, torch.tensor(want, **DOUBLE), rtol=1e-9, atol=1e-12)


@given(case=lists())
@settings(max_examples=30, deadline=None)
def test_each_distinct_label_is_a_level_by_default(case):
    scores, labels, _, _ = case
    scores, labels = torch.tensor(scores, **DOUBLE), torch.tensor(labels)
    mask = torch.tensor([*[True] * len(labels), False])
    padded = torch.cat([labels, labels.new_tensor([7])])
    got = level_contrastive_loss(
        torch.cat([scores, scores[:1]]), 10.0 * padded - 3, k=2, pointwise=0.0, mask=mask
    )
    want = level_contrastive_loss(scores, labels, k=2, pointwise=0.0, levels=labels)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_the_gradient_is_the_derivative(temperature):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 8, generator=g, **DOUBLE).requires_grad_()
    labels = torch.randint(0, 4, (3, 8), generator=g)
    mask = torch.arange(8) < torch.tensor([[8], [6], [3]])

    def loss(scores, temperature):
        options = {"k": 2, "levels": labels, "exposed": labels > 1, "mask": mask}
        return level_contrastive_loss(
            scores, labels, temperature=temperature, reduction="none", **options
        )

    tau = torch.tensor([1.0, 2.0, 0.5], **DOUBLE) * temperature
    torch.autograd.gradcheck(loss, (scores, tau.requires_grad_()))


def test_a_level_with_high_scores_does_not_take_the_gradient_of_the_others():
    """With a common denominator, the gradient of the low level would be e^-3 of the other's."""
    scores = torch.tensor([0.0, 0.0, 3.0], **DOUBLE).requires_grad_()
    levels = torch.tensor([2, 0, 1])
    loss = level_contrastive_loss(scores, levels, k=1, levels=levels, pointwise=0.0)
    (gradient,) = torch.autograd.grad(loss, scores)
    of_low, of_high = 1 / 2, exp(3) / (1 + exp(3))
    want = torch.tensor([-of_low - of_high, of_low, of_high], **DOUBLE)
    torch.testing.assert_close(gradient, want)
    torch.testing.assert_close(loss.item(), log(2) + log(1 + exp(3)))


@pytest.mark.parametrize("case", ["no positives", "no negatives", "one level of weight 0"])
def test_a_list_without_positives_or_negatives_costs_0_and_has_no_gradient(case):
    labels = torch.tensor([[1, 0, 0], [2, 1, 0]])
    options = {"threshold": 2 if case == "no positives" else 1, "pointwise": 0.0}
    if case == "no positives":
        options["pointwise"] = 1.0
    elif case == "no negatives":
        options["mask"] = torch.tensor([[True, False, False], [True, True, True]])
    else:
        levels = torch.tensor([[0, 0, 0], [2, 1, 1]])
        options.update(levels=levels, level_weights=(0.0, 1.0, 1.0))
    scores = torch.zeros(2, 3, requires_grad=True)
    values = level_contrastive_loss(scores, labels, reduction="none", **options)
    (gradient,) = torch.autograd.grad(values.sum(), scores)
    assert values[0] == 0
    assert not gradient[0].any()
    assert values[1] > 0
    assert gradient[1].any()


def test_levels_with_one_value_are_one_level():
    scores, labels = torch.tensor([2.0, 0.0, 1.0]), torch.tensor([3.0, 1.0, 0.0])
    got = level_contrastive_loss(
        scores, labels, k=1, levels=torch.full((3,), 5), level_weights=[1.0] * 6, pointwise=0.0
    )
    torch.testing.assert_close(got.item(), log(1 + exp(-2) + exp(-1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level_weights": (1.0, 2.0)}, "level_weights requires levels; got [1.0, 2.0] without"),
        (
            {"levels": torch.tensor([0, 1, 2]), "level_weights": (1.0, 2.0)},
            "level_weights must have one value per level, 3 for levels up to 2; got [1.0, 2.0]",
        ),
        (
            {"levels": torch.tensor([0, 1, -2])},
            "levels must be from 0 to 63; got levels from -2 to 1",
        ),
        (
            {"levels": torch.tensor([0, 64, 1])},
            "levels must be from 0 to 63; got levels from 0 to 64",
        ),
    ],
    ids=str,
)
def test_wrong_levels_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        level_contrastive_loss(torch.zeros(3), torch.tensor([0, 1, 2]), k=1, **options)
    assert message in str(caught.value)


def test_more_than_64_labels_are_no_levels():
    scores, labels = torch.zeros(70), torch.arange(70)
    with pytest.raises(ConfigError, match="at most 64; got a list of 70; give levels"):
        level_contrastive_loss(scores, labels, k=5)
    assert level_contrastive_loss(scores, labels, k=5, levels=labels // 10) > 0
