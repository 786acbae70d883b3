"""The objective equals its loss at the quotas of the cascade; options have their documented effect."""

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.losses import conditional_survival_loss, ranknet_loss
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


def test_the_default_temperature_is_one(batch):
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


@pytest.mark.parametrize("with_levels", [True, False])
def test_a_warm_up_ranks_pairs_and_fades_out(batch, with_levels):
    scores, labels, mask = batch
    levels = (labels / 2).long() if with_levels else None
    warm = objective(warm_up=0.8)
    usual = objective()(scores, labels, mask=mask, levels=levels).total
    given = {"balance": "labels", "mask": mask}
    pairs = sum(ranknet_loss(s, labels if levels is None else levels, **given) for s in scores)
    for progress in (0.0, 0.25, 1.0):
        out = warm(scores, labels, mask=mask, levels=levels, progress=progress)
        assert list(out.terms) == ["conditional_survival", "ranknet/stage_1", "ranknet/stage_2"]
        assert out.weights["ranknet/stage_2"].item() == pytest.approx(0.8 * (1 - progress))
        torch.testing.assert_close(out.total, usual + 0.8 * (1 - progress) * pairs)
    torch.testing.assert_close(warm(scores, labels, mask=mask, levels=levels).total, usual)


@pytest.mark.parametrize("warm_up", [-1.0, float("inf"), float("nan")])
def test_a_negative_warm_up_is_refused(warm_up):
    with pytest.raises(ConfigError, match="warm_up must be a number of at least 0"):
        objective(warm_up=warm_up)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ConfigError, match="temperature must be a positive number"):
        objective(temperature=temperature)
