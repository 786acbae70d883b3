"""Sub-network routing against loops, and pruning of closed gates."""

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.layers.routing import Routing


def routing_of(*, codes=None, tower_codes=None, towers=3, blocks=(4, 2), width=5):
    torch.manual_seed(0)
    routing = Routing(6, towers=towers, blocks=blocks, width=width).double().eval()
    with torch.no_grad():
        for gate, values in ((routing.codes, codes), (routing.tower_codes, tower_codes)):
            drawn = torch.randn_like(gate.log_alpha) if values is None else torch.tensor(values)
            gate.log_alpha.copy_(drawn)
    return routing


def by_loops(routing, x):
    width = routing.second[0].in_features
    z, towers = routing.codes(), routing.tower_codes()
    weight, bias = routing.first.weight, routing.first.bias
    us = []
    for j in range(z.shape[1]):
        rows = slice(j * width, (j + 1) * width)
        us.append((weight[rows] @ x + bias[rows]).relu())
    mixed = [sum(z_ij * u for z_ij, u in zip(row, us, strict=True)) for row in z]
    vs = [block(m).relu() for block, m in zip(routing.second, mixed, strict=True)]
    return torch.stack([sum(t[i] * vs[i] for i in range(len(vs))) for t in towers])


def test_agrees_with_the_formula():
    routing, x = routing_of(), torch.randn(3, 6).double()
    want = torch.stack([by_loops(routing, row) for row in x])
    torch.testing.assert_close(routing(x), want)
    torch.testing.assert_close(routing(x, [2, 0]), want[:, [2, 0]])


def test_the_expected_l0_counts_all_gates():
    routing = routing_of()
    want = routing.codes.open_probability().sum() + routing.tower_codes.open_probability().sum()
    torch.testing.assert_close(routing.expected_open(), want)
    assert routing.gates == 4 * 2 + 2 * 3


@pytest.mark.parametrize("towers", [[0], [1], [2, 0], [0, 1, 2]])
def test_pruned_is_the_same_function_and_smaller(towers):
    closed, opened = -6.0, 2.0
    routing = routing_of(
        # No block reads the last first-layer block; only the second block reads the third.
        codes=[[opened, 0.3, closed, closed], [0.1, closed, opened, closed]],
        # The first tower reads the first block alone.
        tower_codes=[[0.4, closed], [opened, 0.2], [0.1, opened]],
    )
    x = torch.randn(7, 6).double()
    pruned = routing.pruned(towers)
    torch.testing.assert_close(pruned(x), routing(x, towers), rtol=1e-12, atol=1e-12)
    second = 1 if towers == [0] else 2
    assert len(pruned.second) == second
    assert pruned.first.out_features == 5 * (2 if towers == [0] else 3)


def test_with_all_gates_closed_one_block_of_each_layer_stays_and_outputs_zero():
    routing = routing_of(codes=[[-9.0] * 4] * 2, tower_codes=[[-9.0] * 2] * 3)
    pruned, x = routing.pruned([0, 1]), torch.randn(2, 6).double()
    assert (len(pruned.second), pruned.first.out_features) == (1, 5)
    assert torch.equal(pruned(x), torch.zeros(2, 2, 5).double())


def test_what_was_pruned_has_no_gates_to_count():
    pruned = routing_of().pruned([0])
    with pytest.raises(ConfigError, match="pruned already"):
        pruned.pruned([0])
    with pytest.raises(ConfigError, match="pruned already"):
        pruned.expected_open()


def test_sizes_must_be_positive():
    with pytest.raises(ConfigError, match="blocks and width must be positive"):
        Routing(6, towers=3, blocks=(8, 0))
