"""Relaxed sorting networks against plain Python, and that they sort."""

from itertools import product

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.sorting import OPERATORS, log_top_k_probability, permutation, top_k_probability
from tests.oracles import networks

NETWORKS = ["odd_even", "bitonic"]
SWAPS = list(networks.SWAPS)


def random_list(length, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(length, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 13])
def test_agrees_with_plain_python(network, swap, length):
    scores, operator = random_list(length), OPERATORS[network](swap=swap)
    for temperature in (0.1, 2.0):
        rows = permutation(scores, operator=operator, temperature=temperature)
        want = networks.permutation(getattr(networks, network), scores.tolist(), swap, temperature)
        torch.testing.assert_close(rows, torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("swap", SWAPS)
def test_the_top_k_is_the_sum_of_the_first_rows(network, swap):
    scores, operator = random_list(11).expand(10, 11), OPERATORS[network](swap=swap)
    rows = permutation(scores, operator=operator)
    kept = top_k_probability(scores, torch.arange(1, 11), operator=operator)
    torch.testing.assert_close(kept, rows.cumsum(-2)[0, :10])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("swap", SWAPS)
def test_columns_add_up_to_one(network, swap):
    rows = permutation(random_list(13), operator=OPERATORS[network](swap=swap))
    torch.testing.assert_close(rows.sum(-2), torch.ones(13, dtype=torch.float64))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("length", range(1, 11))
def test_it_sorts_whatever_the_order(network, length):
    """What sorts all lists of zeros and ones sorts all lists."""
    scores = torch.tensor(list(product([0.0, 1.0], repeat=length)))
    rows = permutation(scores, operator=OPERATORS[network](swap="logistic"), temperature=1e-3)
    in_order = (rows @ scores[..., None])[..., 0]
    torch.testing.assert_close(in_order, scores.sort(-1, descending=True).values)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("temperature", [0.1, 1.0, 20.0])
def test_the_gradient_is_the_derivative(network, swap, temperature):
    scores, mask = torch.stack([random_list(7), random_list(7, seed=1)]), torch.ones(2, 7).bool()
    mask[1, [0, 4]] = False
    operator = OPERATORS[network](swap=swap)

    def logs(scores):
        options = {"operator": operator, "temperature": temperature, "mask": mask}
        return torch.stack(log_top_k_probability(scores, 3, **options))[:, mask]

    torch.autograd.gradcheck(logs, scores.requires_grad_())


@pytest.mark.parametrize("network", NETWORKS)
def test_padding_between_candidates_is_left_out(network):
    scores, mask = random_list(24), torch.ones(24).bool()
    mask[torch.arange(0, 24, 3)] = False
    rows = permutation(scores, operator=network, mask=mask)
    want = permutation(scores[mask], operator=network)
    torch.testing.assert_close(rows[:16, mask], want)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_logistic_swap_is_exact_where_the_probability_is_not(network):
    scores = torch.tensor([0.0, 800.0])
    logs = log_top_k_probability(scores, 1, operator=OPERATORS[network](swap="logistic"))
    torch.testing.assert_close(logs, (torch.tensor([-800.0, 0]), torch.tensor([0, -800.0])))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_cauchy_swap_of_distant_scores_is_exact_when_it_is_unlikely(network):
    kept = top_k_probability(torch.tensor([0.0, 1e9]), 1, operator=network)
    assert kept[0].item() == pytest.approx(1e-9 / torch.pi)


def test_an_unknown_swap_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'cauchy'"):
        OPERATORS["odd_even"](swap="cauchi")
