"""What survival loses, and what it is learned by, where nothing is left to be masked."""

import pytest
import torch

from cascaderank.losses import survival_loss, top_k_loss
from cascaderank.losses.survival import _LogSurvival


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_the_chance_to_be_dropped_by_any_stage_is_learned_through_the_drops(stages):
    g = torch.Generator().manual_seed(0)
    dropped = torch.rand(stages, 4, 6, generator=g, dtype=torch.float64).log().requires_grad_()
    kept = torch.log1p(-dropped.detach().exp()).requires_grad_()
    want = torch.log1p(-(1 - dropped.exp()).prod(0))
    survived, got = _LogSurvival.apply(kept, dropped)
    torch.testing.assert_close(survived, kept.sum(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    above = torch.rand(4, 6, generator=g, dtype=torch.float64)
    (of_dropped,) = torch.autograd.grad(want, dropped, above)
    more = torch.rand(4, 6, generator=g, dtype=torch.float64)
    found, of_kept = torch.autograd.grad((got, survived), (dropped, kept), (above, more))
    torch.testing.assert_close(found, of_dropped, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(of_kept, more.expand_as(kept), rtol=0, atol=0)


@pytest.mark.parametrize("loss", [survival_loss, top_k_loss])
def test_full_lists_cost_what_they_cost_beside_a_masked_candidate(loss):
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(3, 4, 6, generator=g, dtype=torch.float64).requires_grad_()
    labels = torch.randn(3, 4, 6, generator=g, dtype=torch.float64)
    labels = labels[0] if loss is survival_loss else labels
    padded, more = (torch.nn.functional.pad(x, (0, 1), value=9.0) for x in (scores, labels))
    mask = torch.arange(7).expand(more.shape) < 6
    costs = [
        loss(scores, labels, k=2, reduction="none"),
        loss(padded, more, k=2, mask=mask, reduction="none"),
    ]
    torch.testing.assert_close(*costs, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(cost.sum(), scores)[0] for cost in costs]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_lists_without_candidates_cost_nothing():
    assert top_k_loss(torch.zeros(2, 0), torch.zeros(2, 0), k=1) == 0
