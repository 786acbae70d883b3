"""The objective cuts where its options say, and adds conditional survival with its weight."""

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.losses import conditional_survival_loss, cut_likelihood_loss
from cascaderank.objectives import AnnealedWeight, build_objective
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
    options = {"ground_truth": 2, "coupling": 0.0, **options}
    return build_objective("cut_likelihood", stages=2, quotas=QUOTAS, **options)


def loss(batch, cuts, temperature=0.25):
    scores, labels, mask = batch
    return cut_likelihood_loss(
        scores, labels, quotas=QUOTAS, cuts=cuts, temperature=temperature, mask=mask
    )


def test_it_cuts_between_levels(batch):
    scores, labels, mask = batch
    levels = (labels / 2).long()  # 0, 1, 2
    sizes = torch.stack([((levels >= k) & mask).sum(-1) for k in (1, 2)], -1)
    out = objective()(scores, labels, mask=mask, levels=levels)
    assert list(out.terms) == ["cuts/stage_1", "cuts/stage_2"]
    torch.testing.assert_close(out.total, loss(batch, sizes))


def test_without_levels_it_cuts_at_the_ground_truth_and_at_the_quotas(batch):
    scores, labels, mask = batch
    torch.testing.assert_close(
        objective()(scores, labels, mask=mask).total, loss(batch, (2, *QUOTAS))
    )
    size = ((labels >= 4) & mask).sum(-1, keepdim=True)
    sizes = torch.cat([size, torch.tensor(QUOTAS).expand(3, -1)], -1)
    got = objective(ground_truth=None, threshold=4.0)(scores, labels, mask=mask).total
    torch.testing.assert_close(got, loss(batch, sizes))


@pytest.mark.parametrize("cuts", ["labels", (1, 4)], ids=str)
def test_other_cuts(batch, cuts):
    scores, labels, mask = batch
    got = objective(cuts=cuts, temperature=0.7)(scores, labels, mask=mask).total
    torch.testing.assert_close(got, loss(batch, cuts, 0.7))


def test_a_relative_temperature_is_that_of_each_list_and_stage(batch):
    scores, labels, mask = batch
    own = relative_temperature(scores, 0.7, operator="sigmoid", mask=mask.expand_as(scores))
    got = objective(relative_temperature=True, temperature=0.7, cuts="labels")
    torch.testing.assert_close(
        got(scores, labels, mask=mask).total, loss(batch, "labels", temperature=own)
    )


@pytest.mark.parametrize(
    ("coupling", "weights"), [(0.7, (0.7, 0.7)), (AnnealedWeight(start=0.0, end=2.0), (0.5, 2.0))]
)
def test_a_coupling_adds_conditional_survival(batch, coupling, weights):
    scores, labels, mask = batch
    coupled = objective(coupling=coupling)
    alone = objective()(scores, labels, mask=mask).total
    options = {"quotas": QUOTAS, "k": 2, "temperature": 0.25, "mask": mask}
    survival = conditional_survival_loss(scores, labels, **options)
    for progress, weight in zip((0.25, 1.0), weights, strict=True):
        out = coupled(scores, labels, mask=mask, progress=progress)
        torch.testing.assert_close(out.total, alone + weight * survival)
        assert out.weights["conditional_survival"].item() == pytest.approx(weight)


def test_levels_of_one_value_train_nothing_but_the_coupling(batch):
    scores, labels, mask = batch
    levels = torch.ones_like(labels).long() * 0
    assert objective()(scores, labels, mask=mask, levels=levels).total == 0
    coupled = objective(coupling=1.0)(scores, labels, mask=mask, levels=levels)
    survival = conditional_survival_loss(
        scores, labels, quotas=QUOTAS, k=2, temperature=0.25, mask=mask
    )
    torch.testing.assert_close(coupled.total, survival)


def test_stages_are_coupled_by_default(batch):
    scores, labels, mask = batch
    default = build_objective("cut_likelihood", stages=2, quotas=QUOTAS, ground_truth=2)
    out = default(scores, labels, mask=mask)
    assert list(out.terms) == ["cuts/stage_1", "cuts/stage_2", "conditional_survival"]
    assert out.total == objective(coupling=1.0)(scores, labels, mask=mask).total


@pytest.mark.parametrize("coupling", [-1.0, float("inf"), float("nan"), {"start": -1, "end": 1}])
def test_a_negative_coupling_is_refused(coupling):
    with pytest.raises(ConfigError, match=r"coupling|weight"):
        objective(coupling=coupling)


@pytest.mark.parametrize("cuts", ["level", (), (0,), (3, -1)], ids=str)
def test_wrong_cuts_are_refused(cuts):
    with pytest.raises(ConfigError, match="cuts"):
        objective(cuts=cuts)
