"""Contract of every smooth sorting operator; new operators are tested without being listed."""

import pytest
import torch

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.sorting import (
    OPERATORS,
    PermutationOperator,
    log_top_k_probability,
    permutation,
    relative_temperature,
    top_k_probability,
)

RANKED = [name for name in OPERATORS if issubclass(OPERATORS[name], PermutationOperator)]
"""Operators with a permutation, not only top-k probabilities."""

DTYPES = [torch.float32, torch.float64, torch.bfloat16]
JUNK = [1e30, float("inf"), -float("inf"), float("nan")]
COLD, WARM = 1e-3, 1.0

OPTIONS = {"odd_even": {"swap": "logistic"}, "bitonic": {"swap": "logistic"}}
"""Options of operators whose default form converges too slowly to its limits for a test."""

NETWORKS = {"odd_even", "bitonic"}
"""Sorting networks compare positions. Only their results depend on the order of the candidates, and
they become softer with every layer and thus with the length of the list."""


@pytest.fixture
def lists(cascade):
    scores, _, mask = cascade
    return scores[0], mask


@pytest.fixture(params=list(OPERATORS))
def operator(request):
    return request.param


@pytest.fixture(params=RANKED)
def ranked(request):
    return request.param


@pytest.fixture(params=[name for name in OPERATORS if name not in NETWORKS])
def order_free(request):
    """An operator whose result does not depend on the order of the candidates."""
    return request.param


def at_the_limit(name):
    return OPERATORS[name](**OPTIONS.get(name, {}))


@pytest.fixture
def upstream(lists):
    """A fixed upstream gradient with a different value for every entry."""
    g = torch.Generator().manual_seed(3)
    return torch.randn(*lists[0].shape, lists[0].shape[-1], generator=g, dtype=torch.float64)


def with_gradient(function, scores, upstream, **options):
    """The value of a function of the scores, and its gradient for an upstream gradient."""
    scores = scores.detach().clone().requires_grad_()
    value = function(scores, **options)
    (gradient,) = torch.autograd.grad((value * upstream.to(value.dtype)).sum(), scores)
    return value.detach(), gradient


def of_top_k(operator, k, **fixed):
    """Probabilities and both logarithms, with the -inf of certain outcomes replaced by 0."""

    def function(scores, **options):
        options = {"operator": operator, **fixed, **options}
        kept = top_k_probability(scores, k, **options)
        log_kept, log_dropped = log_top_k_probability(scores, k, **options)
        logs = [log.masked_fill(log.isneginf(), 0.0) for log in (log_kept, log_dropped)]
        return torch.stack([kept, *logs], dim=-1)

    return function


def same(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_short_lists_have_a_result_and_a_gradient(operator, dtype, length):
    scores = torch.linspace(1.0, 0.0, length, dtype=dtype).expand(2, length)
    scores = scores.clone().requires_grad_()
    kept = top_k_probability(scores, 1, operator=operator)
    results = [kept, *log_top_k_probability(scores, 1, operator=operator)]
    if operator in RANKED:
        results.append(permutation(scores, operator=operator))
    for result in results:
        (gradient,) = torch.autograd.grad(
            result[result.isfinite()].sum(), scores, retain_graph=True
        )
        assert gradient.isfinite().all()
    if length == 1:
        assert kept.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("junk", JUNK)
def test_padding_has_no_effect_on_the_top_k(operator, lists, upstream, junk, dtype):
    scores, mask = lists
    scores = scores.to(dtype)
    function, up = of_top_k(operator, 4), upstream[..., :3]
    clean = with_gradient(function, scores, up, mask=mask)
    dirty = with_gradient(function, scores.masked_fill(~mask, junk), up, mask=mask)
    same(dirty, clean)
    assert clean[0].isfinite().all()
    assert (dirty[0][~mask] == 0).all()
    assert (dirty[1][~mask] == 0).all()
    assert clean[1].any(), "vacuous: no gradient at all"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("junk", JUNK)
def test_padding_has_no_effect_on_the_permutation(ranked, lists, upstream, junk, dtype):
    scores, mask = lists
    scores = scores.to(dtype)
    clean = with_gradient(permutation, scores, upstream, operator=ranked, mask=mask)
    dirty = with_gradient(
        permutation, scores.masked_fill(~mask, junk), upstream, operator=ranked, mask=mask
    )
    same(dirty, clean)
    assert (dirty[1][~mask] == 0).all()
    assert clean[1].any(), "vacuous: no gradient at all"


def test_ragged_lists_have_the_values_of_unpadded_ones(operator, lists, upstream):
    scores, mask = lists
    function, up = of_top_k(operator, 4), upstream[..., :3]
    values, gradients = with_gradient(function, scores, up, mask=mask)
    for i, n in enumerate(mask.sum(-1).tolist()):
        value, gradient = with_gradient(function, scores[i, :n], up[i, :n])
        torch.testing.assert_close(value, values[i, :n])
        torch.testing.assert_close(gradient, gradients[i, :n])


def test_ragged_permutations_equal_the_unpadded_ones_with_zeros(ranked, lists):
    scores, mask = lists
    rows = permutation(scores, operator=ranked, mask=mask)
    for i, n in enumerate(mask.sum(-1).tolist()):
        torch.testing.assert_close(rows[i, :n, :n], permutation(scores[i, :n], operator=ranked))
        assert (rows[i, n:] == 0).all()
        assert (rows[i, :, n:] == 0).all()


@pytest.mark.parametrize("tied", [False, True])
def test_order_of_candidates_has_no_effect(order_free, lists, upstream, tied):
    scores, mask = lists
    scores = scores.round() if tied else scores
    order = torch.randperm(scores.shape[-1], generator=torch.Generator().manual_seed(0))
    function, up = of_top_k(order_free, 4), upstream[..., :3]
    value, gradient = with_gradient(function, scores, up, mask=mask)
    moved = with_gradient(function, scores[:, order], up[:, order], mask=mask[:, order])
    torch.testing.assert_close(moved, (value[:, order], gradient[:, order]))


@pytest.mark.parametrize("tied", [False, True])
def test_order_of_candidates_permutes_the_columns_of_the_permutation(ranked, lists, upstream, tied):
    if ranked in NETWORKS:
        pytest.skip("compares positions")
    scores, mask = lists
    scores = scores.round() if tied else scores
    order = torch.randperm(scores.shape[-1], generator=torch.Generator().manual_seed(0))
    value, gradient = with_gradient(permutation, scores, upstream, operator=ranked, mask=mask)
    moved = with_gradient(
        permutation, scores[:, order], upstream[..., order], operator=ranked, mask=mask[:, order]
    )
    torch.testing.assert_close(moved, (value[..., order], gradient[:, order]))


def test_rows_are_distributions_over_ranks(ranked, lists):
    scores, mask = lists
    rows = permutation(scores, operator=ranked, mask=mask)
    real = torch.arange(scores.shape[-1]) < mask.sum(-1, keepdim=True)
    assert (rows >= 0).all()
    torch.testing.assert_close(rows.sum(-1), real.double())


def test_a_permutation_at_a_low_temperature_is_the_hard_sort(ranked, lists):
    scores, _ = lists
    rows = permutation(scores, operator=at_the_limit(ranked), temperature=COLD)
    same(rows.argmax(-1), scores.argsort(-1, descending=True))
    torch.testing.assert_close(rows.amax(-1), torch.ones_like(scores))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [1e-30, COLD])
def test_the_top_k_at_a_low_temperature_is_the_hard_top_k(operator, lists, temperature, dtype):
    scores, mask = lists
    limit = at_the_limit(operator)
    kept = top_k_probability(
        scores.to(dtype), 4, operator=limit, temperature=temperature, mask=mask
    )
    best = scores.masked_fill(~mask, -torch.inf).argsort(-1, descending=True).argsort(-1) < 4
    torch.testing.assert_close(kept, (best & mask).to(dtype))


def test_kept_and_dropped_add_up_to_one(operator, lists):
    scores, mask = lists
    kept, dropped = log_top_k_probability(scores, 4, operator=operator, mask=mask)
    torch.testing.assert_close(kept.exp() + dropped.exp(), mask.double())
    assert (kept <= 0).all()
    assert (dropped <= 0).all()


def test_the_logarithms_are_those_of_the_probability(operator, lists):
    scores, mask = lists
    kept, dropped = log_top_k_probability(scores, 4, operator=operator, mask=mask)
    probability = top_k_probability(scores, 4, operator=operator, mask=mask)
    torch.testing.assert_close(kept, probability.log())
    torch.testing.assert_close(dropped[mask], torch.log1p(-probability)[mask])


def test_the_logarithm_distinguishes_what_the_probability_rounds(operator):
    scores = torch.tensor([0.0, -300.0, -400.0, -500.0])
    options = {"operator": at_the_limit(operator), "temperature": 0.1}
    log_kept, _ = log_top_k_probability(scores, 1, **options)
    assert (top_k_probability(scores, 1, **options)[1:] == 0).all()
    assert log_kept[1:].isfinite().all()
    assert (log_kept.diff() < -500).all()


def test_a_higher_score_has_a_higher_probability(operator, lists):
    scores, _ = lists
    in_order = scores.sort(-1, descending=True).values
    assert (top_k_probability(in_order, 4, operator=operator).diff(dim=-1) < 0).all()


def test_raising_a_score_raises_its_own_probability(operator, lists):
    # The value, not the gradient: with operators that are only row-stochastic, the gradient of a
    # candidate far above the cut may be negative, as column sums are constants to it.
    scores, _ = lists
    before = top_k_probability(scores, 4, operator=operator)
    for j in range(scores.shape[-1]):
        raised = scores.clone()
        raised[:, j] += 0.05
        after = top_k_probability(raised, 4, operator=operator)
        assert (after[:, j] > before[:, j]).all()


@pytest.mark.parametrize("k", [3, 24, 1000])
def test_lists_of_at_most_k_candidates_are_kept_exactly(operator, lists, k):
    scores, mask = lists
    whole = mask.sum(-1) <= k
    assert whole.any(), "vacuous: no short list"
    log_kept, log_dropped = log_top_k_probability(scores, k, operator=operator, mask=mask)
    same(top_k_probability(scores, k, operator=operator, mask=mask)[whole], mask[whole].double())
    assert (log_kept[whole & mask.any(-1)][mask[whole]] == 0).all()
    assert log_dropped[whole].isneginf().all()
    _, gradient = with_gradient(of_top_k(operator, k), scores, torch.ones(()), mask=mask)
    assert gradient.isfinite().all()
    assert (gradient[whole] == 0).all()


def test_each_list_may_have_its_own_k(operator, lists):
    scores, mask = lists
    k = torch.tensor([5, 0, 6, 1])
    got = top_k_probability(scores, k, operator=operator, mask=mask)
    for i, each in enumerate(k.tolist()):
        if each == 0:
            assert (got[i] == 0).all()
            continue
        expected = top_k_probability(scores[i], each, operator=operator, mask=mask[i])
        torch.testing.assert_close(got[i], expected)
    log_kept, log_dropped = log_top_k_probability(scores, k, operator=operator, mask=mask)
    assert log_kept[1].isneginf().all(), "no candidate is kept"
    assert (log_dropped[1][mask[1]] == 0).all()


def test_each_list_may_have_its_own_temperature(operator, lists):
    scores, mask = lists
    temperature = torch.tensor([0.5, 1.0, 2.0, 50.0], dtype=torch.float64)
    got = top_k_probability(scores, 2, operator=operator, temperature=temperature, mask=mask)
    for i, each in enumerate(temperature.tolist()):
        expected = top_k_probability(
            scores[i], 2, operator=operator, temperature=each, mask=mask[i]
        )
        torch.testing.assert_close(got[i], expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1.0, 1e30, 1e300])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e30])
@pytest.mark.parametrize("tied", [False, True])
def test_extreme_temperatures_and_scores_give_no_nan(
    operator, lists, size, temperature, dtype, tied
):
    scores, mask = lists
    scores = ((scores.round() if tied else scores) * size).to(dtype)
    value, gradient = with_gradient(
        of_top_k(operator, 4), scores, torch.ones(()), temperature=temperature, mask=mask
    )
    assert value.isfinite().all()
    assert not gradient.isnan().any()
    if temperature >= 1e-30:  # beyond, the true gradient of tied scores is not a float32
        assert gradient.isfinite().all()
    if operator in RANKED:
        rows, gradient = with_gradient(
            permutation,
            scores,
            torch.arange(scores.shape[-1]),
            operator=operator,
            temperature=temperature,
            mask=mask,
        )
        assert rows.isfinite().all()
        assert not gradient.isnan().any()


def test_equal_scores_have_equal_probabilities_at_any_temperature(order_free, lists):
    scores, _ = lists
    scores = scores.round().float()
    for temperature in (1e-30, COLD, WARM, 1e30):
        kept = top_k_probability(scores, 4, operator=order_free, temperature=temperature)
        for row, chance in zip(scores, kept, strict=True):
            for value in row.unique():
                together = chance[row == value]
                torch.testing.assert_close(together, together[:1].expand_as(together))


def test_narrow_floats_agree_with_float64(operator, lists, upstream):
    scores, mask = lists
    function, up = of_top_k(operator, 4), upstream[..., :3]
    expected = with_gradient(function, scores, up, mask=mask)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        got = with_gradient(function, scores.to(dtype), up, mask=mask)
        assert got[0].dtype is got[1].dtype is dtype
        for g, w in zip(got, expected, strict=True):
            torch.testing.assert_close(g.double(), w, rtol=tolerance, atol=tolerance * 10)


def test_half_precision_is_rounded_once_at_the_end(operator, lists):
    scores, mask = lists  # exact in half precision
    expected = top_k_probability(scores.float(), 4, operator=operator, mask=mask)
    got = top_k_probability(scores.bfloat16(), 4, operator=operator, mask=mask)
    same(got, expected.bfloat16())


def test_adding_a_constant_to_all_scores_has_no_effect(operator, lists):
    scores, mask = lists
    got = top_k_probability(scores + 100.0, 4, operator=operator, mask=mask)
    torch.testing.assert_close(got, top_k_probability(scores, 4, operator=operator, mask=mask))


def test_a_relative_temperature_compensates_the_scale_of_the_scores(operator, lists, upstream):
    scores, mask = lists

    def kept(scores, **options):
        temperature = relative_temperature(scores, 0.3, operator=operator, **options)
        return top_k_probability(scores, 4, operator=operator, temperature=temperature, **options)

    value, gradient = with_gradient(kept, scores, upstream[..., 0], mask=mask)
    large, of_large = with_gradient(kept, 10 * scores, upstream[..., 0], mask=mask)
    torch.testing.assert_close(large, value)
    torch.testing.assert_close(10 * of_large, gradient)
    decided = mask.sum(-1) > 4
    torch.testing.assert_close(  # the result is invariant to scale, so no gradient along it
        (gradient * scores * mask).sum(-1)[decided], torch.zeros(3, dtype=torch.float64)
    )


def test_a_relative_temperature_of_a_ragged_list_equals_that_of_the_unpadded_one(operator, lists):
    scores, mask = lists
    got = relative_temperature(
        scores.masked_fill(~mask, torch.nan), 0.3, operator=operator, mask=mask
    )
    expected = [
        relative_temperature(scores[i, :n], 0.3, operator=operator)
        for i, n in enumerate(mask.sum(-1).tolist())
    ]
    torch.testing.assert_close(got, torch.stack(expected))


@pytest.mark.parametrize("repeats", [10, 100])
def test_a_relative_temperature_compensates_the_length_of_the_list(order_free, repeats):
    scores = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    longer = scores.repeat(repeats) + 1e-6 * torch.arange(20 * repeats)

    def kept(scores, k):
        temperature = relative_temperature(scores, 0.3, operator=order_free)
        return top_k_probability(scores, k, operator=order_free, temperature=temperature)

    short, long = kept(scores, 5), kept(longer, 5 * repeats).view(repeats, 20).mean(0)
    assert (short - long).abs().max() < 0.1


def test_a_relative_temperature_of_equal_scores_is_positive(operator):
    scores = torch.zeros(3, 5, requires_grad=True)
    temperature = relative_temperature(scores, 0.5, operator=operator)
    kept = top_k_probability(scores, 2, operator=operator, temperature=temperature)
    kept[:, 0].sum().backward()
    assert (temperature > 0).all()
    assert scores.grad.isfinite().all()


def test_empty_lists_are_accepted(operator):
    for shape in ((0, 5), (3, 0), (0,)):
        scores = torch.zeros(shape, requires_grad=True)
        kept = top_k_probability(scores, 2, operator=operator)
        kept.sum().backward()
        assert kept.shape == scores.grad.shape == shape
    scores = torch.zeros(3, 5, requires_grad=True)
    kept = top_k_probability(scores, 2, operator=operator, mask=torch.zeros(3, 5).bool())
    kept.sum().backward()
    assert (kept == 0).all()
    assert (scores.grad == 0).all()


def test_empty_permutations_are_accepted(ranked):
    assert permutation(torch.zeros(0, 5), operator=ranked).shape == (0, 5, 5)
    assert permutation(torch.zeros(3, 0), operator=ranked).shape == (3, 0, 0)


def test_any_batch_dimensions(operator, lists):
    scores, mask = lists
    flat = top_k_probability(scores, 4, operator=operator, mask=mask)
    square = top_k_probability(
        scores.view(2, 2, -1), 4, operator=operator, mask=mask.view(2, 2, -1)
    )
    single = top_k_probability(scores[1], 4, operator=operator, mask=mask[1])
    same(square.view_as(flat), flat)
    torch.testing.assert_close(single, flat[1])


@pytest.mark.parametrize("k", [0, -1, 2.0, True])
def test_a_k_that_keeps_nothing_is_refused(operator, lists, k):
    with pytest.raises(ConfigError, match="k must be a positive integer"):
        top_k_probability(lists[0], k, operator=operator)


def test_a_wrong_tensor_of_k_is_refused(operator, lists):
    scores, _ = lists
    for k in (torch.ones(4), torch.ones(4, dtype=torch.bool), torch.ones(3, dtype=torch.long)):
        with pytest.raises(ShapeError, match="k must be"):
            top_k_probability(scores, k, operator=operator)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused(operator, lists, temperature):
    with pytest.raises(ConfigError, match="temperature must be a positive number"):
        top_k_probability(lists[0], 2, operator=operator, temperature=temperature)


def test_a_wrong_tensor_of_temperatures_is_refused(operator, lists):
    scores, _ = lists
    for temperature in (torch.ones(4, dtype=torch.long), torch.ones(3), torch.ones(4, 24)):
        with pytest.raises(ShapeError, match="temperature must be"):
            top_k_probability(scores, 2, operator=operator, temperature=temperature)
