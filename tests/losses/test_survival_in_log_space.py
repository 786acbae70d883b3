"""Gradients of the survival and top-k losses in log space, with and without padding."""

import pytest
import torch

from cascaderank.losses import survival_loss, top_k_loss
from cascaderank.losses.survival import _LogSurvival


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_the_probability_of_being_dropped_has_gradient_through_the_drops_only(stages):
    g = torch.Generator().manual_seed(0)
    dropped = torch.rand(stages, 4, 6, generator=g, dtype=torch.float64).log().requires_grad_()
    kept = torch.log1p(-dropped.detach().exp()).requires_grad_()
    want = torch.log1p(-(1 - dropped.exp()).prod(0))
    survived, lost = _LogSurvival.apply(kept, dropped)
    torch.testing.assert_close(survived, kept.sum(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(lost, want, rtol=0, atol=1e-12)
    grad_lost = torch.rand(4, 6, generator=g, dtype=torch.float64)
    (want_dropped,) = torch.autograd.grad(want, dropped, grad_lost)
    grad_survived = torch.rand(4, 6, generator=g, dtype=torch.float64)
    grad_dropped, grad_kept = torch.autograd.grad(
        (lost, survived), (dropped, kept), (grad_lost, grad_survived)
    )
    torch.testing.assert_close(grad_dropped, want_dropped, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad_kept, grad_survived.expand_as(kept), rtol=0, atol=0)


@pytest.mark.parametrize("loss", [survival_loss, top_k_loss])
def test_full_lists_have_the_same_loss_with_and_without_padding(loss):
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(3, 4, 6, generator=g, dtype=torch.float64).requires_grad_()
    labels = torch.randn(3, 4, 6, generator=g, dtype=torch.float64)
    labels = labels[0] if loss is survival_loss else labels
    padded_scores, padded_labels = (
        torch.nn.functional.pad(x, (0, 1), value=9.0) for x in (scores, labels)
    )
    mask = torch.arange(7).expand(padded_labels.shape) < 6
    losses = [
        loss(scores, labels, k=2, reduction="none"),
        loss(padded_scores, padded_labels, k=2, mask=mask, reduction="none"),
    ]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(value.sum(), scores)[0] for value in losses]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_lists_without_candidates_have_loss_0():
    assert top_k_loss(torch.zeros(2, 0), torch.zeros(2, 0), k=1) == 0
