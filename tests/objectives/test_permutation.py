"""The objective is the permutation loss of every stage, independent of quotas and ground truth."""

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.losses import permutation_loss
from cascaderank.objectives import build_objective
from cascaderank.sorting import relative_temperature


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(5)
    scores = torch.randn(2, 3, 9, generator=g, dtype=torch.float64)
    labels = torch.randint(0, 6, (3, 9), generator=g).double()
    return scores, labels, torch.arange(9) < torch.tensor([[9], [6], [4]])


def build(**options):
    return build_objective("permutation", stages=["a", "b"], **{"quotas": (5, 3), **options})


@pytest.mark.parametrize("operator", ["neural_sort", "soft_sort"])
def test_it_is_the_loss_of_each_stage(batch, operator):
    scores, labels, mask = batch
    out = build(operator=operator, temperature=0.7)(scores, labels, mask=mask)
    given = {"operator": operator, "temperature": 0.7, "mask": mask}
    want = [permutation_loss(s, labels, **given) for s in scores]
    torch.testing.assert_close(out.terms, {"permutation/a": want[0], "permutation/b": want[1]})
    torch.testing.assert_close(out.total, want[0] + want[1])


def test_the_default_temperature_is_that_of_arf(batch):
    scores, labels, mask = batch
    whole = torch.ones_like(mask)
    for relative, default in ((False, 200.0 * mask.shape[-1] / 40), (True, 1.0)):
        got = build(relative_temperature=relative)(scores, labels, mask=whole).total
        explicit = build(relative_temperature=relative, temperature=default)
        torch.testing.assert_close(got, explicit(scores, labels, mask=whole).total)


def test_a_relative_temperature_is_that_of_each_list_and_stage(batch):
    scores, labels, mask = batch
    out = build(relative_temperature=True, temperature=0.7)(scores, labels, mask=mask)
    own = relative_temperature(scores[1], 0.7, mask=mask)
    want = permutation_loss(scores[1], labels, temperature=own, mask=mask)
    torch.testing.assert_close(out.terms["permutation/b"], want)


def test_quotas_and_ground_truth_do_not_matter(batch):
    scores, labels, mask = batch
    got = build()(scores, labels, mask=mask).total
    assert got == build(quotas=(2, 1), ground_truth=2)(scores, labels, mask=mask).total


def test_an_operator_of_the_top_k_is_refused():
    with pytest.raises(ConfigError, match=r"no permutation.*use one of .*soft_sort"):
        build(operator="threshold")
    with pytest.raises(ConfigError, match="did you mean 'soft_sort'"):
        build(operator="soft_srot")
