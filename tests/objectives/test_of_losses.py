"""A loss that a user registers is an objective by its name, filled from the run."""

import pytest
import torch
from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses import LOSSES, top_k_loss
from cascaderank.objectives import OBJECTIVES, build_objective
from cascaderank.settings.run import check_settings
from cascaderank.training.train_run import train_run

TASK = {"stages": 2, "quotas": (4, 2), "ground_truth": 3}


def my_loss(scores, labels, *, k, mask=None, reduction="mean"):
    """Mean score of all candidates minus that of the top ``k`` by label, times ``k``."""
    mask = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask
    top = labels.masked_fill(~mask, -torch.inf).argsort(dim=-1, descending=True, stable=True)[
        ..., :k
    ]
    scores = scores.masked_fill(~mask, 0.0)
    per_list = k * (scores.mean(-1) - scores.gather(-1, top).mean(-1))
    return per_list.mean() if reduction == "mean" else per_list


def plain_loss(scores, labels, *, k=5, alpha=1.0, mask=None, reduction="mean"):
    """A loss with a default size, and an option without a type."""
    return scores.mean() * k * alpha


def whole_loss(scores, labels, *, quotas, k, mask=None, reduction="mean"):
    """A loss of a whole cascade."""
    assert scores.dim() == labels.dim() + 1
    return scores.mean() * k * sum(quotas)


def corrected_loss(scores, labels, *, log_q=None, mask=None, reduction="mean"):
    """A loss that uses sampling probabilities."""
    return (scores if log_q is None else scores - log_q).mean()


def typed_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    k: int,
    m: int,
    mask: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """A loss with a cut-off and a size."""
    return scores.mean() * m + 100 * k


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Register the losses as modules or entry points do: before objectives are derived."""
    assert "bce" in OBJECTIVES
    for registry in (LOSSES, OBJECTIVES):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    for loss in (my_loss, plain_loss, whole_loss, corrected_loss, typed_loss):
        LOSSES.register(loss)
    monkeypatch.setattr(OBJECTIVES, "_loaded", False)


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(2)
    return torch.randn(2, 3, 8, generator=g), torch.rand(3, 8, generator=g)


def test_k_is_the_size_of_the_ground_truth(batch):
    scores, labels = batch
    terms = build_objective("my", **TASK)(scores, labels).terms
    assert list(terms) == ["my/stage_1", "my/stage_2"]
    for value, of_stage in zip(terms.values(), scores, strict=True):
        assert value.equal(my_loss(of_stage, labels, k=3))


@pytest.mark.parametrize("truth", [{"ground_truth": 3}, {"threshold": 0.5}, {}])
def test_an_option_k_takes_precedence(batch, truth):
    scores, labels = batch
    task = {"stages": 2, "quotas": (4, 2), **truth}
    got = build_objective("my", **task, k=5)(scores, labels).total
    torch.testing.assert_close(got, sum(my_loss(s, labels, k=5) for s in scores))
    got = build_objective("top_k", **task, k=5)(scores, labels).total  # takes a threshold, too
    torch.testing.assert_close(got, sum(top_k_loss(s, labels, k=5) for s in scores))


def test_a_required_size_that_is_not_specified_is_reported():
    task = {"stages": 2, "quotas": (4, 2), "threshold": 0.5}
    with pytest.raises(ConfigError, match="'my' requires k, the size of the ground truth"):
        build_objective("my", **task)
    with pytest.raises(ConfigError, match="ground truth"):
        build_objective("my", stages=2, quotas=(4, 2))
    with pytest.raises(ConfigError, match="k='many'"):
        build_objective("my", **TASK, k="many")


def test_a_default_size_is_kept_where_the_ground_truth_has_none(batch):
    scores, labels = batch
    task = {"stages": 2, "quotas": (4, 2)}
    for truth, k in (({"threshold": 0.5}, 5), ({"ground_truth": 3}, 3)):
        got = build_objective("plain", **task, **truth, alpha=2.0)(scores, labels).total
        torch.testing.assert_close(got, scores.mean((1, 2)).sum() * 2 * k)


def test_a_loss_of_whole_cascades_takes_quotas_and_size(batch):
    scores, labels = batch
    out = build_objective("whole", **TASK)(scores, labels)
    assert list(out.terms) == ["whole"]
    torch.testing.assert_close(out.total, scores.mean() * 3 * 6)


def test_sampling_probabilities_are_those_of_the_batch(batch):
    scores, labels = batch
    objective = build_objective("corrected", **TASK)
    log_q = labels.log()
    for given in (None, log_q):
        want = sum(corrected_loss(s, labels, log_q=given) for s in scores)
        torch.testing.assert_close(objective(scores, labels, log_q=given).total, want)


def test_a_required_cut_off_is_the_quota_and_sizes_are_options(batch):
    scores, labels = batch
    means = scores.mean((1, 2))
    got = build_objective("typed", **TASK)(scores, labels).total
    torch.testing.assert_close(got, means[0] * 4 + means[1] * 2 + 600)
    got = build_objective("typed", **TASK, m=7, k=1)(scores, labels).total
    torch.testing.assert_close(got, means.sum() * 7 + 200)


@pytest.mark.parametrize("options", [{}, {"k": 4}])
def test_it_trains_by_its_name(funnel, tmp_path, options):
    settings = check_settings(
        {
            "data": {"path": str(funnel), "split": {"by": "request", "seed": 1}},
            "relevance": {"top": 10},
            "stages": {
                "first": {"model": "linear", "quota": 30},
                "second": {"model": "linear", "quota": 20},
            },
            "objective": {"name": "my", **options},
            "train": {"epochs": 1, "batch_size": 32},
            "evaluation": {"bootstrap": 20},
        }
    )
    result = train_run(settings, tmp_path / "run")
    assert list(result.test.stages) == ["first", "second"]
    assert 0 < result.test.metrics["joint_recall"].mean <= 1
