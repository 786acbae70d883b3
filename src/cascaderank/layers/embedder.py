"""Input layer: named features to one vector per request and one per candidate."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError, ShapeError
from cascaderank.layers.named_modules import NamedModules
from cascaderank.schema import Feature, FittedSchema, Kind, Pooling, Role

INITIAL_DEVIATION = 0.05
"""Standard deviation of initial embeddings: small, so that numbers dominate at first."""


@final
class Embedder(nn.Module):
    """Embed categories, concatenate numbers, and pool histories by their mean.

    The embeddings of a feature with several values are pooled to one by ``feature.pooling``; values
    that are unseen in training count, and without a value the result is zero. Features of one
    vocabulary share one embedding table, so a history refers to the same items as the candidates
    do. The embedding of values unseen in training is initialised to zero. A feature
    that may be missing contributes two numbers: its value (0 if missing) and an indicator that it
    is missing.

    Args:
        schema: schema fitted to the training requests.
        features: features to embed, of any role.
        dim: length of the embedding of a category.
        deviation: standard deviation of the initial embeddings, positive.

    Raises:
        ConfigError: if ``dim`` is less than 1, or ``deviation`` is not a positive number.

    Examples:
        >>> from cascaderank.schema import Feature
        >>> schema = FittedSchema(features=(Feature(name="price", role="item", kind="numeric"),))
        >>> embedder = Embedder(schema, schema.features, dim=8)
        >>> embedder.request_dim, embedder.item_dim
        (0, 1)
    """

    def __init__(
        self,
        schema: FittedSchema,
        features: Sequence[Feature],
        *,
        dim: int,
        deviation: float = INITIAL_DEVIATION,
    ) -> None:
        super().__init__()
        if dim < 1:
            raise ConfigError(f"dim must be at least 1; got {dim}")
        if not 0 < deviation < math.inf:
            raise ConfigError(f"embedding_deviation must be a positive number; got {deviation}")
        self._features = {role: [f for f in features if f.role is role] for role in Role}
        self.tables = NamedModules()
        for feature in features:
            if feature.kind is Kind.CATEGORICAL and feature.vocabulary not in self.tables:
                table = nn.Embedding(schema.codes(feature), dim)
                nn.init.normal_(table.weight, std=deviation)
                with torch.no_grad():
                    table.weight[0].zero_()
                self.tables[feature.vocabulary] = table
        self._sequences: dict[str, list[Feature]] = {}
        for feature in self._features[Role.HISTORY]:
            self._sequences.setdefault(feature.sequence, []).append(feature)
        self.history_dims: dict[str, int] = {
            name: _width(members, dim) for name, members in self._sequences.items()
        }
        """Length of the vector of one history entry, by sequence."""
        self.context_dim: int = _width(self._features[Role.REQUEST], dim)
        """Length of a request's vector without its histories."""
        self.request_dim: int = self.context_dim + sum(self.history_dims.values())
        """Length of a request's vector: its features and its pooled histories."""
        self.item_dim: int = _width(self._features[Role.ITEM], dim)
        """Length of a candidate's vector."""
        of_request = [*self._features[Role.REQUEST], *chain(*self._sequences.values())]
        self.request_fields: dict[str, int] = {f.name: _width([f], dim) for f in of_request}
        """Length of each feature's part of a request's vector, in order."""
        self.item_fields: dict[str, int] = {
            f.name: _width([f], dim) for f in self._features[Role.ITEM]
        }
        """Length of each feature's part of a candidate's vector, in order."""

    def request(self, batch: RequestBatch) -> Tensor:
        """Return ``[batch, request_dim]``: the context, followed by each pooled sequence."""
        pooled = [_mean(vectors, mask) for vectors, mask in self.history(batch).values()]
        return torch.cat([self.context(batch), *pooled], dim=-1)

    def context(self, batch: RequestBatch) -> Tensor:
        """Return ``[batch, context_dim]``: the request without its histories."""
        parts = [self._vectors(f, batch.request[f.name]) for f in self._features[Role.REQUEST]]
        return _joined(parts, batch.mask.shape[:1], batch.mask.device)

    def history(self, batch: RequestBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the entries of each sequence without pooling.

        Returns:
            Vectors ``[batch, length, history_dims[sequence]]`` and their mask ``[batch, length]``,
            by sequence. Vectors under the mask are finite but arbitrary.
        """
        entries = {}
        for name, members in self._sequences.items():
            mask = batch.history_mask[name]
            parts = [self._vectors(f, batch.history[f.name], mask) for f in members]
            entries[name] = torch.cat(parts, dim=-1), mask
        return entries

    def items(self, batch: RequestBatch) -> Tensor:
        """Return ``[batch, list, item_dim]``; zeros and embeddings of slot 0 under the mask."""
        parts = [
            self._vectors(f, batch.items[f.name], batch.mask) for f in self._features[Role.ITEM]
        ]
        return _joined(parts, batch.mask.shape, batch.mask.device)

    def _vectors(self, feature: Feature, values: Tensor, mask: Tensor | None = None) -> Tensor:
        if feature.several:
            return self._of_lists(feature, values, mask)
        if mask is not None:
            values = values.masked_fill(~mask, 0)
        if feature.kind is Kind.CATEGORICAL:
            return _looked_up(self.tables[feature.vocabulary], values)
        if not feature.missing:
            return values.unsqueeze(-1)
        missing = values.isnan()
        return torch.stack((values.masked_fill(missing, 0), missing.to(values.dtype)), dim=-1)

    def _of_lists(self, feature: Feature, values: Tensor, mask: Tensor | None) -> Tensor:
        width = feature.width
        if values.dim() != feature.depth + 1 or width not in (None, values.shape[-1]):
            shape = "[batch, " if mask is None else "[batch, list, "
            shape += "values], padded with -1" if width is None else f"{width}]"
            raise ShapeError(
                f"feature '{feature.name}' has several values and must be {shape}; "
                f"got {list(values.shape)}"
            )
        if mask is not None:
            values = values.masked_fill(~mask.unsqueeze(-1), -1 if width is None else 0)
        if width is None:
            return self._pooled(feature, values)
        if not feature.missing:
            return values
        missing = values.isnan().any(-1, keepdim=True)
        return torch.cat((values.masked_fill(missing, 0), missing.to(values.dtype)), dim=-1)

    def _pooled(self, feature: Feature, codes: Tensor) -> Tensor:
        present = codes >= 0
        vectors = _looked_up(self.tables[feature.vocabulary], codes.clamp(min=0))
        if feature.pooling is Pooling.MAX:
            lowest = torch.finfo(vectors.dtype).min
            highest = vectors.masked_fill(~present.unsqueeze(-1), lowest).amax(-2)
            return highest.masked_fill(~present.any(-1, keepdim=True), 0)
        weights = present.to(vectors.dtype)
        if feature.pooling is Pooling.MEAN:
            weights = weights / weights.sum(-1, keepdim=True).clamp(min=1)
        return (vectors * weights.unsqueeze(-1)).sum(-2)


def _looked_up(table: nn.Module, codes: Tensor) -> Tensor:
    if codes.device.type != "cpu" or not isinstance(table, nn.Embedding) or table.sparse:
        vectors: Tensor = table(codes)
        return vectors
    if not torch.is_grad_enabled():
        return table.weight.index_select(0, codes.flatten()).view(*codes.shape, -1)
    flat: Tensor = _Lookup.apply(table.weight, codes.flatten())  # type: ignore[no-untyped-call]
    return flat.view(*codes.shape, table.embedding_dim)


class _Lookup(torch.autograd.Function):
    """Embedding lookup, bitwise equal to PyTorch's forward and backward, with a faster backward.

    PyTorch's backward runs an iterator per code. ``index_add_`` adds whole rows in the same order,
    if they are contiguous; those of a slice of a concatenation are not. It is several times as
    fast.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, codes: Tensor) -> Tensor:
        ctx.save_for_backward(codes)
        ctx.rows = len(table)
        return table.index_select(0, codes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_vectors: Tensor) -> tuple[Tensor, None]:
        (codes,) = ctx.saved_tensors
        of_table = of_vectors.new_zeros(ctx.rows, of_vectors.shape[-1])
        return of_table.index_add_(0, codes, of_vectors.contiguous()), None


def _width(features: Sequence[Feature], dim: int) -> int:
    categories = sum(f.kind is Kind.CATEGORICAL for f in features)
    numbers = sum((f.width or 1) + f.missing for f in features if f.kind is Kind.NUMERIC)
    return dim * categories + numbers


def _mean(vectors: Tensor, mask: Tensor) -> Tensor:
    share = mask.to(vectors.dtype) / mask.sum(-1, keepdim=True).clamp(min=1)
    return torch.einsum("bh,bhd->bd", share, vectors)


def _joined(parts: list[Tensor], shape: torch.Size, device: torch.device) -> Tensor:
    return torch.cat(parts, dim=-1) if parts else torch.zeros((*shape, 0), device=device)
