"""An objective sums, weights and reports its terms."""

from math import exp, log

import pytest
import torch

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.objectives import Objective, Term

SCORES, LABELS = torch.full((2, 1, 3), 2.0), torch.zeros(1, 3)


def three(inputs):
    return inputs.scores.mean() + 1


def five(inputs):
    return inputs.scores.sum() / 12 + 4


def test_fixed_weights_are_factors():
    objective = Objective([Term("a", three), Term("b", five, 0.5)], stages=2)
    out = objective(SCORES, LABELS)
    assert out.total == 3 + 0.5 * 5
    assert out.terms == {"a": 3.0, "b": 5.0}
    assert out.weights == objective.weights() == {"a": 1.0, "b": 0.5}
    assert not list(objective.parameters())


def test_a_learned_weight_is_an_uncertainty():
    objective = Objective([Term("a", three), Term("b", five, "learned")], stages=2)
    with torch.no_grad():
        objective.log_weights["b"].fill_(0.3)
    out = objective(SCORES, LABELS)
    assert out.total.item() == pytest.approx(3 + 5 / (2 * exp(0.3) ** 2) + 0.3)
    assert out.terms["b"] == 5.0
    assert out.weights["b"].item() == pytest.approx(exp(-0.6) / 2)
    out.total.backward()
    assert objective.log_weights["b"].grad.item() == pytest.approx(1 - 5 * exp(-0.6))


def test_a_learned_weight_converges_to_the_square_root_of_its_term():
    objective = Objective([Term("b", five, "learned")], stages=2)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        objective(SCORES, LABELS).total.backward()
        optimizer.step()
    assert objective.log_weights["b"].item() == pytest.approx(log(5) / 2, abs=1e-3)


def raw(weight):
    objective = Objective([Term("b", five, "learned")], stages=2, raw_weights=True).double()
    with torch.no_grad():
        objective.raw_weights["b"].fill_(weight)
    return objective


@pytest.mark.parametrize("weight", [0.3, 1.0, 2.5, -0.3])
def test_a_raw_learned_weight_is_an_uncertainty_of_its_absolute_value(weight):
    objective = raw(weight)
    out = objective(SCORES, LABELS)
    assert out.total.item() == pytest.approx(5 / (2 * weight**2) + log(abs(weight)))
    assert out.weights["b"].item() == pytest.approx(1 / (2 * weight**2))
    out.total.backward()
    assert objective.raw_weights["b"].grad.item() == pytest.approx(1 / weight - 5 / weight**3)
    assert not objective.log_weights


def test_a_raw_learned_weight_of_0_is_finite():
    objective = raw(0.0)
    total = objective(SCORES, LABELS).total
    total.backward()
    assert total.item() == pytest.approx(5 / (2 * 1e-4**2) + log(1e-4))
    assert objective.raw_weights["b"].grad.isfinite()


def test_raw_and_logarithmic_weights_start_equal_and_move_at_other_rates():
    """A step of Adam has the size of the learning rate in the parameter."""
    found = {}
    for raw_weights in (False, True):
        objective = Objective([Term("b", five, "learned")], stages=2, raw_weights=raw_weights)
        first = objective(SCORES, LABELS)
        optimizer = torch.optim.Adam(objective.parameters(), lr=0.5)
        first.total.backward()
        optimizer.step()
        found[raw_weights] = first.total.item(), first.weights["b"].item(), *objective.parameters()
    assert found[False][:2] == found[True][:2] == (2.5, 0.5)
    assert found[True][2].item() == pytest.approx(1.5)
    assert exp(found[False][2].item()) == pytest.approx(exp(0.5))


def test_a_state_with_logarithmic_weights_is_converted_to_raw_ones():
    old = Objective([Term("a/b.c", five, "learned")], stages=2)
    with torch.no_grad():
        for parameter in old.parameters():
            parameter.fill_(0.7)
    new = Objective([Term("a/b.c", five, "learned")], stages=2, raw_weights=True)
    new.load_state_dict(old.state_dict())
    (weight,) = new.parameters()
    assert weight.item() == pytest.approx(exp(0.7))
    torch.testing.assert_close(new(SCORES, LABELS).total, old(SCORES, LABELS).total)
    new.load_state_dict(new.state_dict())
    assert weight.item() == pytest.approx(exp(0.7))


def test_shared_intermediates_are_computed_once_per_batch():
    calls = []

    def common(inputs):
        calls.append(inputs)
        return inputs.scores.mean()

    def with_common(inputs):
        return inputs.once(common)

    objective = Objective([Term("a", with_common), Term("b", with_common)], stages=2)
    assert objective(SCORES, LABELS).total == 4
    assert objective(2 * SCORES, LABELS).total == 8
    assert len(calls) == 2


def test_terms_receive_all_arguments_and_always_a_mask():
    seen = []

    def look(inputs):
        seen.append(inputs)
        return inputs.scores.sum()

    objective, levels = Objective([Term("look", look)], stages=2), torch.zeros(1, 3).long()
    objective(SCORES, LABELS, levels=levels)
    assert seen[0].mask.all()
    assert seen[0].mask.shape == LABELS.shape
    assert seen[0].levels is levels
    objective(SCORES, LABELS)
    assert seen[1].levels is None


def test_terms_must_have_distinct_names():
    for terms in ([], [Term("a", three), Term("a", five)]):
        with pytest.raises(ConfigError, match="distinct names"):
            Objective(terms, stages=2)


def test_another_number_of_stages_is_refused():
    with pytest.raises(ShapeError, match="built for 3 stages"):
        Objective([Term("a", three)], stages=3)(SCORES, LABELS)


def test_a_weight_can_be_a_function_of_the_progress():
    objective = Objective([Term("a", three), Term("b", five, lambda p: 2 * p)], stages=2)
    out = objective(SCORES, LABELS, progress=0.25)
    assert out.total == 3 + 0.5 * 5
    assert out.weights == objective.weights(0.25) == {"a": 1.0, "b": 0.5}
    assert objective.weights() == {"a": 1.0, "b": 2.0}


def test_terms_receive_the_progress():
    objective = Objective([Term("a", lambda i: i.scores.sum() * i.progress)], stages=2)
    assert objective(SCORES, LABELS, progress=0.5).total == 6
    assert objective(SCORES, LABELS).total == 12
