"""The entire chain: each kind of stage against its loss in plain Python."""

from math import exp, log, log1p

import pytest
import torch

from cascaderank.data.domains import DomainSampling
from cascaderank.errors import ConfigError, DataError
from cascaderank.objectives import build_objective
from cascaderank.stages import Chance, StageOutput

LISTS, LENGTH, EXPOSED, PRERANKED = 3, 7, 3, 1
LEVELS = torch.tensor([[3, 3, 2, 0, 1, 0, 3], [0, 3, 1, 0, 2, 0, 0], [1, 2, 0, 0, 0, 0, 0]])
FEEDBACK = torch.zeros(LISTS, LENGTH)
FEEDBACK[0, 0] = FEEDBACK[1, 1] = 1.0
FEEDBACK[2, 0] = 1.0  # not exposed, so it is ignored
MASK = torch.arange(LENGTH) < torch.tensor([7, 5, 0])[:, None]
ROWS = torch.tensor([4, 0, 9])


def domain(b, i, *, four):
    if LEVELS[b, i] >= EXPOSED:
        return 0 if FEEDBACK[b, i] > 0 else 1
    return 3 if four and LEVELS[b, i] < PRERANKED else 2


def sigmoid(x):
    return 1 / (1 + exp(-x))


def binary(logit, happened):
    return log1p(exp(-logit)) if happened else log1p(exp(logit))


def mean_of_means(cost, *, counts=lambda b, i: True):
    """Mean over lists of the mean over their candidates; 0 for an empty list."""
    lists = []
    for b in range(LISTS):
        costs = [cost(b, i) for i in range(LENGTH) if MASK[b, i] and counts(b, i)]
        lists.append(sum(costs) / max(len(costs), 1))
    return sum(lists) / LISTS


def logits_of(outputs, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(LISTS, LENGTH, outputs, generator=g, dtype=torch.float64)


def both_ways(logit):
    return Chance(torch.nn.functional.logsigmoid(logit), torch.nn.functional.logsigmoid(-logit))


def build(**options):
    task = {"stages": ["pre"], "quotas": (3,), "ground_truth": 2, "exposed_level": EXPOSED}
    return build_objective("entire_chain", **{**task, **options})


def evaluated(objective, output, **changes):
    inputs = {"mask": MASK, "levels": LEVELS, "feedback": FEEDBACK, "rows": ROWS} | changes
    scores = output.scores.unsqueeze(0)
    return objective(scores, torch.zeros(LISTS, LENGTH), outputs=(output,), **inputs)


def classes_of(logits):
    return StageOutput(scores=logits[..., 0], classes=logits.log_softmax(-1))


def towers_of(logits):
    names = ("click", "exposure", "unexposed", "dropped")
    events = {name: both_ways(x) for name, x in zip(names, logits.unbind(-1), strict=False)}
    return StageOutput(scores=logits[..., 0], events=events)


@pytest.mark.parametrize("outputs", [3, 4])
@pytest.mark.parametrize("four", [False, True])
def test_the_loss_of_classes_is_the_cross_entropy(outputs, four):
    logits = logits_of(outputs)
    objective = build(preranked_level=PRERANKED if four else None)
    if outputs == 4 and not four:
        with pytest.raises(ConfigError, match="four domains needs preranked_level"):
            evaluated(objective, classes_of(logits))
        return

    def cost(b, i):
        row = logits[b, i].tolist()
        chosen = min(domain(b, i, four=four), outputs - 1)
        return log(sum(map(exp, row))) - row[chosen]

    got = evaluated(objective, classes_of(logits)).terms["chain/pre"]
    assert got.item() == pytest.approx(mean_of_means(cost))


@pytest.mark.parametrize("outputs", [3, 4])
def test_the_loss_of_towers_is_the_sum_of_binary_cross_entropies(outputs):
    logits = logits_of(outputs)

    def cost(b, i):
        d = domain(b, i, four=outputs == 4)
        happened = [d == 0, d <= 1, d == 2, d == 3]
        return sum(map(binary, logits[b, i].tolist(), happened))

    objective = build(preranked_level=PRERANKED if outputs == 4 else None)
    got = evaluated(objective, towers_of(logits)).terms["chain/pre"]
    assert got.item() == pytest.approx(mean_of_means(cost))


def test_three_towers_merge_the_last_two_domains():
    output = towers_of(logits_of(3))
    got = evaluated(build(preranked_level=PRERANKED), output).total
    torch.testing.assert_close(got, evaluated(build(), output).total)


@pytest.mark.parametrize("event", ["click", "exposure"])
def test_the_loss_of_one_score_is_the_binary_cross_entropy_of_an_event(event):
    scores = logits_of(1)[..., 0]

    def cost(b, i):
        d = domain(b, i, four=False)
        return binary(scores[b, i].item(), d == 0 if event == "click" else d <= 1)

    got = evaluated(build(event=event), StageOutput(scores=scores)).total
    assert got.item() == pytest.approx(mean_of_means(cost))
    alone = build(event=event)(
        scores[None], torch.zeros(LISTS, LENGTH), mask=MASK, levels=LEVELS, feedback=FEEDBACK
    )
    torch.testing.assert_close(alone.total, got)


def test_exposures_only_ignores_candidates_that_were_not_exposed():
    scores = logits_of(1)[..., 0]
    objective = build(event="click", exposures_only=True)
    got = evaluated(objective, StageOutput(scores=scores)).total
    want = mean_of_means(
        lambda b, i: binary(scores[b, i].item(), domain(b, i, four=False) == 0),
        counts=lambda b, i: domain(b, i, four=False) <= 1,
    )
    assert got.item() == pytest.approx(want)


@pytest.mark.parametrize("reweighted", [False, True])
def test_candidates_that_are_not_sampled_are_ignored(reweighted):
    scores = logits_of(1)[..., 0]
    rates = (1.0, 0.7, 0.5)
    sampling = DomainSampling(rates=rates, seed=2, reweighted=reweighted)
    domains = torch.tensor(
        [[domain(b, i, four=False) for i in range(LENGTH)] for b in range(LISTS)]
    )
    kept = DomainSampling(rates=rates, seed=2).weights(domains, ROWS) > 0
    assert 0 < (kept & MASK).sum() < MASK.sum(), "vacuous: all or nothing is sampled"

    def cost(b, i):
        whole = binary(scores[b, i].item(), domains[b, i] == 0)
        if not reweighted:
            return whole
        return whole / rates[domains[b, i]] if kept[b, i] else 0.0

    counts = (lambda b, i: True) if reweighted else (lambda b, i: kept[b, i])
    objective = build(event="click", sampling=sampling)
    got = evaluated(objective, StageOutput(scores=scores)).total
    assert got.item() == pytest.approx(mean_of_means(cost, counts=counts), rel=1e-6)
    table = {"rates": list(rates), "seed": 2, "reweighted": reweighted}
    again = evaluated(build(event="click", sampling=table), StageOutput(scores=scores)).total
    assert torch.equal(again, got)


def test_reweighted_samples_estimate_the_loss_of_all():
    scores = logits_of(1)[..., 0]
    whole = evaluated(build(event="click"), StageOutput(scores=scores)).total.item()
    estimates = []
    for seed in range(400):
        sampling = DomainSampling(rates=(0.9, 0.6, 0.4), seed=seed, reweighted=True)
        objective = build(event="click", sampling=sampling)
        estimates.append(evaluated(objective, StageOutput(scores=scores)).total.item())
    spread = torch.tensor(estimates).std().item() / len(estimates) ** 0.5
    assert sum(estimates) / len(estimates) == pytest.approx(whole, abs=4 * spread)


@pytest.mark.parametrize("junk", [1e30, float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("make", [classes_of, towers_of])
def test_padding_of_outputs_never_matters(make, junk):
    def value_and_gradient(logits):
        logits = logits.clone().requires_grad_()
        out = make(logits)
        if make is classes_of:
            dirt = out.classes.masked_fill(~MASK.unsqueeze(-1), junk)
            out = StageOutput(scores=out.scores.masked_fill(~MASK, junk), classes=dirt)
        else:
            events = {
                name: Chance(*(x.masked_fill(~MASK, junk) for x in event))
                for name, event in out.events.items()
            }
            out = StageOutput(scores=out.scores.masked_fill(~MASK, junk), events=events)
        feedback = FEEDBACK.masked_fill(~MASK, junk)
        total = evaluated(objective, out, feedback=feedback).total
        return total.detach(), torch.autograd.grad(total, logits)[0]

    objective, logits = build(), logits_of(3)
    value, gradient = value_and_gradient(logits)
    clean = logits.clone().requires_grad_()
    want = evaluated(objective, make(clean)).total
    assert torch.equal(value, want)
    assert torch.equal(gradient, torch.autograd.grad(want, clean)[0])
    assert (gradient[~MASK] == 0).all()
    assert gradient[MASK].abs().sum() > 0


def test_the_penalty_of_open_gates_starts_above_the_open_share():
    penalty = torch.tensor(6.0, requires_grad=True)
    output = StageOutput(scores=torch.zeros(LISTS, LENGTH), penalty=penalty, most=10.0)
    out = evaluated(build(penalty=0.5), output)
    assert out.terms["penalty/pre"] == 6
    assert out.weights["penalty/pre"] == 0.5
    torch.testing.assert_close(out.total.detach(), out.terms["chain/pre"] + 3)
    assert evaluated(build(penalty=0.5, open_share=0.4), output).terms["penalty/pre"] == 2
    for share, slope in ((0.4, 0.5), (0.7, 0.0)):
        out = evaluated(build(penalty=0.5, open_share=share), output)
        (gradient,) = torch.autograd.grad(out.total, penalty)
        assert gradient == slope
    without = StageOutput(scores=torch.zeros(LISTS, LENGTH))
    assert evaluated(build(penalty=0.5), without).terms["penalty/pre"] == 0


def test_it_is_trained_together_with_another_objective():
    scores = torch.randn(2, LISTS, LENGTH, generator=torch.Generator().manual_seed(1))
    labels = torch.rand(LISTS, LENGTH, generator=torch.Generator().manual_seed(2))
    task = {"stages": ["pre", "rank"], "quotas": (4, 2), "ground_truth": 2}
    lcron = build_objective("lcron", **task, relative_temperature=True)
    joint = build_objective(
        "entire_chain",
        **task,
        learns=("pre",),
        exposed_level=EXPOSED,
        joint={"name": "lcron", "relative_temperature": True},
    )
    outputs = classes_of(logits_of(3).float()), StageOutput(scores=scores[1])
    given = {"mask": MASK, "levels": LEVELS, "feedback": FEEDBACK}
    got = joint(scores, labels, outputs=outputs, **given)
    want = lcron(scores, labels, **given)
    assert list(got.terms) == ["chain/pre", "end_to_end", "top_k/pre", "top_k/rank"]
    assert len(list(joint.parameters())) == len(list(lcron.parameters())) == 2
    torch.testing.assert_close(got.total - got.terms["chain/pre"], want.total)


def test_stages_can_be_trained_with_different_options():
    task = {"stages": ["pre", "rank"], "quotas": (4, 2), "ground_truth": 2}
    scores = torch.randn(2, LISTS, LENGTH, generator=torch.Generator().manual_seed(1))
    given = {"mask": MASK, "levels": LEVELS, "feedback": FEEDBACK}
    labels = torch.zeros(LISTS, LENGTH)
    other = {"event": "click", "exposures_only": True}
    both = build_objective(
        "entire_chain",
        **task,
        learns=("pre",),
        exposed_level=EXPOSED,
        joint={"name": "entire_chain", "learns": ["rank"], **other},
    )(scores, labels, **given)
    for stage, options in (("pre", {}), ("rank", other)):
        alone = build_objective(
            "entire_chain", **task, learns=(stage,), exposed_level=EXPOSED, **options
        )(scores, labels, **given)
        assert both.terms[f"chain/{stage}"] == alone.total
    assert len(both.terms) == 2


@pytest.mark.parametrize(
    ("changes", "output", "message"),
    [
        ({"levels": None}, classes_of(logits_of(3)), "the batch has no levels"),
        ({"feedback": None}, classes_of(logits_of(3)), "the batch has no feedback"),
        ({"feedback": None}, towers_of(logits_of(3)), "the towers require it"),
    ],
)
def test_missing_levels_and_feedback_are_reported(changes, output, message):
    with pytest.raises(DataError, match=message):
        evaluated(build(), output, **changes)


def test_requirements_of_one_score_are_reported():
    output = StageOutput(scores=torch.zeros(LISTS, LENGTH))
    assert evaluated(build(), output, feedback=None).total.isfinite()
    with pytest.raises(DataError, match='event = "click" requires it'):
        evaluated(build(event="click"), output, feedback=None)
    with pytest.raises(ConfigError, match="which are all positive; a stage with one score"):
        evaluated(build(exposures_only=True), output)
    with pytest.raises(ConfigError, match="depends on the row of each request; pass rows"):
        evaluated(build(sampling={"rates": [1, 1, 0.5]}), output, rows=None)
    event = StageOutput(scores=output.scores, events={"clik": both_ways(output.scores)})
    with pytest.raises(ConfigError, match="no event called 'clik'"):
        evaluated(build(), event)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": -1.0}, "penalty must be a number of at least 0"),
        ({"open_share": 1.0}, r"open_share must be in \[0, 1\)"),
        ({"learns": ("rank",)}, r"learns must name stages of the cascade \(pre\)"),
        ({"learns": ()}, "learns must name stages"),
        ({"preranked_level": 4}, "preranked_level at most exposed_level; got 4 and 3"),
        (
            {"sampling": {"rates": [1, 0.4, 0.01, 0.001]}},
            "sampling.rates must be 3 numbers, one per domain",
        ),
        ({"sampling": {"rates": [1, 0.4]}}, "three or four numbers"),
        ({"sampling": {"rats": [1, 0.4, 0.1]}}, "rates"),
        ({"joint": {"temperature": 1.0}}, "joint must be a table of the name of another"),
        ({"joint": {"name": "entire_chain"}}, "needs learns, the names of other stages"),
        ({"joint": {"name": "entire_chain", "learns": ["pre"]}}, r"other stages than \['pre'\]"),
        ({"joint": {"name": "lcron", "quotas": [3]}}, "without stages, quotas and ground truth"),
        ({"joint": {"name": "lcorn"}}, "did you mean 'lcron'"),
        ({"event": "buy"}, "event"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)
