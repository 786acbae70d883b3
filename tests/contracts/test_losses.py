"""Properties of every registered loss. The tests find a new loss through the registry."""

import functools
import inspect
import re
from math import inf, nan
from typing import NamedTuple, get_args, get_type_hints

import pytest
import torch

from cascaderank.errors import CascadeRankError, ConfigError, ShapeError
from cascaderank.losses import LOSSES
from cascaderank.sorting import PermutationOperator

OPTIONS = {"k": 3, "quotas": (5, 4), "m": 5}
"""Values of options without a usable default. A new loss may need a new entry."""

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


class Rule(NamedTuple):
    """Values that an option refuses, and what the message must contain."""

    refused: tuple[object, ...]
    allowed: tuple[str, ...]
    """Words of the message that describe the allowed values."""


COUNT = Rule((0, -1, 1.5, nan, True), ("positive integer",))

RULES = {
    "k": COUNT,
    "m": COUNT,
    "classes": COUNT,
    "scalings": Rule((-1, 1.5, nan, True), ("integer", "at least 0")),
    "temperature": Rule((0.0, -1.0, nan, inf, -inf), ("positive",)),
    "threshold": Rule((nan, inf, -inf), ("finite",)),
    "weight": Rule((-0.1, nan, inf, -inf), ("finite", "at least 0")),
    "mu": Rule((-0.1, nan, inf, -inf), ("finite", "at least 0")),
    "cuts": Rule(("label", (), (0,), (1.5,), (True,)), ("'labels'",)),
    "clip": Rule((0.0, -1.0, nan), ("positive",)),
    "level_weights": Rule(((), (-0.1,), (nan,), (1.0, inf)), ("finite", "at least 0")),
    "pointwise": Rule((-0.1, nan, inf, -inf), ("finite", "at least 0")),
    "quotas": Rule(((4, 5), (5, 0), (5, -1), (5, 2.5), (5, nan), (5, True)), ("positive", "grow")),
    "reduction": Rule(("maen", "", None), ("mean", "sum", "none")),
    "gain": Rule(("cubic", None), ("exponential", "linear")),
    "balance": Rule(("label", None), ("pairs", "labels")),
    "bound": Rule(("loss3", None), ("loss1", "loss2", "loss2++")),
    "straight_through": Rule(("no", 1, None), ("True", "False")),
    "operator": Rule(("nueral_sort",), ("neural_sort", "soft_sort")),
}
"""Values out of the range of each option; a new option needs a new entry."""

TENSORS = {
    "mask": (lambda scores: torch.ones_like(scores), lambda scores: scores[..., 1:] > 0),
    "cuts": (
        lambda scores: torch.ones(len(scores[0]) + 1, 2, dtype=torch.int64),
        lambda scores: torch.ones(scores.shape[1], 2),
        lambda scores: torch.ones(scores.shape[1], dtype=torch.int64),
    ),
    "exposed": (lambda scores: torch.ones_like(scores), lambda scores: scores[..., 1:] > 0),
    "levels": (
        lambda scores: torch.ones_like(scores),
        lambda scores: scores > 0,
        lambda scores: scores[..., 1:].long(),
    ),
    "log_q": (lambda scores: scores[..., 1:],),
    "propensities": (
        lambda scores: torch.ones_like(scores[..., 1:]),
        lambda scores: torch.ones_like(scores, dtype=torch.int64),
    ),
    "temperature": (
        lambda scores: torch.ones(len(scores) + 1),
        lambda scores: torch.ones(len(scores), dtype=torch.int64),
    ),
}
"""Tensors of a wrong shape or dtype for each option that takes tensors."""


def option_refusals():
    """Yield a case for each number, word or sequence that an option of a loss must refuse."""
    for name in LOSSES:
        for option in LOSSES.options(name):
            rule = RULES.get(option, Rule((), ()))
            for value in rule.refused:
                yield pytest.param(name, option, value, rule.allowed, id=f"{name}-{option}-{value}")
            if PermutationOperator in types_of(name, option):
                only_top_k = ("lap_sum", ("soft_sort",))
                yield pytest.param(name, option, *only_top_k, id=f"{name}-{option}-lap_sum")


def tensor_refusals():
    for name in LOSSES:
        for option in LOSSES.options(name):
            if torch.Tensor in types_of(name, option):
                for number, wrong in enumerate(TENSORS.get(option, ())):
                    yield pytest.param(name, option, wrong, id=f"{name}-{option}-{number}")


def types_of(name, option):
    """Return the types that an option may have, without ``None``."""
    hint = get_type_hints(LOSSES[name])[option]
    return set(get_args(hint) or (hint,)) - {type(None)}


class Loss:
    """A loss with its options; a loss of one ranking gets the scores of the first stage."""

    def __init__(self, name):
        options = LOSSES.options(name)
        self.name = name
        self.of_cascade = "quotas" in options
        given = {o: v for o, v in OPTIONS.items() if o in options}
        needed = [o for o, p in options.items() if p.default is p.empty and o not in given]
        assert not needed, f"loss '{name}': add values for {needed} to OPTIONS in {__file__}"
        self.function = functools.partial(LOSSES[name], **given)

    def __call__(self, scores, labels, **options):
        return self.function(scores if self.of_cascade else scores[0], labels, **options)

    def with_gradient(self, scores, labels, **options):
        scores = scores.detach().clone().requires_grad_()
        value = self(scores, labels, **options)
        (gradient,) = torch.autograd.grad(value.sum(), scores)
        return value.detach(), gradient


@pytest.fixture(params=list(LOSSES))
def loss(request):
    return Loss(request.param)


def same(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("junk", [1e30, -1e30, float("inf"), -float("inf"), float("nan")])
def test_padding_has_no_effect(loss, cascade, junk, dtype):
    scores, labels, mask = cascade
    scores, labels = scores.to(dtype), labels.to(dtype)
    clean = loss.with_gradient(scores, labels, mask=mask, reduction="none")
    dirty = loss.with_gradient(
        scores.masked_fill(~mask, junk),
        labels.masked_fill(~mask, junk),
        mask=mask,
        reduction="none",
    )
    same(dirty, clean)
    assert clean[0].isfinite().all()
    assert (dirty[1][:, ~mask] == 0).all()
    assert clean[1][0][mask].any(), "vacuous: no gradient at all"


@pytest.mark.parametrize("at", [0, 1, -1], ids=["best", "worst", "last"])
@pytest.mark.parametrize("truth", [{}, {"k": None, "threshold": 0.6}], ids=["top", "threshold"])
def test_a_nan_label_makes_the_loss_of_its_list_nan(loss, cascade, at, truth):
    """It has no effect on the losses and the gradients of other lists, nor under the mask."""
    scores, labels, mask = cascade
    options = {o: v for o, v in truth.items() if "threshold" in LOSSES.options(loss.name)}
    value, gradient = loss.with_gradient(scores, labels, mask=mask, reduction="none", **options)
    mask = mask.clone()
    mask[0, at], labels[:2, at] = True, nan  # real in the first list; the last of the second is not
    if at != -1:
        labels[1] = cascade[1][2]
    got, back = loss.with_gradient(scores, labels, mask=mask, reduction="none", **options)
    assert got[0].isnan()
    others = slice(2, None) if at != -1 else slice(1, None)
    assert value[others].isfinite().all()
    same(got[others], value[others])
    same(back[:, others], gradient[:, others])


def test_a_padded_list_equals_the_list_without_padding(loss, cascade):
    scores, labels, mask = cascade
    values, gradients = loss.with_gradient(scores, labels, mask=mask, reduction="none")
    for i, real in enumerate(mask.sum(-1).tolist()):
        value, gradient = loss.with_gradient(scores[:, i : i + 1, :real], labels[i : i + 1, :real])
        torch.testing.assert_close(value, values[i])
        torch.testing.assert_close(gradient[:, 0], gradients[:, i, :real])


def test_real_candidates_may_be_anywhere_in_the_list(loss, cascade):
    scores, labels, mask = cascade
    value, gradient = loss.with_gradient(scores, labels, mask=mask, reduction="none")
    flipped, back = loss.with_gradient(
        scores.flip(-1), labels.flip(-1), mask=mask.flip(-1), reduction="none"
    )
    torch.testing.assert_close(flipped, value)
    torch.testing.assert_close(back.flip(-1), gradient)


@pytest.mark.parametrize("tied", [False, True])
def test_order_of_candidates_has_no_effect(loss, cascade, tied):
    scores, labels, mask = cascade
    if tied:
        scores = scores.round()
    order = torch.randperm(scores.shape[-1], generator=torch.Generator().manual_seed(0))
    value, gradient = loss.with_gradient(scores, labels, mask=mask, reduction="none")
    moved = loss.with_gradient(
        scores[..., order], labels[:, order], mask=mask[:, order], reduction="none"
    )
    torch.testing.assert_close(moved, (value, gradient[..., order]))


def test_lists_are_independent(loss, cascade):
    scores, labels, mask = cascade
    before = loss.with_gradient(scores, labels, mask=mask, reduction="none")
    changed_scores, changed_labels = scores.clone(), labels.clone()
    changed_scores[:, 1:] = scores[:, 1:].flip(-1) * 3
    changed_labels[1:] = labels[1:].flip(-1)
    after = loss.with_gradient(changed_scores, changed_labels, mask=mask, reduction="none")
    same(after[0][0], before[0][0])
    same(after[1][:, 0], before[1][:, 0])
    assert not torch.equal(after[0][1:], before[0][1:]), "vacuous: nothing changed"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "case", ["all_padding", "no_positive_label", "all_positive", "one_candidate", "all_tied"]
)
def test_degenerate_lists_give_finite_value_and_gradient(loss, cascade, case, dtype):
    scores, labels, mask = (t.clone() for t in cascade)
    if case == "all_padding":
        mask[:] = False
    elif case == "no_positive_label":
        labels[:] = 0
    elif case == "all_positive":
        labels[:] = 1
    elif case == "one_candidate":
        mask[:, 1:] = False
    else:
        scores[:] = 1.0
    value, gradient = loss.with_gradient(
        scores.to(dtype), labels.to(dtype), mask=mask, reduction="none"
    )
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    if case == "all_padding":
        assert (value == 0).all()
        assert (gradient == 0).all()


@pytest.mark.parametrize("shape", [(2, 0, 24), (2, 4, 0)])
def test_an_empty_batch_has_loss_0(loss, shape):
    scores = torch.zeros(shape, requires_grad=True)
    value = loss(scores, torch.zeros(shape[1:]))
    value.backward()
    assert value == 0
    assert scores.grad.shape == shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-30, 1e-4, 1e4, 1e30])
def test_extreme_scores_give_finite_value_and_gradient(loss, cascade, size, dtype):
    scores, labels, mask = cascade
    value, gradient = loss.with_gradient(
        (scores * size).to(dtype), labels.to(dtype), mask=mask, reduction="none"
    )
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_result_has_the_dtype_of_the_scores(loss, cascade, dtype):
    scores, labels, mask = cascade
    value, gradient = loss.with_gradient(scores.to(dtype), labels.to(dtype), mask=mask)
    assert value.dtype is gradient.dtype is dtype


@pytest.mark.parametrize(
    ("dtype", "rtol"),
    [(torch.float32, 1e-4), (torch.float16, 2e-2), (torch.bfloat16, 2e-2)],
    ids=str,
)
def test_narrow_floats_agree_with_float64(loss, cascade, dtype, rtol):
    scores, labels, mask = cascade
    expected = loss.with_gradient(scores, labels, mask=mask, reduction="none")
    got = loss.with_gradient(scores.to(dtype), labels.to(dtype), mask=mask, reduction="none")
    torch.testing.assert_close(got[0].double(), expected[0], rtol=rtol, atol=rtol)
    scale = expected[1].abs().max()
    torch.testing.assert_close(got[1].double() / scale, expected[1] / scale, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("length", [1, 2])
def test_short_lists_in_half_precision_have_a_finite_value_and_gradient(loss, cascade, length):
    scores, labels, mask = (x[..., :length] for x in cascade)
    for real in (mask, None):
        value, gradient = loss.with_gradient(scores.half(), labels.half(), mask=real)
        assert value.dtype is torch.float16
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_integer_labels_that_float32_cannot_hold_are_compared_exactly(loss, cascade):
    scores, labels, mask = cascade
    if loss.name in {"bce", "inclusion_policy_gradient", "pointwise_softmax"}:
        pytest.skip("labels are probabilities, rewards, or classes that start at 0")
    ranks, high = (4 * labels).long(), 2**24 + 1
    names = LOSSES.options(loss.name)
    options = [({}, {})]
    if "threshold" in names:
        options.append(({"k": None, "threshold": 2}, {"k": None, "threshold": high + 2}))
    if "gain" in names:  # gains depend on the origin of labels; their order is that of the ranks
        assert loss(scores.float(), ranks + high, mask=mask) > 0
        return
    for low, shifted in options:
        want = loss(scores, ranks, mask=mask, **low)
        torch.testing.assert_close(loss(scores, ranks + high, mask=mask, **shifted), want)
        narrow = loss(scores.float(), (ranks + high).int(), mask=mask, **shifted)
        torch.testing.assert_close(narrow.double(), want, rtol=1e-4, atol=1e-5)


def test_labels_may_be_integers(loss, cascade):
    scores, labels, mask = cascade
    labels = labels.round()
    same(loss(scores, labels.long(), mask=mask), loss(scores, labels, mask=mask))


def test_reductions_agree(loss, cascade):
    scores, labels, mask = cascade
    none, total, mean = (
        loss(scores, labels, mask=mask, reduction=r) for r in ("none", "sum", "mean")
    )
    assert none.shape == mask.shape[:1]
    torch.testing.assert_close(total, none.sum())
    torch.testing.assert_close(mean, none.mean())


def test_a_gradient_step_decreases_the_loss(loss, cascade):
    scores, labels, mask = cascade
    before, gradient = loss.with_gradient(scores, labels, mask=mask)
    assert gradient.abs().sum() > 0, "vacuous: no gradient at all"
    step = 1e-3 * gradient / gradient.norm()
    assert loss(scores - step, labels, mask=mask) < before


def test_scores_in_the_order_of_labels_have_a_smaller_loss_than_in_reverse(loss, cascade):
    scores, _, mask = cascade
    labels = torch.linspace(1, 0, scores.shape[-1]).double().expand(mask.shape)
    best = 3 * labels.expand_as(scores)
    assert loss(best, labels, mask=mask) < loss(-best, labels, mask=mask)


def test_inputs_are_not_modified(loss, cascade):
    scores, labels, mask = cascade
    copies = [t.clone() for t in cascade]
    loss(scores, labels, mask=mask)
    same(list(cascade), copies)


def test_a_list_loss_takes_any_batch_dimensions(loss, cascade):
    scores, labels, mask = cascade
    if loss.of_cascade:
        with pytest.raises(ShapeError):
            loss(scores[None], labels, mask=mask)
        return
    flat = loss.function(scores[0], labels, mask=mask, reduction="none")
    square = loss.function(
        scores[0].view(2, 2, -1), labels.view(2, 2, -1), mask=mask.view(2, 2, -1), reduction="none"
    )
    single = loss.function(scores[0, 0], labels[0], mask=mask[0], reduction="none")
    same(square, flat.view(2, 2))
    torch.testing.assert_close(single, flat[0])


def test_wrong_shapes_and_reductions_are_refused(loss, cascade):
    scores, labels, mask = cascade
    with pytest.raises(ShapeError):
        loss(scores, labels[:, :-1], mask=mask)
    with pytest.raises(ShapeError):
        loss(scores, labels, mask=mask.double())
    with pytest.raises(ShapeError):
        loss(scores.long(), labels, mask=mask)
    with pytest.raises(ConfigError, match="did you mean 'mean'"):
        loss(scores, labels, mask=mask, reduction="maen")


def test_every_option_of_a_loss_has_a_rule():
    for name in LOSSES:
        for option, parameter in LOSSES.options(name).items():
            types = types_of(name, option)
            where = f"loss '{name}', option '{option}' ({parameter}): add values that must be"
            assert option in RULES or types == {torch.Tensor}, f"{where} refused to RULES"
            assert option in TENSORS or torch.Tensor not in types, f"{where} refused to TENSORS"


@pytest.mark.parametrize(("name", "option", "value", "allowed"), list(option_refusals()))
@pytest.mark.parametrize("case", ["full", "no_lists", "no_candidates"])
def test_options_out_of_range_are_refused(cascade, name, option, value, allowed, case):
    """Also for empty input, where the value of the option has no effect."""
    scores, labels, mask = cascade
    if case == "no_lists":
        scores, labels, mask = scores[:, :0], labels[:0], mask[:0]
    elif case == "no_candidates":
        scores, labels, mask = scores[..., :0], labels[..., :0], mask[..., :0]
    options = {option: value}
    if option == "threshold":
        options["k"] = None
    with pytest.raises(CascadeRankError) as caught:
        Loss(name)(scores, labels, mask=mask, **options)
    assert isinstance(caught.value, ConfigError), f"{type(caught.value)} instead of ConfigError"
    message = str(caught.value)
    shown = list(value) if isinstance(value, tuple) else value
    assert re.search(rf"\b{option}\b", message), f"the name of the option is not in: {message}"
    assert str(shown) in message, f"the value is not in: {message}"
    for word in allowed:
        assert word in message, f"'{word}' is not in: {message}"


@pytest.mark.parametrize(("name", "option", "wrong"), list(tensor_refusals()))
def test_tensors_of_a_wrong_shape_or_dtype_are_refused(cascade, name, option, wrong):
    scores, labels, mask = cascade
    loss = Loss(name)
    options = {"mask": mask, option: wrong(scores[0])}
    with pytest.raises(ShapeError) as caught:
        loss(scores, labels, **options)
    assert re.search(rf"\b{option}\b", str(caught.value)), f"no option named in: {caught.value}"


@pytest.mark.parametrize("name", [n for n in LOSSES if "threshold" in LOSSES.options(n)])
def test_k_and_threshold_define_the_ground_truth_together(cascade, name):
    scores, labels, mask = cascade
    with pytest.raises(ConfigError, match="got neither"):
        Loss(name)(scores, labels, mask=mask, k=None, threshold=None)

    def loss(**by):
        return Loss(name)(scores, labels, mask=mask, **{"k": None, "threshold": None, **by})

    low, median = labels.min().item(), labels[mask].median().item()
    torch.testing.assert_close(loss(k=3, threshold=low), loss(k=3))
    torch.testing.assert_close(loss(k=10**6, threshold=median), loss(threshold=median))


def test_options_of_losses_are_keyword_only():
    for name in LOSSES:
        kinds = {p.kind for p in inspect.signature(LOSSES[name]).parameters.values()}
        assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
        positional = list(inspect.signature(LOSSES[name]).parameters)[:2]
        assert positional == ["scores", "labels"]
