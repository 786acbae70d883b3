"""Field gates: a weight per feature that depends on the candidate."""

from collections.abc import Iterable, Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.layers.feed_forward import PairLinear


@final
class FieldGate(nn.Module):
    r"""Weight each field by a number in (0, 1) that depends on all fields.

    .. math:: w = \sigma(W [e_1, \dots, e_F] + b), \qquad v_f = w_f\, e_f

    The weights depend on the candidate, so the weighted fields of a request differ between its
    candidates. Subsequent layers can no longer be computed once per request.

    Args:
        request_fields: lengths of the fields of a request's vector, in order.
        item_fields: lengths of the fields of a candidate's vector, in order.

    Examples:
        >>> gate = FieldGate([2], [3, 1])
        >>> request, items = torch.rand(5, 2), torch.rand(5, 7, 4)
        >>> weights = gate(request, items)
        >>> weights.shape, gate.gated(request, items, weights).shape
        (torch.Size([5, 7, 3]), torch.Size([5, 7, 6]))

    Source: COLD (arXiv 2007.16122), its squeeze-and-excitation block.
    """

    _field: Tensor

    def __init__(self, request_fields: Sequence[int], item_fields: Sequence[int]) -> None:
        super().__init__()
        lengths = [*request_fields, *item_fields]
        self.weigh = PairLinear(sum(request_fields), sum(item_fields), len(lengths))
        # Of each column. Not `repeat_interleave` of the weights, which ONNX has no operator for.
        self.register_buffer("_field", field_of_columns(lengths), persistent=False)

    def forward(self, request: Tensor, items: Tensor) -> Tensor:
        """Return the weights of the fields, ``[..., list, fields]`` in (0, 1).

        Args:
            request: ``[..., request_dim]``.
            items: ``[..., list, item_dim]``.
        """
        return torch.sigmoid(self.weigh(request, items))

    def gated(self, request: Tensor, items: Tensor, weights: Tensor) -> Tensor:
        """Return the concatenated weighted fields, ``[..., list, request_dim + item_dim]``."""
        return joined(request, items) * weights.index_select(-1, self._field)


def field_of_columns(lengths: Iterable[int]) -> Tensor:
    """Return the index of the field of each column, ``[columns]`` int64.

    Args:
        lengths: number of columns of each field.

    Examples:
        >>> field_of_columns([2, 0, 1])
        tensor([0, 0, 2])
    """
    fields = [i for i, length in enumerate(lengths) for _ in range(length)]
    return torch.tensor(fields, dtype=torch.int64)


def joined(request: Tensor, items: Tensor) -> Tensor:
    """Concatenate a request's vector with that of each of its candidates.

    Args:
        request: ``[..., request_dim]``.
        items: ``[..., list, item_dim]``.

    Returns:
        ``[..., list, request_dim + item_dim]``.
    """
    repeated = request.unsqueeze(-2).expand(*items.shape[:-1], request.shape[-1])
    return torch.cat([repeated, items], dim=-1)
