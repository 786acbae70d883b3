"""float32 against float64, for every operator, loss and objective, with scores that strain it.

The scores of a list have outliers, as of candidates masked by a large negative number, an offset, a
scale or ties. The errors are those of the other candidates, the ones that are not outliers. Their
bounds are in a table of ``docs/performance.md``, which the tests read.
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.losses import LOSSES
from cascaderank.objectives import OBJECTIVES, build_objective
from cascaderank.sorting import (
    OPERATORS,
    PermutationOperator,
    log_top_k_probability,
    permutation,
    relative_temperature,
)

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
RANKED = [name for name in OPERATORS if issubclass(OPERATORS[name], PermutationOperator)]

LISTS, LENGTH, STAGES = 3, 40, 2
REAL = (40, 37, 33)
K, QUOTAS = 10, (20, 10)
LOWEST = torch.finfo(torch.float32).min

FEW = st.tuples(
    st.sampled_from([-1e4, -1e6, -1e9, -1e30, LOWEST, -torch.inf, 1e4, 1e6, 1e9]),
    st.integers(1, 5),
)
MASKED = st.tuples(st.sampled_from([-1e4, -1e6, -1e9, -1e30, LOWEST]), st.integers(1, 5))
"""Outliers of objectives."""

OF_MEANS = {"icc", "rankflow"}
"""Objectives that take means over scores, which outliers move. They are tested without any."""

MANY = st.tuples(st.sampled_from([-1e6, -1e9, -1e30, LOWEST, -torch.inf]), st.just(22))
"""More than half of the list, as where padding was given a large negative score."""


class Case(NamedTuple):
    """Scores of a cascade, and which candidates are not outliers."""

    scores: torch.Tensor
    """``[stages, lists, list]`` float32"""
    ordinary: torch.Tensor
    """``[lists, list]`` bool; without padding."""
    mask: torch.Tensor | None
    labels: torch.Tensor
    """``[lists, list]`` in [0, 1]; 0 for outliers."""
    unit: float
    """Standard deviation of the scores that are not outliers."""


@st.composite
def cases(draw, outliers=FEW | MANY):
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    unit = draw(st.sampled_from([1e-3, 1.0, 1e3]))
    offset = draw(st.sampled_from([0.0, 0.0, 1e3, -1e6]))
    value, number = draw(st.one_of(st.just((0.0, 0)), outliers))
    scores = torch.randn(STAGES, LISTS, LENGTH, generator=g) * unit + offset
    outlier = torch.randperm(LENGTH, generator=g)[:number]
    scores[..., outlier] = offset + value * max(unit, 1.0) if abs(value) < 1e20 else value
    labels = torch.randint(1, 5, (LISTS, LENGTH), generator=g) / 4.0
    labels[:, outlier] = 0.0
    mask = draw(st.sampled_from([None, torch.arange(LENGTH) < torch.tensor(REAL)[:, None]]))
    ordinary = torch.ones(LISTS, LENGTH, dtype=torch.bool) if mask is None else mask.clone()
    ordinary[:, outlier] = False
    return Case(scores, ordinary, mask, labels, unit)


@cache
def bounds():
    """Return the bounds of the page by kind and name: of values, and of gradients."""
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \| (\S+) \| (\S+) \|$", PAGE.read_text(), re.MULTILINE)
    return {(kind, name): (float(value), float(slope)) for kind, name, value, slope in rows}


def check(kind, name, compute, case, *, temperature):
    """Compare the results of ``compute(scores)`` and their gradients in float32 and in float64."""
    results = []
    for dtype in (torch.float32, torch.float64):
        scores = case.scores.to(dtype).requires_grad_()
        values, total = compute(scores)
        (slope,) = torch.autograd.grad(total, scores)
        results.append((torch.cat([v.detach().flatten() for v in values]), slope))
    (values, slope), (want, want_slope) = results
    values, want = (x.double().clamp(max=1e30) for x in (values, want))  # above, float32 overflows
    of_value = ((values - want).abs() / (1 + want.abs())).max().item()
    slope, want_slope = (x[:, case.ordinary].double() for x in (slope, want_slope))
    # Gradients of lists that are decided, by an outlier for example, are 0 up to rounding.
    scale = max(want_slope.abs().max().item(), 1e-3 / temperature)
    of_slope = (slope - want_slope).abs().max().item() / scale
    most, most_slope = bounds()[kind, name]
    assert of_value <= most, f"{kind} {name}: error {of_value:.1e} of values"
    assert of_slope <= most_slope, f"{kind} {name}: error {of_slope:.1e} of gradients"


def weights(like):
    """Return different upstream gradients for all entries."""
    g = torch.Generator().manual_seed(1)
    return torch.randn(like.shape, generator=g, dtype=torch.float64).to(like)


def temperature_of(name, unit, width):
    return unit * width * (LENGTH if OPERATORS[name].grows_with_length else 1)


@pytest.mark.parametrize("name", list(OPERATORS))
@given(case=cases(), width=st.sampled_from([0.1, 1.0, 5.0]), k=st.integers(1, 16))
@settings(max_examples=10, deadline=None)
def test_operators_keep_their_precision(name, case, width, k):
    temperature = temperature_of(name, case.unit, width)

    def compute(scores):
        options = {"operator": name, "temperature": temperature, "mask": case.mask}
        logs = log_top_k_probability(scores[0], k, **options)
        logs = torch.stack(logs)[:, case.ordinary].clamp(min=-9)
        values, total = [logs.exp(), logs], (weights(logs) * logs).sum()
        if name in RANKED:
            rows = permutation(scores[0], **options).mT[case.ordinary]
            values, total = [*values, rows], total + (weights(rows) * rows).sum()
        return values, total + 0 * scores[1:, case.ordinary].sum()

    check("operator", name, compute, case, temperature=temperature)


@pytest.mark.parametrize("name", list(LOSSES))
@given(case=cases())
@settings(max_examples=8, deadline=None)
def test_losses_keep_their_precision(name, case):
    options = LOSSES.options(name)
    given = {o: v for o, v in {"k": K, "m": K, "quotas": QUOTAS}.items() if o in options}
    temperature = case.unit
    if "temperature" in options:
        if "operator" in options:
            temperature = temperature_of("neural_sort", case.unit, 1.0)
        given["temperature"] = temperature

    def compute(scores):
        some = scores if "quotas" in options else scores[0]
        losses = LOSSES[name](some, case.labels, mask=case.mask, reduction="none", **given)
        return [losses], losses.sum() + 0 * scores[1:, case.ordinary].sum()

    check("loss", name, compute, case, temperature=temperature)


@pytest.mark.parametrize("name", list(OBJECTIVES))
@given(data=st.data())
@settings(max_examples=4, deadline=None)
def test_objectives_keep_their_precision(name, data):
    case = data.draw(cases(st.just((0.0, 0)) if name in OF_MEANS else MASKED))
    task = {"stages": STAGES, "quotas": QUOTAS, "ground_truth": K}
    if "temperature" in OBJECTIVES.options(name):
        task["temperature"] = LENGTH * case.unit
    levels = (case.labels * 4).long()

    def compute(scores):
        objective = build_objective(name, **task).to(scores.dtype)
        loss = objective(scores, case.labels, mask=case.mask, levels=levels)
        return [loss.total], loss.total

    check("objective", "all", compute, case, temperature=case.unit)


@given(case=cases(), operator=st.sampled_from(list(OPERATORS)))
@settings(max_examples=8, deadline=None)
def test_the_relative_temperature_keeps_its_precision(case, operator):
    if not (case.scores.abs() < 1e20).all():
        return
    found, want = (
        relative_temperature(case.scores.to(dtype), operator=operator)
        for dtype in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(found.double(), want, rtol=1e-5, atol=0)


def test_the_page_has_a_bound_for_each_operator_and_loss():
    names = {("operator", x) for x in OPERATORS} | {("loss", x) for x in LOSSES}
    assert set(bounds()) == names | {("objective", "all")}
    assert max(x for both in bounds().values() for x in both) <= 1e-4, "the bounds show nothing"
