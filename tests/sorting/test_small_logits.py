"""Small logits: the top k by power series of stretches of rows agrees with the dense form."""

import numpy as np
import pytest
import torch

from cascaderank.sorting._neural_sort import small_logits, top_k_of_lines
from cascaderank.sorting._neural_sort.series import series_of, terms_needed
from tests.sorting.test_streamed import STREAMED, Dense, assert_same, logs_and_gradients, ragged


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [0.0, 1e-9, 0.1, 0.7, 1.25, 2.5])
def test_a_series_is_the_exponential_and_a_shorter_one_is_not(width, dtype):
    places, base = np.linspace(-width, width, 11), np.linspace(-1, 1, 101)
    wide = torch.ones(1, dtype=torch.float64)
    terms, eps = terms_needed(width, dtype), torch.finfo(dtype).eps

    def error(terms):
        series = series_of(places, terms, like=wide).numpy()
        powers = np.vander(base, terms, increasing=True)
        return np.abs(powers @ series / np.exp(np.outer(base, places)) - 1).max()

    assert error(terms) <= max(eps, 1e-14)
    assert terms < 4 or error(terms - 3) > max(eps, 1e-14)


@pytest.mark.parametrize("few", [1, 10, 50])
@pytest.mark.parametrize("width", [0.2, 1.25])
@pytest.mark.parametrize("k", [1, 7, 12, 39])
@pytest.mark.parametrize("temperature", [12.0, 20.0, 50.0, 500.0])
def test_stretches_of_any_width_agree_with_the_dense_form(temperature, k, width, few, monkeypatch):
    monkeypatch.setattr(small_logits, "_MAX_EXPONENT", width)
    monkeypatch.setattr(small_logits, "_SHORT_STRETCH", few)  # rows: more are taken by series
    monkeypatch.setattr(top_k_of_lines, "sum_streamed", None)  # must not be called
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 40, generator=g, dtype=torch.float64)
    case = (
        torch.full((5,), k),
        torch.full((5,), temperature, dtype=torch.float64),
        torch.ones(5, 40, dtype=torch.bool),
    )
    assert_same(
        logs_and_gradients(STREAMED, scores, *case),
        logs_and_gradients(Dense(), scores, *case),
        1e-11,
    )


@pytest.mark.parametrize("most", [1, 46, 2**15])
@pytest.mark.parametrize("full", [False, True])
def test_any_number_of_lists_at_a_time_gives_the_same(full, most, monkeypatch):
    monkeypatch.setitem(top_k_of_lines._CHUNK, "cpu", most)
    scores, k, mask = ragged(3)
    mask = mask | full
    case = (k, torch.full((len(k),), 50.0, dtype=torch.float64), mask)
    assert_same(
        logs_and_gradients(STREAMED, scores, *case),
        logs_and_gradients(Dense(), scores, *case),
        1e-12,
    )


@pytest.mark.parametrize("temperature", [1e-30, 3.0, 20.0, 1e30])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_scores_and_temperatures_of_any_size_are_finite(size, temperature):
    scores = torch.linspace(-1, 1, 60).square().view(2, 30) * size
    case = (torch.tensor([3, 29]), torch.full((2,), temperature), torch.ones(2, 30).bool())
    for one in logs_and_gradients(STREAMED, scores, *case):
        assert one.isfinite().all()


def test_lists_of_equal_and_of_different_sizes_agree_with_the_dense_form():
    """Values that all lists share are stored once, those of ragged lists per list."""
    scores = torch.randn(4, 30, generator=torch.Generator().manual_seed(0)).double()
    temperatures = torch.full((4,), 30.0).double()
    for mask in (torch.ones(4, 30).bool(), torch.arange(30) < torch.tensor([[30], [9], [30], [1]])):
        for k in (torch.full((4,), 5), torch.tensor([5, 1, 29, 5])):
            want = logs_and_gradients(Dense(), scores, k, temperatures, mask)
            assert_same(logs_and_gradients(STREAMED, scores, k, temperatures, mask), want, 1e-12)
