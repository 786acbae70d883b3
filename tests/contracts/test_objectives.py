"""Contract of every objective; new objectives are tested without being listed."""

import copy
import pkgutil

import pytest
import torch

from cascaderank import objectives
from cascaderank.errors import ConfigError, ShapeError
from cascaderank.objectives import OBJECTIVES, build_objective

QUOTAS = (6, 4, 3)
METHODS = {m.name for m in pkgutil.iter_modules(objectives.__path__)}
"""Objectives with a file; the others are derived from losses and have their names."""

NEED_LEVELS = {"entire_chain"}
"""Objectives that raise an error for a batch without levels."""

SORTING = [name for name in OBJECTIVES if "temperature" in OBJECTIVES.options(name)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


class Case:
    """An objective and a batch for it."""

    def __init__(self, name, stages, cascade, *, levels, **options):
        scores, self.labels, self.mask = cascade
        self.scores = torch.cat([scores, scores[:1].roll(5, -1)])[:stages]
        self.levels = (self.labels * (stages + 1)).long() if levels else None
        task = {"stages": stages, "quotas": QUOTAS[:stages], "ground_truth": 3}
        self.objective = build_objective(name, **task, **options).double()

    def __call__(self, **changes):
        inputs = {"mask": self.mask, "levels": self.levels, **changes}
        return self.objective(
            inputs.pop("scores", self.scores), inputs.pop("labels", self.labels), **inputs
        )

    def with_gradient(self, **changes):
        scores = changes.pop("scores", self.scores).detach().clone().requires_grad_()
        total = self(scores=scores, **changes).total
        (gradient,) = torch.autograd.grad(total, scores)
        return total.detach(), gradient


@pytest.fixture(params=list(OBJECTIVES))
def name(request):
    return request.param


CASES = [
    (name, stages, levels)
    for name in OBJECTIVES
    for stages, levels in [(1, True), (2, True), (3, True), (2, False)]
    if name in METHODS or (stages, levels) == (2, True)  # the contracts of losses cover the rest
    if levels or name not in NEED_LEVELS
]


@pytest.fixture(params=CASES, ids=str)
def case(request, cascade):
    name, stages, levels = request.param
    return Case(name, stages, cascade, levels=levels)


def same(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("junk", [1e30, float("inf"), -float("inf"), float("nan")])
def test_padding_has_no_effect(case, junk):
    clean, padding = case.with_gradient(), ~case.mask
    levels = None if case.levels is None else case.levels.masked_fill(padding, 99)
    dirty = case.with_gradient(
        scores=case.scores.masked_fill(padding, junk),
        labels=case.labels.masked_fill(padding, junk),
        levels=levels,
    )
    same(dirty, clean)
    assert clean[0].isfinite()
    assert clean[1].any(), "vacuous: no gradient at all"
    assert (dirty[1][:, padding] == 0).all()


def test_weights_multiply_the_gradient_of_each_candidate_and_nothing_else(case):
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(case.labels.shape, generator=generator, dtype=torch.float64) * 3
    weights[:, ::4] = 0
    plain, gradient = case.with_gradient()
    assert gradient.count_nonzero()
    junk = weights.masked_fill(~case.mask, torch.nan)
    same(case.with_gradient(weights=junk), (plain, gradient * weights))


def test_a_nan_label_makes_the_objective_nan_if_it_reads_labels(case):
    labels = case.labels.clone()
    labels[0, 0] = torch.nan
    changed = torch.where(case.mask, 1 - case.labels, case.labels)
    reads_labels = not torch.equal(case(labels=changed).total, case().total)
    assert bool(case(labels=labels).total.isnan()) == reads_labels


def test_order_of_candidates_has_no_effect(case):
    order = torch.randperm(case.mask.shape[-1], generator=torch.Generator().manual_seed(0))
    total, gradient = case.with_gradient()
    moved = case.with_gradient(
        scores=case.scores[..., order],
        labels=case.labels[:, order],
        mask=case.mask[:, order],
        levels=None if case.levels is None else case.levels[:, order],
    )
    torch.testing.assert_close(moved, (total, gradient[..., order]))


def test_terms_are_means_over_independent_lists(case):
    whole = case()
    alone = [
        case(
            scores=case.scores[:, i : i + 1],
            labels=case.labels[i : i + 1],
            mask=case.mask[i : i + 1],
            levels=None if case.levels is None else case.levels[i : i + 1],
        )
        for i in range(len(case.mask))
    ]
    for term, value in whole.terms.items():
        torch.testing.assert_close(value, torch.stack([a.terms[term] for a in alone]).mean())


def test_terms_and_weights_are_reported_without_gradient(case):
    out = case(scores=case.scores.clone().requires_grad_())
    assert out.total.requires_grad
    assert list(out.terms) == list(out.weights) == [term.name for term in case.objective.terms]
    for value in (*out.terms.values(), *out.weights.values()):
        assert value.dim() == 0
        assert value.isfinite()
        assert not value.requires_grad
    total = sum(out.weights[term] * value for term, value in out.terms.items())
    torch.testing.assert_close(out.total.detach(), total)  # all ln w are 0


def test_every_stage_receives_gradient(case):
    _, gradient = case.with_gradient()
    assert gradient.abs().sum((1, 2)).min() > 0


def test_a_gradient_step_decreases_the_total(case):
    before, gradient = case.with_gradient()
    after = case(scores=case.scores - 1e-3 * gradient / gradient.norm()).total
    assert after < before


def test_learned_weights_receive_gradient(case):
    parameters = list(case.objective.parameters())
    if parameters:
        for gradient in torch.autograd.grad(case().total, parameters):
            assert gradient.isfinite()
            assert gradient != 0


@pytest.mark.parametrize(
    "degenerate", ["all_padding", "no_positive_label", "one_candidate", "all_tied", "no_batch"]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_degenerate_batches_give_finite_value_and_gradient(case, degenerate, dtype):
    scores, labels, mask = case.scores.clone(), case.labels.clone(), case.mask.clone()
    levels = case.levels
    if degenerate == "all_padding":
        mask[:] = False
    elif degenerate == "no_positive_label":
        labels[:] = 0
    elif degenerate == "one_candidate":
        mask[:, 1:] = False
    elif degenerate == "all_tied":
        scores[:] = 1.0
    else:
        scores, labels, mask = scores[:, :0], labels[:0], mask[:0]
        levels = None if levels is None else levels[:0]
    total, gradient = case.with_gradient(
        scores=scores.to(dtype), labels=labels.to(dtype), mask=mask, levels=levels
    )
    assert total.isfinite()
    assert gradient.isfinite().all()
    assert gradient.dtype is dtype


@pytest.mark.parametrize("size", [1e-30, 1e4, 1e30])
@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_scores_give_finite_value_and_gradient(case, size, dtype):
    total, gradient = case.with_gradient(scores=(case.scores * size).to(dtype))
    assert total.isfinite()
    assert gradient.isfinite().all()


def test_it_can_be_copied_and_its_state_restored(case):
    parameters = list(case.objective.parameters())
    with torch.no_grad():
        for i, parameter in enumerate(parameters):
            parameter.fill_(0.1 * (i + 1))
    twin = copy.deepcopy(case.objective)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    twin.load_state_dict(case.objective.state_dict())
    arguments = {"mask": case.mask, "levels": case.levels}
    same(twin(case.scores, case.labels, **arguments).total, case().total)


def test_terms_contain_the_names_of_stages(name):
    objective = build_objective(
        name, stages=["retrieval", "ranking"], quotas=(4, 2), ground_truth=2
    )
    by_stage = [term.name for term in objective.terms if "/" in term.name]
    assert {term.partition("/")[2] for term in by_stage} <= {"retrieval", "ranking"}


def test_a_threshold_is_accepted_instead_of_a_size(name, cascade):
    scores, labels, mask = cascade
    objective = build_objective(name, stages=2, quotas=(4, 2), threshold=0.5)
    scores = scores.clone().requires_grad_()
    levels = (3 * labels).long() if name in NEED_LEVELS else None
    out = objective(scores, labels, mask=mask, levels=levels)
    out.total.backward()
    assert out.total.isfinite()
    assert scores.grad.any()


def test_every_option_is_read(name, cascade):
    """Changing any option changes the value: no option is ignored."""
    other = {
        "operator": "soft_sort",
        "temperature": 2.0,
        "score_temperature": 2.0,
        "relative_temperature": True,
        "cut": "quotas",
        "end_to_end": 0.5,
        "weights": (0.3, 0.7),
        "entry_levels": (0, 1),
        "loss": "lambda_ndcg",
        "m": 2,
        "balance": "labels",
        "gain": "linear",
        "bound": "loss1",
        "scalings": 1,
        "straight_through": True,
        "classes": 3,
        "mu": 3.0,
        "weight": 0.1,
        "alpha": 0.9,
        "cuts": (2, 5),
        "coupling": 0.5,
        "level_weights": (1.0, 0.5, 0.5, 2.0),
        "pointwise": 0.5,
        "tightness": 0.5,
        "warm_up": 0.5,
        "z": (0.0, 2.0, 2.0, 5.0),
        "corrected": False,  # true by default, if the batch has log_q
        "learns": ("stage_1",),
        "exposed_level": 2,
        "joint": {"name": "bce"},
        "k": 5,
    }
    elsewhere = {
        # Requires warm_up: tests/contracts/test_score_temperature.py
        "conditional_survival": {"score_temperature"},
        # Used for other batches or stages: tests/objectives/test_entire_chain.py
        "entire_chain": {
            "preranked_level", "event", "exposures_only", "sampling", "penalty", "open_share",
        },
        # Used with tightness only: tests/objectives/test_tightness.py
        "lcron": {"tightness_temperature", "tightness_trains"},
    }  # fmt: skip
    if name == "icc":
        other["relative_temperature"] = False  # true by default
    if name == "fs_ranknet":
        other["balance"] = "pairs"
    options = set(OBJECTIVES.options(name))
    options -= {"stages", "quotas", "ground_truth", "threshold", "published"}
    options -= elsewhere.get(name, set())
    missing = options - set(other)
    assert not missing, f"add other values of {missing} of objective '{name}' to `other`"
    given = {"progress": 0.5, "log_q": cascade[0][1] / 3}
    usual = Case(name, 2, cascade, levels=True)(**given).total
    for option in options:
        changed = Case(name, 2, cascade, levels=True, **{option: other[option]})(**given).total
        assert not torch.isclose(changed, usual, rtol=1e-6), option


@pytest.mark.parametrize("name", SORTING)
@pytest.mark.parametrize("shape", ["geometric", "linear"])
def test_a_temperature_can_be_annealed(name, cascade, shape):
    """The temperature at half of training has the value of the formula, and both ends are exact."""
    middle = {"geometric": 2.0, "linear": 2.5}[shape]
    table = {"start": 4.0, "end": 1.0, "shape": shape}
    annealed = Case(name, 2, cascade, levels=True, temperature=table)
    for progress, now in ((0.0, 4.0), (0.5, middle), (1.0, 1.0)):
        still = Case(name, 2, cascade, levels=True, temperature=now)
        torch.testing.assert_close(annealed(progress=progress).total, still().total)
    same(annealed().total, annealed(progress=1.0).total)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"start": 4.0, "end": 0.0}, "end of a temperature must be a positive number; got 0"),
        ({"start": -1.0, "end": 1.0}, "start of a temperature must be a positive number"),
        ({"start": 4.0}, "end: Field required"),
        ({"start": 4.0, "end": 1.0, "shpae": "linear"}, "shpae: Unexpected keyword"),
        ({"start": 4.0, "end": 1.0, "shape": "cosine"}, "shape: Input should be 'geometric' or"),
        ("warm", "valid number"),
        (0.0, "temperature must be a positive number; got 0"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", SORTING)
def test_a_wrong_temperature_is_refused(name, table, message):
    with pytest.raises(ConfigError) as caught:
        build_objective(name, stages=2, quotas=(4, 2), ground_truth=2, temperature=table)
    assert message in str(caught.value)


def test_the_end_of_training_is_the_default(case):
    same(case().total, case(progress=1.0).total)
    for progress in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match=r"progress must be a number in \[0, 1\]"):
            case(progress=progress)


def test_terms_can_be_omitted(case):
    whole, names = case(), [term.name for term in case.objective.terms]
    total = 0.0
    for name in names:
        out = case(terms={name})
        assert list(out.terms) == list(out.weights) == [name]
        same(out.terms[name], whole.terms[name])
        total = total + out.total
    torch.testing.assert_close(total, whole.total)
    with pytest.raises(ConfigError, match=rf"the objective has no term of .*; it has {names[0]}"):
        case(terms={"nothing"})


def test_a_term_of_a_stage_has_gradient_for_that_stage_only(case):
    scores = case.scores.clone().requires_grad_()
    for term in case.objective.terms:
        assert (term.stage is not None) == ("/" in term.name)
        (gradient,) = torch.autograd.grad(case(scores=scores, terms={term.name}).total, scores)
        taught = set(gradient.abs().sum((1, 2)).nonzero().flatten().tolist())
        if term.stage is not None:
            assert taught == {term.stage}


def test_candidates_that_do_not_reach_a_stage_are_padding_to_it(case):
    reached = case.mask.expand_as(case.scores).clone()
    reached[1:, :, ::2] = False
    got = case(reached=reached)
    for term in case.objective.terms:
        mask = case.mask if term.stage is None else reached[term.stage]
        same(got.terms[term.name], case(mask=mask).terms[term.name])
    same(case(reached=case.mask.expand_as(case.scores)).total, case().total)
    with pytest.raises(ShapeError, match="reached must be bool"):
        case(reached=reached[:, :, 1:])


def test_wrong_shapes_are_refused(case):
    with pytest.raises(ShapeError, match="stages"):
        case(scores=torch.cat([case.scores, case.scores[:1]]))
    with pytest.raises(ShapeError):
        case(labels=case.labels[:, :-1])
    with pytest.raises(ShapeError):
        case(mask=case.mask.long())
    with pytest.raises(ShapeError, match="levels must be integers"):
        case(levels=case.labels)
    with pytest.raises(ShapeError, match="levels must be integers"):
        case(levels=case.labels.long()[:, :-1])


def test_wrong_options_are_refused(name):
    task = {"stages": 2, "quotas": (4, 2), "ground_truth": 2}
    message = f"objective '{name}' has no option 'temprature'(?!.*(stages|quotas|ground_truth))"
    with pytest.raises(ConfigError, match=message):
        build_objective(name, **task, temprature=1.0)
    with pytest.raises(ConfigError, match="published"):
        build_objective(name, **{**task, "stages": 4, "quotas": (4, 3, 2, 1)}, published=True)
