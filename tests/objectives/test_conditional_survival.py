"""The objective is its loss at the quotas of the cascade, and its options do what they say."""

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.losses import conditional_survival_loss
from cascaderank.objectives import build_objective
from cascaderank.sorting import relative_temperature

QUOTAS = (5, 3)


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(5)
    scores = torch.randn(2, 3, 9, generator=g, dtype=torch.float64)
    labels = torch.randint(0, 6, (3, 9), generator=g).double()
    mask = torch.arange(9) < torch.tensor([[9], [6], [4]])
    return scores, labels, mask


def objective(**options):
    options = {"ground_truth": 2, **options}
    return build_objective("conditional_survival", stages=2, quotas=QUOTAS, **options)


@pytest.mark.parametrize("truth", [{"k": 2}, {"threshold": 4.0}], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_it_is_the_loss(batch, truth, temperature):
    scores, labels, mask = batch
    options = {"ground_truth": truth.get("k"), "threshold": truth.get("threshold")}
    out = objective(temperature=temperature, **options)(scores, labels, mask=mask)
    given = {"quotas": QUOTAS, "temperature": temperature, "mask": mask, **truth}
    torch.testing.assert_close(out.total, conditional_survival_loss(scores, labels, **given))


def test_the_usual_temperature_is_one(batch):
    scores, labels, mask = batch
    got = objective()(scores, labels, mask=mask).total
    assert got == objective(temperature=1.0)(scores, labels, mask=mask).total


def test_a_relative_temperature_is_that_of_each_list_and_stage(batch):
    scores, labels, mask = batch
    got = objective(relative_temperature=True, temperature=0.7)(scores, labels, mask=mask).total
    own = relative_temperature(scores, 0.7, operator="sigmoid", mask=mask.expand_as(scores))
    given = {"quotas": QUOTAS, "k": 2, "temperature": own, "mask": mask}
    torch.testing.assert_close(got, conditional_survival_loss(scores, labels, **given))
    scaled = scores * torch.tensor([100.0, 0.01])[:, None, None]
    same = objective(relative_temperature=True, temperature=0.7)(scaled, labels, mask=mask).total
    torch.testing.assert_close(same, got)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ConfigError, match="temperature must be a positive number"):
        objective(temperature=temperature)
