"""LCRON is the sum of its terms, and its options have their documented effect."""

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.losses import survival_loss, top_k_loss
from cascaderank.objectives import build_objective
from cascaderank.sorting import relative_temperature
from cascaderank.sorting.neural_sort import NeuralSort

STAGES, QUOTAS = ["retrieval", "ranking"], (5, 3)


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(5)
    scores = torch.randn(2, 3, 9, generator=g, dtype=torch.float64)
    labels = torch.randint(0, 6, (3, 9), generator=g).double()
    mask = torch.arange(9) < torch.tensor([[9], [6], [4]])
    return scores, labels, mask


def lcron(**options):
    options = {"ground_truth": 2, **options}
    return build_objective("lcron", stages=STAGES, quotas=QUOTAS, **options).double()


def test_it_is_the_survival_loss_and_half_of_the_top_k_losses(batch):
    scores, labels, mask = batch
    given = {"k": 2, "temperature": 50.0 * mask.sum(-1) / 40, "mask": mask}
    want = {
        "end_to_end": survival_loss(scores, labels, **given),
        "top_k/retrieval": top_k_loss(scores[0], labels, **given),
        "top_k/ranking": top_k_loss(scores[1], labels, **given),
    }
    out = lcron()(scores, labels, mask=mask)
    torch.testing.assert_close(out.terms, want)
    weights = (1.0, 0.5, 0.5)
    torch.testing.assert_close(
        out.total.detach(), sum(w * t for w, t in zip(weights, want.values(), strict=True))
    )


@pytest.mark.parametrize("truth", [{"k": 2}, {"threshold": 4.0}])
def test_its_gradient_is_that_of_the_losses(batch, truth):
    scores, labels, mask = batch
    scores.requires_grad_()
    given = {**truth, "temperature": 2.0, "mask": mask}
    losses = [top_k_loss(stage, labels, **given) for stage in scores]
    want = survival_loss(scores, labels, **given) + 0.5 * losses[0] + 2 * losses[1]
    asked = {"ground_truth": truth.get("k"), "threshold": truth.get("threshold")}
    got = lcron(temperature=2.0, weights=(0.5, 2.0), **asked)(scores, labels, mask=mask).total
    torch.testing.assert_close(torch.autograd.grad(got, scores), torch.autograd.grad(want, scores))


@pytest.mark.parametrize(("cut", "times"), [("ground_truth", 1), ("quotas", 2)])
def test_the_top_k_is_computed_once_for_each_cut(batch, cut, times, monkeypatch):
    scores, labels, mask = batch
    calls, log_top_k = [], NeuralSort.log_top_k

    def counted(self, scores, k, **options):
        calls.append(scores.shape)
        return log_top_k(self, scores, k, **options)

    monkeypatch.setattr(NeuralSort, "log_top_k", counted)
    objective = lcron(cut=cut)
    for _ in range(2):
        objective(scores, labels, mask=mask)
    assert calls == [scores.shape] * 2 * times


def test_it_can_cut_at_the_quotas_and_take_a_threshold(batch):
    scores, labels, mask = batch
    objective = lcron(cut="quotas", ground_truth=None, threshold=4.0, temperature=2.0)
    got = objective(scores, labels, mask=mask).terms["end_to_end"]
    given = {"threshold": 4.0, "temperature": 2.0, "mask": mask}
    torch.testing.assert_close(got, survival_loss(scores, labels, quotas=QUOTAS, **given))


def test_a_relative_temperature_is_that_of_each_list_and_stage(batch):
    scores, labels, mask = batch
    options = {"operator": "soft_sort", "temperature": 0.7}
    out = lcron(relative_temperature=True, **options)(scores, labels, mask=mask)
    of_list = relative_temperature(scores, 0.7, operator="soft_sort", mask=mask.expand_as(scores))
    given = {"k": 2, "operator": "soft_sort", "mask": mask}
    want = top_k_loss(scores[1], labels, temperature=of_list[1], **given)
    torch.testing.assert_close(out.terms["top_k/ranking"], want)
    want = survival_loss(scores, labels, temperature=of_list, **given)
    torch.testing.assert_close(out.terms["end_to_end"], want)


@pytest.mark.parametrize("operator", ["neural_sort", "soft_sort"])
def test_with_a_relative_temperature_the_scale_of_the_scores_does_not_matter(batch, operator):
    scores, labels, mask = batch
    objective = lcron(relative_temperature=True, operator=operator)
    got = objective(100 * scores, labels, mask=mask).total
    torch.testing.assert_close(got, objective(scores, labels, mask=mask).total)


def test_the_default_temperature_is_proportional_to_the_list(batch):
    scores, labels, mask = batch
    out = lcron()(scores, labels, mask=mask)
    for t, length in enumerate(mask.sum(-1).tolist()):
        alone = (scores[:, t : t + 1], labels[t : t + 1])
        fixed = lcron(temperature=50.0 * length / 40)(*alone, mask=mask[t : t + 1])
        default = lcron()(*alone, mask=mask[t : t + 1])
        torch.testing.assert_close(default.total, fixed.total)
    assert out.total.isfinite()


def test_other_defaults_of_the_temperature_are_constant(batch):
    scores, labels, mask = batch
    for options, default in (
        ({"relative_temperature": True}, 1.0),
        ({"operator": "sigmoid"}, 50.0),
    ):
        got = lcron(**options)(scores, labels, mask=mask).total
        explicit = lcron(**options, temperature=default)
        torch.testing.assert_close(got, explicit(scores, labels, mask=mask).total)


def test_weights_can_be_fixed(batch):
    scores, labels, mask = batch
    objective = lcron(weights=[2.0, 0.0])
    out = objective(scores, labels, mask=mask)
    assert not list(objective.parameters())
    assert list(out.terms) == ["end_to_end", "top_k/retrieval"]
    want = out.terms["end_to_end"] + 2 * out.terms["top_k/retrieval"]
    torch.testing.assert_close(out.total, want)


def test_one_weight_is_that_of_all_stages(batch):
    scores, labels, mask = batch
    got, same = (lcron(weights=w)(scores, labels, mask=mask).total for w in (0.7, (0.7, 0.7)))
    assert got == same


def test_terms_of_weight_zero_are_not_computed(batch, monkeypatch):
    scores, labels, mask = batch
    out = lcron(end_to_end=0.0, weights=(0.0, 2.0))(scores, labels, mask=mask)
    assert list(out.terms) == ["top_k/ranking"]
    given = {"k": 2, "temperature": 50.0 * mask.sum(-1) / 40, "mask": mask}
    torch.testing.assert_close(out.total, 2 * top_k_loss(scores[1], labels, **given))
    out = lcron(end_to_end=0.5, weights=0)(scores, labels, mask=mask)
    assert list(out.terms) == ["end_to_end"]
    torch.testing.assert_close(out.total, 0.5 * survival_loss(scores, labels, **given))
    calls, log_top_k = [], NeuralSort.log_top_k
    monkeypatch.setattr(
        NeuralSort, "log_top_k", lambda *a, **o: calls.append(1) or log_top_k(*a, **o)
    )
    lcron(end_to_end=0.0, cut="quotas")(scores, labels, mask=mask)
    assert len(calls) == 1


def test_at_least_one_term_must_have_a_positive_weight():
    with pytest.raises(ConfigError, match="at least one term must have a positive weight; got"):
        lcron(end_to_end=0.0, weights=0.0)
    for wrong in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="end_to_end must be a number of at least 0"):
            lcron(end_to_end=wrong)


@pytest.mark.parametrize(
    "weights",
    [-1.0, (1.0,), (1.0, 1.0, 1.0), (1.0, -1.0), (1.0, float("inf")), (1.0, float("nan"))],
)
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ConfigError, match="2 numbers of at least 0, one per stage"):
        lcron(weights=weights)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ConfigError, match="temperature must be a positive number"):
        lcron(temperature=temperature)


def test_an_unknown_operator_is_refused_at_once():
    with pytest.raises(ConfigError, match="did you mean 'soft_sort'"):
        lcron(operator="soft_srot")


@pytest.mark.parametrize(
    "option",
    [
        {"operator": "soft_sort"},
        {"relative_temperature": True},
        {"cut": "quotas"},
        {"end_to_end": 0.5},
        {"weights": (1.0, 1.0)},
    ],
    ids=str,
)
def test_what_the_published_form_fixes_cannot_be_changed(option):
    with pytest.raises(ConfigError, match=f"fixes {next(iter(option))}"):
        lcron(published=True, **option)


def test_the_published_form_is_not_defined_for_everything():
    with pytest.raises(ConfigError, match="2 and 3 stages; got 1"):
        build_objective("lcron", stages=1, quotas=(3,), ground_truth=2, published=True)
    with pytest.raises(ConfigError, match="threshold"):
        lcron(ground_truth=None, threshold=1.0, published=True)
