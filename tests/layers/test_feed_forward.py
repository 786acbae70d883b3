"""MLPs: hidden units are normalised if the option is set, and only then."""

import pytest
import torch
from torch import nn

from cascaderank.layers.feed_forward import PairMLP, mlp


@pytest.mark.parametrize("hidden", [(8,), (8, 4)])
def test_every_hidden_layer_is_normalised_before_its_activation(hidden):
    layers = list(mlp(3, hidden, 1, norm="layer"))
    for linear, norm, activation in zip(layers[::3], layers[1::3], layers[2::3], strict=False):
        assert isinstance(linear, nn.Linear)
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(activation, nn.ReLU)
    assert [norm.normalized_shape for norm in layers[1::3]] == [(width,) for width in hidden]
    assert not any(isinstance(layer, nn.LayerNorm) for layer in mlp(3, hidden, 1))


def test_scores_of_a_normalised_network_are_invariant_to_the_scale_of_its_first_layer():
    torch.manual_seed(0)
    network = PairMLP(2, 3, (16, 8), norm="layer")
    request, items = torch.randn(4, 2), torch.randn(4, 5, 3)
    before = network(request, items)
    with torch.no_grad():
        for parameter in network.first.parameters():
            parameter *= 100
    torch.testing.assert_close(network(request, items), before, rtol=1e-3, atol=1e-4)


def test_pairs_of_two_sides_are_scored_as_candidates_of_a_request_are():
    torch.manual_seed(0)
    network = PairMLP(2, 3, (16,), norm="layer")
    lefts, rights = torch.randn(2, 4, 2), torch.randn(2, 5, 3)
    of_pairs = network.of_pairs(lefts, rights)
    one_by_one = torch.stack([network(lefts[:, i], rights) for i in range(4)], 1)
    torch.testing.assert_close(of_pairs, one_by_one)
