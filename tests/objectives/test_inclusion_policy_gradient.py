"""The objective is the loss without propensities, with labels as rewards."""

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.losses import inclusion_policy_gradient_loss
from cascaderank.objectives import build_objective
from cascaderank.sorting import relative_temperature


def built(**options):
    return build_objective("inclusion_policy_gradient", stages=2, quotas=(4, 2), **options)


@pytest.mark.parametrize("relative", [False, True])
def test_it_is_the_loss_with_labels_as_rewards(relative):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 7, generator=g, dtype=torch.float64)
    rewards = torch.randint(0, 3, (3, 7), generator=g)
    mask = torch.arange(7) < torch.tensor([[7], [5], [0]])
    got = built(temperature=0.3, relative_temperature=relative)(scores, rewards, mask=mask)
    temperature = torch.tensor(0.3)
    if relative:
        temperature = relative_temperature(
            scores, 0.3, operator="sigmoid", mask=mask.expand_as(scores)
        )
    want = inclusion_policy_gradient_loss(
        scores, rewards, quotas=(4, 2), temperature=temperature, mask=mask
    )
    torch.testing.assert_close(got.total, want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("option", ["propensities", "clip"])
def test_a_batch_has_no_propensities(option):
    with pytest.raises(ConfigError, match=f"has no option '{option}'"):
        built(**{option: 2.0})
