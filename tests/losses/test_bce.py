"""Binary cross-entropy against the formula."""

from math import exp, log1p

import pytest
import torch

from cascaderank.losses import bce_loss
from tests.oracles.losses import bce


def test_the_loss_equals_the_formula():
    scores, labels = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.25])
    want = ((log1p(exp(2.0)) - 2.0) + (log1p(exp(-1.0)) + 0.25)) / 2
    assert bce_loss(scores, labels).item() == pytest.approx(want)


def test_agrees_with_plain_python_on_ragged_lists():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 20, generator=g, dtype=torch.float64)
    labels = torch.rand(5, 20, generator=g, dtype=torch.float64)
    real = torch.tensor([20, 7, 3, 1, 0])
    got = bce_loss(scores, labels, mask=torch.arange(20) < real[:, None], reduction="none")
    want = [bce(scores[i, :n].tolist(), labels[i, :n].tolist()) for i, n in enumerate(real[:-1])]
    assert got.tolist() == pytest.approx([*want, 0.0])


def test_the_gradient_passes_gradcheck():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 5, generator=g, dtype=torch.float64, requires_grad=True)
    labels = torch.rand(2, 5, generator=g, dtype=torch.float64)
    torch.autograd.gradcheck(lambda s: bce_loss(s, labels), scores)
