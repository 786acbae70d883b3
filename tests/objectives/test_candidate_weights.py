"""Weights of candidates multiply the gradient of all their scores, and change no value."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from cascaderank.batch import RequestBatch
from cascaderank.errors import ShapeError
from cascaderank.objectives import CascadeInputs, build_objective
from cascaderank.objectives._candidate_weights import with_weighted_gradient
from cascaderank.stages import Chance, StageOutput

LABELS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
MASK = torch.tensor([[True] * 4, [True, True, True, False]])
WEIGHTS = torch.tensor([[0.0, 2.0, 0.5, 1.0], [3.0, 0.25, 0.0, float("nan")]])
LEVELS = torch.tensor([[3, 2, 0, 3], [0, 3, 3, 0]])
FEEDBACK = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])


def leaf(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64, requires_grad=True)


def batch_of(weights):
    return RequestBatch(
        mask=MASK, items={}, labels=LABELS, levels=LEVELS, feedback=FEEDBACK, weights=weights,
        rows=torch.arange(2),
    )  # fmt: skip


def test_bce_has_the_gradient_of_the_weighted_sum_of_costs():
    scores = leaf(2, 4)
    objective = build_objective("bce", stages=1, quotas=(2,), threshold=1, entry_levels=(0,))
    inputs = CascadeInputs.of_batch(batch_of(WEIGHTS), [StageOutput(scores=scores)])
    out = objective.evaluate(inputs)
    cost = binary_cross_entropy_with_logits(scores, LABELS, reduction="none")
    plain = torch.stack([cost[0].mean(), cost[1, :3].mean()]).mean()
    torch.testing.assert_close(out.total, plain)
    costs = WEIGHTS.nan_to_num(0) * cost
    weighted = torch.stack([costs[0].mean(), costs[1, :3].mean()]).mean()
    (expected,) = torch.autograd.grad(weighted, scores, retain_graph=True)
    (found,) = torch.autograd.grad(out.total, scores)
    torch.testing.assert_close(found, expected)


def of_classes(logits):
    classes = logits.log_softmax(-1)
    return StageOutput(scores=classes[..., 0] - classes[..., 2], classes=classes)


def of_towers(logits):
    def chance(x):
        return Chance(torch.nn.functional.logsigmoid(x), torch.nn.functional.logsigmoid(-x))

    events = {"click": chance(logits[..., 0]), "exposure": chance(logits[..., 1])}
    return StageOutput(scores=logits[..., 0], events=events)


@pytest.mark.parametrize("stage", [of_classes, of_towers])
@pytest.mark.parametrize("joint", [None, {"name": "bce", "entry_levels": (0,)}])
def test_all_scores_of_a_candidate_have_its_weight(stage, joint):
    """Classes and towers are trained too, alone or with an objective of the scores."""
    options = {"exposed_level": 3} | ({"joint": joint} if joint else {})
    objective = build_objective("entire_chain", stages=1, quotas=(2,), ground_truth=1, **options)

    def gradient(weights):
        logits = leaf(2, 4, 3)
        inputs = CascadeInputs.of_batch(batch_of(weights), [stage(logits)])
        total = objective.evaluate(inputs).total
        return total.detach(), *torch.autograd.grad(total, logits)

    (value, weighted), (expected, plain) = gradient(WEIGHTS), gradient(None)
    assert torch.equal(value, expected)
    known = WEIGHTS.nan_to_num(0)
    torch.testing.assert_close(weighted, plain * known.unsqueeze(-1), rtol=1e-12, atol=0)
    assert (weighted[..., 0] != 0).equal((known != 0) & (plain[..., 0] != 0))


def test_the_penalty_of_gates_keeps_its_gradient():
    gate = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    output = StageOutput(scores=leaf(2, 4), penalty=gate * 3, most=6.0)
    inputs = CascadeInputs.of_batch(batch_of(torch.zeros(2, 4)), [output])
    inputs.outputs[0].penalty.backward()
    assert gate.grad == 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_values_keep_their_bits_and_gradients_their_dtype(dtype):
    values = leaf(2, 4).detach().to(dtype).requires_grad_()
    weighted = with_weighted_gradient(values, WEIGHTS)
    assert torch.equal(weighted, values)
    weighted.square().sum().backward()
    assert values.grad.dtype is dtype
    expected = (2 * values.detach() * WEIGHTS).to(dtype)
    torch.testing.assert_close(values.grad, expected, equal_nan=True)


def test_gradients_of_gradients_are_weighted_too():
    values = leaf(3)
    (first,) = torch.autograd.grad(
        (with_weighted_gradient(values, torch.tensor([0.0, 1.0, 2.0])) ** 3).sum(),
        values,
        create_graph=True,
    )
    (second,) = torch.autograd.grad(first.sum(), values)
    assert second[0] == 0
    assert second[1:].count_nonzero() == 2


@pytest.mark.parametrize("weights", [torch.ones(2, 3), torch.ones(2, 4).long(), torch.ones(2, 1)])
def test_weights_of_another_shape_or_type_are_refused(weights):
    inputs = CascadeInputs.of_batch(batch_of(None), [StageOutput(scores=leaf(2, 4))])
    with pytest.raises(ShapeError, match=r"weights must be floating point \[batch, list\]"):
        inputs.weighted(weights)
