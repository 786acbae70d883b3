"""Contract of every metric; new metrics are tested without being listed."""

import functools
import inspect

import pytest
import torch

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.metrics import METRICS

OPTIONS = {"quotas": (4, 2), "k": 3, "m": 3}
"""Values of required options; a new metric may need a new entry."""

OF_PAIRS = {"auc", "kendall_tau", "opa"}
"""Pairwise metrics: undefined for a list of one candidate, which has no pairs."""

LISTS, LENGTH = 4, 24  # torch happens to sort up to 16 items stably
REAL = (24, 17, 5, 1)


class Metric:
    """A metric with its options, for scores of a whole cascade."""

    def __init__(self, name):
        options = METRICS.options(name)
        self.name = name
        self.stages = 2 if "quotas" in options else None
        given = {option: value for option, value in OPTIONS.items() if option in options}
        needed = [o for o, p in options.items() if p.default is p.empty and o not in given]
        assert not needed, f"add values for {needed} of metric '{name}' to OPTIONS"
        self.function = functools.partial(METRICS[name], **given)

    def __call__(self, scores, labels, **options):
        """Evaluate on the scores of all stages, or of the first for a metric of one ranking."""
        return self.function(scores if self.stages else scores[0], labels, **options)


@pytest.fixture(params=list(METRICS))
def metric(request):
    return Metric(request.param)


@pytest.fixture
def cascade():
    g = torch.Generator().manual_seed(7)
    scores = torch.stack([torch.randperm(LENGTH, generator=g) for _ in range(2 * LISTS)])
    scores = scores.view(2, LISTS, LENGTH).double() / 8  # distinct, and exact in half precision
    labels = torch.randint(0, 5, (LISTS, LENGTH), generator=g).double()
    labels[:, 0] = 4.0  # all lists have relevant candidates
    mask = torch.arange(LENGTH) < torch.tensor(REAL)[:, None]
    return scores, labels, mask


def same(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


def test_one_value_per_list_in_range(metric, cascade):
    scores, labels, mask = cascade
    got = metric(scores, labels, mask=mask)
    assert got.shape == (LISTS,)
    defined = [n > 1 or metric.name not in OF_PAIRS for n in REAL]
    assert got.isfinite().tolist() == defined
    assert ((got >= -1) & (got <= 1))[defined].all()


@pytest.mark.parametrize("junk", [0.0, 1e30, float("inf"), -float("inf"), float("nan")])
def test_padding_has_no_effect(metric, cascade, junk):
    scores, labels, mask = cascade
    dirty = metric(scores.masked_fill(~mask, junk), labels.masked_fill(~mask, junk), mask=mask)
    same(dirty, metric(scores, labels, mask=mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("truth", [{}, {"k": None, "threshold": 3.0}], ids=["top", "threshold"])
def test_a_nan_label_makes_its_list_undefined(metric, cascade, dtype, truth):
    """It has no effect on other lists, nor under the mask."""
    scores, labels, mask = cascade
    options = {o: v for o, v in truth.items() if "threshold" in METRICS.options(metric.name)}
    want = metric(scores, labels.to(dtype), mask=mask, **options)
    labels[1, 17:] = torch.nan  # padding
    for at in range(LENGTH):
        damaged = labels.clone()
        damaged[0, at] = torch.nan
        got = metric(scores, damaged.to(dtype), mask=mask, **options)
        assert got[0].isnan()
        same(got[1:], want[1:])


def test_integer_labels_that_float32_cannot_hold_are_compared_exactly(metric, cascade):
    scores, labels, mask = cascade
    if "gain" in METRICS.options(metric.name):
        pytest.skip("gains depend on the origin of the labels")
    high, options = 2**24 + 1, [({}, {})]
    if "threshold" in METRICS.options(metric.name):
        options.append(({"k": None, "threshold": 3}, {"k": None, "threshold": high + 3}))
    for low, shifted in options:
        want = metric(scores, labels.long(), mask=mask, **low)
        same(metric(scores, labels.long() + high, mask=mask, **shifted), want)


def test_a_padded_list_equals_the_unpadded_list_bit_for_bit(metric, cascade):
    scores, labels, mask = cascade
    whole = metric(scores, labels, mask=mask)
    for i, n in enumerate(REAL):
        same(metric(scores[:, i : i + 1, :n], labels[i : i + 1, :n]), whole[i : i + 1])


def test_the_mask_may_have_holes(metric, cascade):
    scores, labels, mask = cascade
    p = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(1))
    got = metric(scores[..., p], labels[:, p], mask=mask[:, p])
    torch.testing.assert_close(got, metric(scores, labels, mask=mask), equal_nan=True)


def test_order_of_candidates_has_no_effect(metric, cascade):
    scores, labels, _ = cascade
    p = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(metric(scores[..., p], labels[:, p]), metric(scores, labels))


def test_lists_are_independent(metric, cascade):
    scores, labels, mask = cascade
    p = [2, 0, 3, 1]
    same(metric(scores[:, p], labels[p], mask=mask[p]), metric(scores, labels, mask=mask)[p])


def test_better_rankings_have_higher_values(metric, cascade):
    _, labels, _ = cascade
    ideal = (labels + torch.linspace(0.5, 0, LENGTH)).expand(2, -1, -1)
    best, worst = metric(ideal, labels), metric(-ideal, labels)
    assert (best > worst).all()


def test_without_a_mask_all_candidates_are_real(metric, cascade):
    scores, labels, mask = cascade
    same(metric(scores, labels), metric(scores, labels, mask=torch.ones_like(mask)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_result_has_the_dtype_of_the_scores_and_at_least_float32(metric, cascade, dtype):
    scores, labels, mask = cascade
    got = metric(scores.to(dtype), labels.to(dtype), mask=mask)
    assert got.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    same(got, metric(scores, labels, mask=mask).to(got.dtype))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_integer_labels_are_accepted(metric, cascade, dtype):
    scores, labels, mask = cascade
    same(metric(scores, labels.to(dtype), mask=mask), metric(scores, labels, mask=mask))


def test_lists_without_a_candidate_are_undefined(metric, cascade):
    scores, labels, mask = cascade
    mask = mask.clone()
    mask[1] = False
    got = metric(scores, labels, mask=mask)
    assert got.isnan().tolist() == [False, True, False, metric.name in OF_PAIRS]
    assert metric(scores[..., :0], labels[:, :0]).isnan().tolist() == [True] * LISTS
    assert metric(scores[:, :0], labels[:0]).shape == (0,)


def test_a_score_of_nan_ranks_last(metric, cascade):
    scores, labels, mask = cascade
    scores = scores.clone()
    scores[..., 3] = torch.nan
    got = metric(scores, labels, mask=mask)
    same(got, metric(scores.nan_to_num(nan=-1e9), labels, mask=mask))


def test_arguments_are_not_modified(metric, cascade):
    before = [t.clone() for t in cascade]
    metric(cascade[0], cascade[1], mask=cascade[2])
    assert all(torch.equal(t, b) for t, b in zip(cascade, before, strict=True))


def test_shapes_that_do_not_agree_are_refused(metric, cascade):
    scores, labels, mask = cascade
    for labels_, mask_ in [
        (labels[:, 1:], None),
        (labels[1:], None),
        (labels, mask[:, 1:]),
        (labels, mask.long()),
    ]:
        with pytest.raises(ShapeError):
            metric(scores, labels_, mask=mask_)
    with pytest.raises(ShapeError):
        metric(scores.long(), labels)


def test_options_are_keyword_only(metric):
    parameters = list(inspect.signature(METRICS[metric.name]).parameters.values())
    assert [p.name for p in parameters[:2]] == ["scores", "labels"]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[2:])
    assert "mask" in METRICS.options(metric.name)


def test_sizes_are_checked(metric, cascade):
    scores, labels, _ = cascade
    for option in {"k", "m"} & METRICS.options(metric.name).keys():
        for wrong in (0, -3, 2.0, True):
            with pytest.raises(ConfigError, match="positive integer"):
                metric(scores, labels, **{option: wrong})


OF_LISTS = [name for name in METRICS if "retrieved" in METRICS.options(name)]
"""Metrics of a ranked list that need not contain all candidates."""


@pytest.fixture(params=OF_LISTS)
def list_metric(request):
    return Metric(request.param)


def test_only_retrieved_candidates_have_a_rank(list_metric, cascade):
    scores, labels, mask = cascade
    retrieved = torch.arange(LENGTH) % 2 == 0
    retrieved = retrieved.expand(labels.shape)
    got = list_metric(scores, labels, mask=mask, retrieved=retrieved)
    for junk in (1e30, -1e30, torch.nan):
        dirty = scores.masked_fill(~retrieved, junk)
        same(list_metric(dirty, labels, mask=mask, retrieved=retrieved), got)
    assert ((got >= 0) & (got <= 1)).all()
    last = scores.masked_fill(~retrieved, -1e30)  # beyond the first ranks, it has no effect either
    top = {"m": 1} if "m" in METRICS.options(list_metric.name) else {"k": 1}
    at_1 = list_metric(scores, labels, mask=mask, retrieved=retrieved, **top)
    same(at_1, list_metric(last, labels, mask=mask, **top))


def test_all_candidates_are_retrieved_by_default(list_metric, cascade):
    scores, labels, mask = cascade
    whole = list_metric(scores, labels, mask=mask)
    same(list_metric(scores, labels, mask=mask, retrieved=torch.ones_like(mask)), whole)
    nothing = list_metric(scores, labels, mask=mask, retrieved=torch.zeros_like(mask))
    assert nothing.tolist() == [0.0] * LISTS


def test_a_wrong_shape_of_retrieved_is_refused(list_metric, cascade):
    scores, labels, mask = cascade
    for wrong in (mask[:, 1:], mask.long()):
        with pytest.raises(ShapeError, match="retrieved must be bool"):
            list_metric(scores, labels, mask=mask, retrieved=wrong)
