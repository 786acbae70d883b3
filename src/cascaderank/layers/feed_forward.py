"""Multi-layer perceptrons over one input, and over pairs of a request and a candidate."""

from collections.abc import Sequence
from typing import Literal, final

from torch import Tensor, nn

from cascaderank.errors import ConfigError
from cascaderank.layers.sums import relu_of_sums
from cascaderank.tensors import at_least_float32, full_precision

Norm = Literal["none", "layer"]
"""Normalisation of the hidden units of a layer, before ReLU: none, or layer normalisation."""


def mlp(
    inputs: int, hidden: Sequence[int], outputs: int, *, dropout: float = 0.0, norm: Norm = "none"
) -> nn.Sequential:
    """Build linear layers with ReLU and dropout between them.

    Args:
        inputs: length of the input.
        hidden: widths of the hidden layers; may be empty.
        outputs: length of the output, which is linear.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
        norm: ``"layer"`` to normalise the hidden units of each layer.

    Raises:
        ConfigError: if a width is not positive or dropout is out of range.

    Examples:
        >>> mlp(3, [2], 1)
        Sequential(
          (0): Linear(in_features=3, out_features=2, bias=True)
          (1): ReLU(inplace=True)
          (2): LastLinear(in_features=2, out_features=1, bias=True)
        )
    """
    check_hidden(hidden, dropout)
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), *_activation(width, dropout, norm)]
        inputs = width
    return nn.Sequential(*layers, LastLinear(inputs, outputs))


@final
class LastLinear(nn.Linear):
    """A linear layer computed in at least float32, also under autocast.

    The resolution of bfloat16 is 1 in 256: scores would tie.

    Examples:
        >>> import torch
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     LastLinear(2, 1)(torch.ones(3, 2, dtype=torch.bfloat16)).dtype
        torch.float32
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``[..., outputs]``."""
        with full_precision(inputs):
            return super().forward(at_least_float32(inputs))


@final
class PairLinear(nn.Module):
    """A linear layer over the concatenation of a request's vector and a candidate's.

    The product is split in two, so that the request's half is computed once per request instead of
    once per candidate. The function and its initialisation are those of the plain layer. Leading
    dimensions broadcast, so candidates can be paired with history entries as requests are with
    candidates.

    Args:
        request_dim: length of a request's vector; may be 0.
        item_dim: length of a candidate's vector.
        outputs: length of the output.
        bias: whether to add a bias.
    """

    def __init__(self, request_dim: int, item_dim: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.both = nn.Linear(request_dim + item_dim, outputs, bias=bias)
        self._request_dim = request_dim

    def forward(self, request: Tensor, items: Tensor) -> Tensor:
        """Return ``[..., list, outputs]``.

        Args:
            request: ``[..., request_dim]``.
            items: ``[..., list, item_dim]``.
        """
        of_request, of_items = self.halves(request, items)
        return of_request.unsqueeze(-2) + of_items

    def scores(self, request: Tensor, items: Tensor) -> Tensor:
        """Return ``[..., list]`` of a layer with one output, computed in at least float32."""
        with full_precision(items):
            outputs: Tensor = self(at_least_float32(request), at_least_float32(items))
        return outputs.squeeze(-1)

    def halves(self, request: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the contribution of each side to the output: ``[..., outputs]`` each."""
        return self.request_half(request), self.item_half(items)

    def request_half(self, request: Tensor) -> Tensor:
        """Return the contribution of requests to the output, with the bias, ``[..., outputs]``."""
        return nn.functional.linear(
            request, self.both.weight[:, : self._request_dim], self.both.bias
        )

    def item_half(self, items: Tensor, start: int = 0) -> Tensor:
        """Return the contribution of a part of a candidate's vector, ``[..., outputs]``.

        Args:
            items: ``[..., columns]``; all columns of a candidate's vector, or some adjacent ones.
            start: index of the first column.
        """
        first = self._request_dim + start
        return nn.functional.linear(items, self.both.weight[:, first : first + items.shape[-1]])


@final
class PairMLP(nn.Module):
    """An MLP over the concatenation of a request's vector and a candidate's.

    Args:
        request_dim: length of a request's vector; may be 0.
        item_dim: length of a candidate's vector.
        hidden: widths of the hidden layers, at least one.
        outputs: length of the output; 1 for a score.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
        norm: ``"layer"`` to normalise the hidden units of each layer.
        from_zero: whether the last layer is initialised to zero, so that all outputs start at 0.

    Raises:
        ConfigError: if a width is not positive, ``hidden`` is empty, or dropout is out of range.
    """

    def __init__(
        self,
        request_dim: int,
        item_dim: int,
        hidden: Sequence[int],
        *,
        outputs: int = 1,
        dropout: float = 0.0,
        norm: Norm = "none",
        from_zero: bool = False,
    ) -> None:
        super().__init__()
        check_hidden(hidden, dropout)
        if not hidden:
            raise ConfigError("hidden must have at least one layer; got none")
        self.first = PairLinear(request_dim, item_dim, hidden[0])
        deeper = mlp(hidden[0], hidden[1:], outputs, dropout=dropout, norm=norm)
        if from_zero:
            set_to_zero(deeper[-1])
        self.rest = nn.Sequential(*_activation(hidden[0], dropout, norm), deeper)
        self._plain = (len(hidden), outputs, norm) == (1, 1, "none") and not dropout

    def forward(self, request: Tensor, items: Tensor) -> Tensor:
        """Return scores ``[..., list]`` of a network with one output; leading dimensions broadcast.

        Args:
            request: ``[..., request_dim]``.
            items: ``[..., list, item_dim]``.
        """
        return self.outputs(request, items).squeeze(-1)

    def outputs(self, request: Tensor, items: Tensor) -> Tensor:
        """Return ``[..., list, outputs]``; see :meth:`forward`."""
        outputs: Tensor = self.rest(self.first(request, items))
        return outputs

    def of_halves(self, request: Tensor, items: Tensor) -> Tensor:
        """Return ``[..., list, outputs]`` from the two halves of the first layer.

        Args:
            request: ``[..., hidden]``, :meth:`PairLinear.request_half` of :attr:`first`.
            items: ``[..., list, hidden]``, :meth:`PairLinear.item_half` of :attr:`first`.
        """
        outputs: Tensor = self.rest(request.unsqueeze(-2) + items)
        return outputs

    def of_pairs(self, lefts: Tensor, rights: Tensor) -> Tensor:
        """Return the scores of all pairs, ``[batch, n, m]``.

        Args:
            lefts: ``[batch, n, request_dim]``.
            rights: ``[batch, m, item_dim]``.
        """
        return self.of_pair_halves(*self.first.halves(lefts, rights))

    def of_pair_halves(self, lefts: Tensor, rights: Tensor) -> Tensor:
        """Return the scores of all pairs, ``[batch, n, m]``, from the halves of the first layer.

        Args:
            lefts: ``[batch, n, hidden]``, with the bias.
            rights: ``[batch, m, hidden]``.
        """
        *_, last = self.rest.modules()
        if self._plain and isinstance(last, nn.Linear):
            return relu_of_sums(lefts, rights, last.weight[0]) + last.bias
        return self.of_halves(lefts, rights.unsqueeze(1)).squeeze(-1)


def set_to_zero(layer: nn.Module) -> None:
    """Set the parameters of a layer to zero, so that its outputs start at 0.

    Examples:
        >>> import torch
        >>> layer = PairLinear(1, 1, 1)
        >>> set_to_zero(layer)
        >>> layer.scores(torch.ones(1), torch.ones(2, 1)).tolist()
        [0.0, 0.0]
    """
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def check_hidden(hidden: Sequence[int], dropout: float) -> None:
    """Check the widths of hidden layers and the dropout probability.

    Raises:
        ConfigError: if a width is not positive or dropout is out of range.
    """
    if any(width < 1 for width in hidden):
        raise ConfigError(f"hidden must contain positive widths; got {list(hidden)}")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout must be in [0, 1); got {dropout}")


def _activation(width: int, dropout: float, norm: Norm) -> list[nn.Module]:
    before: list[nn.Module] = [nn.LayerNorm(width)] if norm == "layer" else []
    after: list[nn.Module] = [nn.Dropout(dropout)] if dropout else []
    return [*before, nn.ReLU(inplace=True), *after]
