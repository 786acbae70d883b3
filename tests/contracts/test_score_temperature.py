"""Contract of every objective: scores are divided by one temperature, in one way."""

from pathlib import Path

import pytest
import torch

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.experiments.methods import methods_of
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term, build_objective
from cascaderank.objectives._score_temperature import OPTION, divide_scores
from cascaderank.runs.build import build_run_objective
from cascaderank.settings.run import check_settings
from cascaderank.stages import Chance, StageOutput
from tests.contracts.test_objectives import Case, same

OWN = {name for name in OBJECTIVES if "temperature" in OBJECTIVES.options(name)}
TAKES = [name for name in OBJECTIVES if "score_temperature" in OBJECTIVES.options(name)]
NEEDS = {"conditional_survival": {"warm_up": 0.5}}
"""Options without which the temperature of the objective has the same effect."""
EXCEPT_TIGHTNESS = " except tightness, and tightness_temperature those of tightness; set these"
TASK = {"stages": 2, "quotas": (4, 2), "ground_truth": 2}


def case_of(name, cascade, **options):
    return Case(name, 2, cascade, levels=True, **NEEDS.get(name, {}), **options)


def assert_divided(found, plain, temperature):
    """Values are equal, and gradients are those with respect to the scores before the division."""
    same(found[0], plain[0])
    torch.testing.assert_close(found[1], plain[1] / temperature, rtol=1e-12, atol=0)


CARDS = Path(__file__).parents[2] / "docs/methods"


@pytest.mark.parametrize("name", TAKES)
def test_the_card_of_an_objective_lists_the_option(name):
    (row,) = (line for line in (CARDS / f"{name}.md").read_text().splitlines() if OPTION in line)
    assert row.startswith(f"| `{OPTION}` | 1 | positive | ")
    assert "annealed" in row


@pytest.mark.parametrize("temperature", [0.25, 3.0])
@pytest.mark.parametrize("name", TAKES)
def test_scores_are_divided_before_any_term(name, cascade, temperature):
    given = {"progress": 0.5, "log_q": cascade[0][1] / 3}
    usual = case_of(name, cascade)
    plain = usual.with_gradient(scores=usual.scores / temperature, **given)
    case = case_of(name, cascade, score_temperature=temperature)
    assert_divided(case.with_gradient(**given), plain, temperature)
    assert not torch.isclose(plain[0], usual(**given).total), "vacuous: no effect at all"


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_there_is_one_way_to_divide_scores(name, cascade):
    """Objectives without the option have a temperature that does the same, or predict chances."""
    if name in TAKES:
        return
    message = f"objective '{name}' has no option 'score_temperature': "
    if name == "entire_chain":
        message += "its stages predict probabilities; set it in joint"
    else:
        message += "temperature divides the scores of all its terms"
        message += EXCEPT_TIGHTNESS if name == "lcron" else "; set temperature"
        own = {"tightness_temperature": 1.0, "tightness": 0.5} if name == "lcron" else {}
        plain = Case(name, 2, cascade, levels=True, temperature=2.0, **own)
        own |= {"tightness_temperature": 4.0} if own else {}
        warmer = Case(name, 2, cascade, levels=True, temperature=8.0, **own)
        value, gradient = plain.with_gradient(scores=plain.scores / 4)
        torch.testing.assert_close(warmer.with_gradient(), (value, gradient / 4))
    with pytest.raises(ConfigError) as caught:
        build_objective(name, **TASK, score_temperature=0.5)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", sorted(OWN & set(TAKES)))
def test_an_objective_with_both_has_a_temperature_of_some_terms_only(name, cascade):
    plain = case_of(name, cascade, temperature=2.0, relative_temperature=False)
    warmer = case_of(name, cascade, temperature=8.0, relative_temperature=False)
    total = plain(scores=plain.scores / 4, progress=0.5).total
    assert not torch.isclose(total, warmer(progress=0.5).total)


def test_conditional_survival_needs_pairs_to_have_both():
    with pytest.raises(ConfigError, match="'conditional_survival' without warm_up: temperature"):
        build_objective("conditional_survival", **TASK, score_temperature=0.5)


@pytest.mark.parametrize(
    ("temperature", "message"),
    [
        (0.0, "score_temperature must be a positive number; got 0.0"),
        (-1.0, "score_temperature must be a positive number; got -1.0"),
        (float("nan"), "score_temperature must be a positive number; got nan"),
        (float("inf"), "score_temperature must be a positive number; got inf"),
        (True, "score_temperature=true: expected a number; got true"),
        ("cold", "valid number"),
        ({"start": 1.0, "end": 0.0}, "end of a temperature must be a positive number; got 0"),
        ({"start": 1.0}, "end: Field required"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", TAKES)
def test_a_wrong_temperature_is_refused(name, temperature, message):
    options = {"score_temperature": temperature, **NEEDS.get(name, {})}
    with pytest.raises(ConfigError) as caught:
        build_objective(name, **TASK, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", TAKES)
def test_it_can_be_annealed(name, cascade):
    annealed = case_of(name, cascade, score_temperature={"start": 4.0, "end": 1.0})
    for progress, now in ((0.0, 4.0), (0.5, 2.0), (1.0, 1.0)):
        still = case_of(name, cascade, score_temperature=now)
        torch.testing.assert_close(
            annealed(progress=progress).total, still(progress=progress).total
        )


@pytest.mark.parametrize("name", TAKES)
def test_padding_has_no_effect(name, cascade):
    case = case_of(name, cascade, score_temperature=0.25)
    junk = case.scores.masked_fill(~case.mask, torch.nan)
    same(case.with_gradient(scores=junk), case.with_gradient())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", TAKES)
def test_degenerate_batches_give_finite_value_and_gradient(name, cascade, dtype):
    case = case_of(name, cascade, score_temperature=0.01)
    for size in (0.0, 1.0, 1e30):
        total, gradient = case.with_gradient(scores=(case.scores * size).to(dtype))
        assert total.isfinite()
        assert gradient.isfinite().all()
        assert gradient.dtype is dtype


def test_terms_share_one_record_of_divided_scores():
    seen = []
    terms = [Term(n, lambda i: seen.append(i) or i.scores.sum()) for n in ("a", "b")]
    objective = Objective(terms, stages=1)
    divide_scores(objective, 0.5, name="own", options={})
    objective(torch.ones(1, 1, 2), torch.ones(1, 2))
    assert seen[0] is seen[1]
    assert seen[0].scores.tolist() == [[[2.0, 2.0]]]


def test_scores_of_outputs_are_divided_and_probabilities_are_not():
    scores, labels, mask = torch.randn(1, 3), torch.ones(1, 3), torch.ones(1, 3, dtype=torch.bool)
    classes = torch.randn(1, 3, 4).log_softmax(-1)
    events = {"click": Chance(*torch.randn(2, 1, 3))}
    output = StageOutput(scores=scores, classes=classes, events=events)
    batch = RequestBatch(mask=mask, items={}, labels=labels)
    seen = []
    only = Term("a", lambda inputs: seen.append(inputs) or inputs.scores.sum())
    objective = Objective([only], stages=1)
    divide_scores(objective, 0.5, name="own", options={})
    objective.evaluate(CascadeInputs.of_batch(batch, [output]))
    (inputs,) = seen
    assert torch.equal(inputs.outputs[0].scores, scores * 2)
    assert torch.equal(inputs.scores[0], scores * 2)
    assert inputs.outputs[0].classes is classes
    assert inputs.outputs[0].events is events


def test_the_objective_within_another_has_a_temperature_of_its_own(cascade):
    joint = {"name": "ranknet", "score_temperature": 0.25}
    case = Case("entire_chain", 2, cascade, levels=True, joint=joint)
    usual = Case("entire_chain", 2, cascade, levels=True, joint={"name": "ranknet"})
    found, plain = case().terms, usual().terms
    colder = usual(scores=usual.scores / 0.25).terms
    for term, value in found.items():
        same(value, (colder if term.startswith("ranknet") else plain)[term])


def test_published_forms_have_it_too():
    scores, labels = torch.randn(2, 3, 40), torch.arange(40.0).expand(3, 40)
    levels = (labels // 10).long()
    task = {"stages": 2, "quotas": (30, 20), "ground_truth": 10, "published": True}
    plain = build_objective("bce", **task)(scores / 0.5, labels, levels=levels)
    found = build_objective("bce", **task, score_temperature=0.5)(scores, labels, levels=levels)
    same(found.total, plain.total)


@pytest.fixture
def settings_of(funnel):
    def build(objective, **compare):
        return check_settings(
            {
                "data": {"path": str(funnel)},
                "relevance": {"top": 10},
                "stages": {
                    "retrieval": {"model": "linear", "quota": 30},
                    "ranking": {"model": "linear", "quota": 20},
                },
                "objective": objective,
                "compare": compare,
            }
        )

    return build


def test_a_config_sets_it_for_a_run(settings_of, funnel):
    from cascaderank.data.log.request_log import RequestLog

    log = RequestLog.open(funnel)
    g = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(2, 3, 40, generator=g), torch.rand(3, 40, generator=g)
    found = build_run_objective(settings_of({"name": "bce", "score_temperature": 0.25}), log)
    usual = build_run_objective(settings_of({"name": "bce"}), log)
    same(found(scores, labels).total, usual(scores / 0.25, labels).total)
    assert "score_temperature" not in settings_of({"name": "bce"}).to_toml()


def test_a_comparison_tunes_it_per_method(settings_of):
    grid = {"bce": {"objective.score_temperature": [0.25, 1.0]}}
    settings = settings_of({"name": "lcron"}, grid=grid)
    (method,) = methods_of(settings, ["bce"])
    assert dict(method.axes) == {"objective.score_temperature": (0.25, 1.0)}
    run = method.settings(settings, {"objective.score_temperature": 0.25})
    assert run.objective.options == {"score_temperature": 0.25}
    (lcron,) = methods_of(settings, ["lcron"])
    with pytest.raises(ConfigError, match="'lcron' has no option 'score_temperature': temperature"):
        lcron.settings(settings, {"objective.score_temperature": 0.25})
