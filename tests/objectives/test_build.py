"""Errors in the arguments of build_objective are reported together, before training."""

import pytest
import torch

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.losses import ranknet_loss, relaxed_recall_loss, survival_loss
from cascaderank.objectives import OBJECTIVES, Objective, Term, build_objective

TASK = {"stages": 2, "quotas": (30, 20), "ground_truth": 10}


def names(objective):
    return [term.name for term in objective.terms]


def test_stages_can_be_named_or_counted():
    assert names(build_objective("bce", **TASK)) == ["bce/stage_1", "bce/stage_2"]
    named = build_objective("bce", **{**TASK, "stages": ["retrieval", "ranking"]})
    assert names(named) == ["bce/retrieval", "bce/ranking"]


def test_an_unknown_objective_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"no objective called 'lcorn' .did you mean 'lcron'"):
        build_objective("lcorn", **TASK)


def test_all_errors_are_reported_together():
    with pytest.raises(ConfigError) as raised:
        build_objective("lcron", stages=2, quotas=(20, 30), temprature=1.0, cut="qoutas")
    message = str(raised.value)
    for part in ("did you mean 'temperature'", "cut='qoutas'", "never grow", "ground truth"):
        assert part in message


@pytest.mark.parametrize(
    "stages", [0, -1, True, "retrieval", [], ["a", "a"], ["a", ""], [1, 2], 2.0]
)
def test_invalid_names_of_stages_are_refused(stages):
    with pytest.raises(ConfigError, match="stage"):
        build_objective("bce", stages=stages, quotas=(30, 20), ground_truth=10)


def test_there_is_one_quota_per_stage():
    with pytest.raises(ShapeError, match="one quota per stage"):
        build_objective("bce", **{**TASK, "quotas": (30,)})


@pytest.mark.parametrize("given", [{}, {"ground_truth": 0}, {"ground_truth": -1}])
def test_the_ground_truth_is_specified(given):
    with pytest.raises(ConfigError, match="ground truth"):
        build_objective("bce", stages=2, quotas=(30, 20), **given)


@pytest.fixture
def score_objective():
    """A method without ground truth and without a published form."""

    def score_objective(*, stages: tuple[str, ...]) -> Objective:
        return Objective([Term("score", lambda inputs: inputs.scores.sum())], stages=len(stages))

    OBJECTIVES.register(score_objective)
    yield "score"
    OBJECTIVES._entries.pop("score")


def test_a_method_ignores_parts_of_the_task_that_it_does_not_take(score_objective):
    assert build_objective(score_objective, stages=2, quotas=(4, 2)).stages == 2
    assert build_objective(score_objective, **TASK).stages == 2


def test_published_is_refused_for_a_method_without_a_published_form(score_objective):
    with pytest.raises(ConfigError, match="objective 'score' has no published form"):
        build_objective(score_objective, **TASK, published=True)


def test_every_loss_is_an_objective_by_its_name():
    scores, labels = torch.randn(2, 3, 6), torch.rand(3, 6)
    objective = build_objective("ranknet", stages=2, quotas=(4, 2), balance="labels")
    out = objective(scores, labels)
    assert list(out.terms) == ["ranknet/stage_1", "ranknet/stage_2"]
    want = sum(ranknet_loss(s, labels, balance="labels") for s in scores)
    torch.testing.assert_close(out.total, want)


def test_a_loss_of_whole_cascades_is_one_term_with_the_quotas_of_the_cascade():
    scores, labels = torch.randn(2, 3, 6), torch.rand(3, 6)
    out = build_objective("survival", stages=2, quotas=(4, 2), ground_truth=2)(scores, labels)
    torch.testing.assert_close(out.total, survival_loss(scores, labels, quotas=(4, 2), k=2))


def test_a_required_cut_off_of_a_loss_is_the_quota_of_the_stage():
    scores, labels = torch.randn(2, 3, 6), torch.rand(3, 6)
    task = {"stages": 2, "quotas": (4, 2), "ground_truth": 2}
    terms = build_objective("relaxed_recall", **task)(scores, labels).terms
    for stage, m in ((0, 4), (1, 2)):
        want = relaxed_recall_loss(scores[stage], labels, m=m, k=2)
        torch.testing.assert_close(terms[f"relaxed_recall/stage_{stage + 1}"], want)
    explicit = build_objective("relaxed_recall", m=3, **task)(scores, labels).terms
    want = relaxed_recall_loss(scores[0], labels, m=3, k=2)
    torch.testing.assert_close(explicit["relaxed_recall/stage_1"], want)


@pytest.mark.parametrize("name", ["arf", "neural_ndcg", "permutation", "pirank", "relaxed_recall"])
def test_an_operator_without_a_permutation_is_refused_where_one_is_required(name):
    with pytest.raises(ConfigError, match="operator 'threshold'"):
        build_objective(name, stages=1, quotas=(2,), ground_truth=1, operator="threshold")


def test_a_method_takes_precedence_over_a_loss_of_its_name():
    terms = build_objective("bce", stages=1, quotas=(1,), ground_truth=1)(
        torch.zeros(1, 1, 2), torch.tensor([[9.0, 0.0]])
    ).terms  # the loss of that name requires labels in [0, 1]
    assert terms["bce/stage_1"].isfinite()
