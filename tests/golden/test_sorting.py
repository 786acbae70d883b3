"""NeuralSort and SoftSort agree with values computed outside this project."""

import pytest
import torch

from cascaderank.sorting import permutation
from tests.golden.conftest import GRADIENT, VALUE

OPERATORS = {"neuralsort": "neural_sort", "soft_sort": "soft_sort"}


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("name", list(OPERATORS))
def test_permutation(golden, name, temperature):
    table = golden.content["sort_ops"]
    expected = table["results"][f"{name}_tau{temperature}"]
    scores = golden.tensor(table["scores"]).requires_grad_()
    rows = permutation(scores, operator=OPERATORS[name], temperature=temperature)
    (rows * golden.tensor(table["W"])).sum().backward()
    torch.testing.assert_close(rows, golden.tensor(expected["P"]), rtol=0, atol=VALUE)
    torch.testing.assert_close(
        scores.grad, golden.tensor(expected["grad_of_sum_PW"]), rtol=0, atol=GRADIENT
    )
