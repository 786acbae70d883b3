"""Target attention against loops, under masks, and split against whole."""

from math import exp

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.layers.target_attention import TargetAttention

REQUESTS, LENGTH, LIST, HISTORY_DIM, ITEM_DIM = 3, 5, 4, 2, 3


@pytest.fixture(params=[False, True], ids=["bare", "softmax"])
def attention(request):
    torch.manual_seed(0)
    return TargetAttention(HISTORY_DIM, ITEM_DIM, hidden=(6, 4), softmax=request.param).double()


def make_input(*, length=LENGTH, kept=(5, 2, 0)):
    g = torch.Generator().manual_seed(1)
    history = torch.randn(REQUESTS, length, HISTORY_DIM, generator=g).double()
    items = torch.randn(REQUESTS, LIST, ITEM_DIM, generator=g).double()
    return history, items, torch.arange(length) < torch.tensor(kept)[:, None]


def perceptron(attention, inputs):
    """The weight of one entry for one candidate: inputs are the candidate's, then the entry's."""
    linears = [m for m in attention.modules() if isinstance(m, torch.nn.Linear)]
    for depth, linear in enumerate(linears):
        inputs = [
            bias + sum(w * x for w, x in zip(row, inputs, strict=True))
            for row, bias in zip(linear.weight.tolist(), linear.bias.tolist(), strict=True)
        ]
        if depth + 1 < len(linears):
            inputs = [max(x, 0.0) for x in inputs]
    (weight,) = inputs
    return weight


def by_loops(attention, history, items, mask, *, softmax):
    pooled = torch.zeros(*items.shape[:2], HISTORY_DIM).double()
    for b in range(len(history)):
        entries = [h for h, real in zip(history[b].tolist(), mask[b].tolist(), strict=True) if real]
        for i, item in enumerate(items[b].tolist()):
            weights = [perceptron(attention, item + h) for h in entries]
            if softmax:
                total = sum(exp(w) for w in weights)
                weights = [exp(w) / total for w in weights]
            for weight, h in zip(weights, entries, strict=True):
                for d in range(HISTORY_DIM):
                    pooled[b, i, d] += weight * h[d]
    return pooled


@pytest.mark.parametrize("softmax", [False, True])
def test_attention_agrees_with_loops(softmax):
    torch.manual_seed(0)
    attention = TargetAttention(HISTORY_DIM, ITEM_DIM, hidden=(6, 4), softmax=softmax).double()
    history, items, mask = make_input()
    expected = by_loops(attention, history, items, mask, softmax=softmax)
    torch.testing.assert_close(attention(history, items, mask), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_split_first_layer_equals_the_concatenation(dtype, tolerance):
    torch.manual_seed(0)
    attention = TargetAttention(HISTORY_DIM, ITEM_DIM, hidden=(80,)).to(dtype)
    history, items, mask = make_input()
    history, items = history.to(dtype), items.to(dtype)
    pairs = torch.cat(
        (
            items.unsqueeze(2).expand(-1, -1, LENGTH, -1),
            history.unsqueeze(1).expand(-1, LIST, -1, -1),
        ),
        dim=-1,
    )
    weights = attention.weigh.rest(attention.weigh.first.both(pairs)).squeeze(-1)
    whole = torch.einsum("bit,bt,bth->bih", weights, mask.to(dtype), history)
    of_whole = torch.autograd.grad(whole.square().sum(), attention.parameters())
    split = attention(history, items, mask)
    of_split = torch.autograd.grad(split.square().sum(), attention.parameters())
    torch.testing.assert_close(split, whole, rtol=tolerance, atol=tolerance)
    for x, y in zip(of_split, of_whole, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance * 100, atol=tolerance * 100)


def test_no_matrix_is_multiplied_by_pairs_in_the_first_layer(attention, monkeypatch):
    rows = []
    plain = torch.nn.functional.linear

    def counted(inputs, weight, bias=None):
        rows.append((inputs.numel() // inputs.shape[-1], weight.shape[0]))
        return plain(inputs, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", counted)
    attention(*make_input())
    first = [count for count, outputs in rows if outputs == 6]
    assert sorted(first) == [REQUESTS * LIST, REQUESTS * LENGTH]


@pytest.mark.parametrize("junk", [1e300, float("inf"), float("nan")])
def test_padding_changes_neither_value_nor_gradient(attention, junk):
    history, items, mask = make_input()

    def outcome(history):
        history = history.clone().requires_grad_()
        value = attention(history, items, mask)
        return value, torch.autograd.grad(value.square().sum(), [history, *attention.parameters()])

    value, of = outcome(history)
    dirty, of_dirty = outcome(history.masked_fill(~mask.unsqueeze(-1), junk))
    assert torch.equal(value, dirty)
    assert not of[0][~mask].any()
    for x, y in zip(of, of_dirty, strict=True):
        assert torch.equal(x, y)


def test_longer_padding_changes_nothing(attention):
    history, items, mask = make_input()
    padded = torch.nn.functional.pad(history, (0, 0, 0, 3), value=torch.nan)
    wider = torch.nn.functional.pad(mask, (0, 3), value=False)
    torch.testing.assert_close(attention(padded, items, wider), attention(history, items, mask))


@pytest.mark.parametrize("length", [0, 5])
def test_a_request_without_history_has_zeros_and_finite_gradients(attention, length):
    history, items, mask = make_input(length=length, kept=(0, 0, 0))
    pooled = attention(history, items, mask)
    assert torch.equal(pooled, torch.zeros(REQUESTS, LIST, HISTORY_DIM).double())
    (pooled + 1).square().sum().backward()
    assert all(not p.grad.any() for p in attention.parameters())


def test_order_of_a_history_does_not_matter(attention):
    history, items, mask = make_input()
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        attention(history[:, order], items, mask[:, order]), attention(history, items, mask)
    )


def test_softmax_gives_a_mean_and_the_bare_weights_a_sum():
    torch.manual_seed(0)
    history, items, mask = make_input(kept=(2, 2, 2))
    twice = (torch.cat((history, history), 1), items, torch.cat((mask, mask), 1))
    for softmax, times in [(True, 1), (False, 2)]:
        attention = TargetAttention(HISTORY_DIM, ITEM_DIM, softmax=softmax).double()
        torch.testing.assert_close(attention(*twice), times * attention(history, items, mask))


def test_a_perceptron_without_hidden_layer_is_refused():
    with pytest.raises(ConfigError, match="at least one layer"):
        TargetAttention(HISTORY_DIM, ITEM_DIM, hidden=())


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("hidden", [(64,), (64, 8)])
@pytest.mark.parametrize("candidates", [3, 300])  # few pairs, and many
def test_parts_of_candidates_give_the_attention(softmax, hidden, candidates):
    torch.manual_seed(0)
    attention = TargetAttention(4, 5, hidden=hidden, softmax=softmax)
    history, items = torch.randn(2, 40, 4), torch.randn(2, candidates, 5)
    mask = torch.arange(40) < torch.tensor([[30], [0]])
    with torch.no_grad():
        found = attention.of_part(history, attention.item_part(items), mask)
        expected = attention(history, items, mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not found[1].any()
