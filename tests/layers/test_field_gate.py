"""Field gates against loops."""

import torch

from cascaderank.layers.field_gate import FieldGate


def test_each_field_is_multiplied_by_its_own_weight():
    torch.manual_seed(0)
    gate = FieldGate([2, 1], [3])
    request, items = torch.randn(2, 3), torch.randn(2, 4, 3)
    weights = gate(request, items)
    gated = gate.gated(request, items, weights)
    matrix, bias = gate.weigh.both.weight, gate.weigh.both.bias
    for b in range(2):
        for i in range(4):
            e = torch.cat([request[b], items[b, i]])
            w = torch.sigmoid(matrix @ e + bias)
            want = torch.cat([w[0] * e[:2], w[1] * e[2:3], w[2] * e[3:]])
            torch.testing.assert_close(weights[b, i], w)
            torch.testing.assert_close(gated[b, i], want)


def test_a_request_without_features_is_fine():
    gate = FieldGate([], [2])
    weights = gate(torch.zeros(2, 0), torch.randn(2, 3, 2))
    assert gate.gated(torch.zeros(2, 0), torch.ones(2, 3, 2), weights).shape == (2, 3, 2)
