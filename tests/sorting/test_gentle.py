"""Small logits: powers in pairs, kept or worked out again, give the numbers of the dense form."""

import pytest
import torch

from cascaderank.sorting import _gentle, _streamed
from tests.sorting.test_streamed import STREAMED, Dense, assert_same, learned, ragged


@pytest.mark.parametrize("most", [0, 16])
@pytest.mark.parametrize("k", [1, 7, 12, 39])
@pytest.mark.parametrize("temperature", [20.0, 50.0, 500.0])
def test_full_lists_agree_with_the_dense_form(temperature, k, most, monkeypatch):
    monkeypatch.setattr(_gentle, "_KEPT_POINTS", most)
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 40, generator=g, dtype=torch.float64)
    case = (
        torch.full((5,), k),
        torch.full((5,), temperature, dtype=torch.float64),
        torch.ones(5, 40, dtype=torch.bool),
    )
    assert_same(learned(STREAMED, scores, *case), learned(Dense(), scores, *case), 1e-11)


@pytest.mark.parametrize("full", [False, True])
def test_powers_that_are_kept_are_those_that_are_not(full, monkeypatch):
    scores, k, mask = ragged(3)
    mask = mask | full
    case = (k, torch.full((len(k),), 50.0, dtype=torch.float64), mask)
    want = learned(STREAMED, scores, *case)
    monkeypatch.setattr(_gentle, "_KEPT_POINTS", 0)
    assert_same(learned(STREAMED, scores, *case), want, 1e-14)
    monkeypatch.setitem(_streamed._BLOCK_BYTES, "cpu", 64)  # point by point, without pairs
    assert_same(learned(STREAMED, scores, *case), want, 1e-13)


@pytest.mark.parametrize("number", [1, 2, 5, 6])
def test_the_powers_of_a_pair_are_one_over_each_other(number):
    slope = torch.linspace(-1, 1, 12).view(2, 6)
    place = torch.arange(number)[None] * 2.0 - (number - 1)
    ((at, powers),) = _gentle._powers(slope, place, torch.empty(100))
    assert at == slice(0, number)
    torch.testing.assert_close(powers, (place[0, :, None, None] * slope).exp())
