"""ARF and its second version are the sums of their terms, at the quotas of the cascade."""

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.losses import permutation_loss, relaxed_recall_loss, survival_loss
from cascaderank.objectives import build_objective
from cascaderank.sorting import relative_temperature

STAGES, QUOTAS = ["retrieval", "ranking"], (5, 3)
NAMES = ["arf", "arf_v2"]


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(5)
    scores = torch.randn(2, 3, 9, generator=g, dtype=torch.float64)
    labels = torch.randint(0, 6, (3, 9), generator=g).double()
    return scores, labels, torch.arange(9) < torch.tensor([[9], [6], [4]])


def build(name, **options):
    options = {"ground_truth": 2, **options}
    return build_objective(name, stages=STAGES, quotas=QUOTAS, **options).double()


def test_the_terms_of_a_stage_are_cut_at_its_quota(batch):
    scores, labels, mask = batch
    first, second = (build(name)(scores, labels, mask=mask) for name in NAMES)
    given = {"temperature": 200.0 * mask.sum(-1) / 40, "mask": mask}
    for t, (stage, quota) in enumerate(zip(STAGES, QUOTAS, strict=True)):
        relax = relaxed_recall_loss(scores[t], labels, m=quota, k=2, **given)
        top_m = survival_loss(scores[t : t + 1], labels, quotas=(quota,), k=2, **given)
        whole = permutation_loss(scores[t], labels, **given)
        torch.testing.assert_close(first.terms[f"relax/{stage}"], relax)
        torch.testing.assert_close(second.terms[f"top_m/{stage}"], top_m)
        for out in (first, second):
            torch.testing.assert_close(out.terms[f"global/{stage}"], whole)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_weight_of_the_whole_order_is_learned(name, batch):
    scores, labels, mask = batch
    objective = build(name)
    assert set(objective.log_weights) == {"global/retrieval", "global/ranking"}
    with torch.no_grad():
        objective.log_weights["global/ranking"].fill_(0.5)
    out = objective(scores, labels, mask=mask)
    terms = list(out.terms.values())
    want = terms[0] + terms[1] / 2 + terms[2] + terms[3] / 2 / torch.tensor(1.0).exp() + 0.5
    torch.testing.assert_close(out.total.detach(), want)


@pytest.mark.parametrize("name", NAMES)
def test_a_relative_temperature_is_that_of_each_list_and_stage(name, batch):
    scores, labels, mask = batch
    options = {"operator": "soft_sort", "temperature": 0.7}
    out = build(name, relative_temperature=True, **options)(scores, labels, mask=mask)
    of_list = relative_temperature(scores[1], 0.7, operator="soft_sort", mask=mask)
    want = permutation_loss(scores[1], labels, operator="soft_sort", temperature=of_list, mask=mask)
    torch.testing.assert_close(out.terms["global/ranking"], want)


@pytest.mark.parametrize("name", NAMES)
def test_the_published_form_has_its_own_cut_offs(name, batch):
    scores, labels, _ = batch
    task = {"stages": STAGES, "ground_truth": 2, "published": True}
    got, same = (build_objective(name, quotas=q, **task) for q in ((5, 3), (4, 1)))
    assert got(scores, labels).total == same(scores, labels).total


@pytest.mark.parametrize("name", NAMES)
def test_wrong_options_and_what_the_published_form_fixes_are_refused(name):
    with pytest.raises(ConfigError, match="temperature must be a positive number"):
        build(name, temperature=0.0)
    with pytest.raises(ConfigError, match="did you mean 'soft_sort'"):
        build(name, operator="soft_srot")
    with pytest.raises(ConfigError, match=r"no permutation.*use one of .*neural_sort"):
        build(name, operator="lap_sum")
    with pytest.raises(ConfigError, match="takes one temperature"):
        build(name, temperature={"start": 2.0, "end": 1.0}, published=True)
    with pytest.raises(ConfigError, match="fixes operator"):
        build(name, operator="soft_sort", published=True)
    with pytest.raises(ConfigError, match="fixes relative_temperature"):
        build(name, relative_temperature=True, published=True)
    with pytest.raises(ConfigError, match="threshold"):
        build(name, ground_truth=None, threshold=1.0, published=True)
