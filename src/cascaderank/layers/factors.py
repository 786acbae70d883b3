"""One vector of a given length from the features of a request or of a candidate."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHORTEST = 0.01
"""Vectors shorter than this are not scaled to length 1, nor are their gradients."""


@final
class Factors(nn.Module):
    """Sum the parts of an embedder's vector: embeddings as they are, numbers times trained vectors.

    Args:
        categories: for each part, in order, whether it is an embedding (``True``) or numbers.
        widths: length of each part; ``dim`` for an embedding.
        dim: length of the result.

    Examples:
        >>> factors = Factors([True, True], [2, 2], dim=2)
        >>> factors(torch.tensor([[1.0, 2.0, 30.0, 40.0]]))
        tensor([[31., 42.]])
    """

    def __init__(self, categories: Sequence[bool], widths: Sequence[int], *, dim: int) -> None:
        super().__init__()
        self._categories, self._widths = list(categories), list(widths)
        numbers = sum(w for c, w in zip(categories, widths, strict=True) if not c)
        self.numbers = nn.Linear(numbers, dim, bias=False) if numbers else None

    def forward(self, parts: Tensor) -> Tensor:
        """Return ``[..., dim]`` for parts ``[..., sum of widths]``."""
        split = list(zip(self._categories, torch.split(parts, self._widths, dim=-1), strict=True))
        terms = [part for category, part in split if category]
        if self.numbers is not None:
            of_numbers = [part for category, part in split if not category]
            terms.append(self.numbers(torch.cat(of_numbers, dim=-1)))
        return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]


def unit(vectors: Tensor) -> Tensor:
    """Return vectors scaled to length 1, ``[..., dim]``; those below :data:`SHORTEST` stay shorter.

    Examples:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.001]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.1000]])
    """
    return F.normalize(vectors, dim=-1, eps=SHORTEST)
