"""Cost of serving a stage: counts of operations instead of measured times."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cascaderank.batch import RequestBatch
from cascaderank.schema import Feature, Kind, Role, Schema


@final
@dataclass(frozen=True)
class MultiplyAdds:
    """Number of multiply-adds in matrix products."""

    per_request: int
    """Performed once per request, independent of the number of candidates."""
    per_candidate: int
    """Performed for every candidate."""

    def of(self, candidates: int) -> int:
        """Return the number for a request with ``candidates`` candidates."""
        return self.per_request + candidates * self.per_candidate


@final
@dataclass(frozen=True)
class LookUps:
    """Number of rows read from embedding tables."""

    per_request: int
    """Read once per request, independent of the number of candidates."""
    per_candidate: int
    """Read for every candidate."""

    def of(self, candidates: int) -> int:
        """Return the number for a request with ``candidates`` candidates."""
        return self.per_request + candidates * self.per_candidate


def multiply_adds(
    stage: nn.Module, features: Schema | Sequence[Feature], *, history: int = 50, values: int = 3
) -> MultiplyAdds:
    """Count the multiply-adds with which a stage scores a request.

    No values are computed: the stage runs on meta tensors, and is not modified. Embedding look-ups,
    activations and sums are not counted.

    Args:
        stage: the stage; counted in evaluation mode, without sampled gates and dropout.
        features: at least the features that the stage reads.
        history: number of entries of every history.
        values: number of values of every feature with several categories.

    Examples:
        >>> from cascaderank.schema import FittedSchema
        >>> from cascaderank.stages.mlp import MLP
        >>> schema = FittedSchema(
        ...     features=(
        ...         Feature(name="age", role="request", kind="numeric"),
        ...         Feature(name="price", role="item", kind="numeric"),
        ...     )
        ... )
        >>> multiply_adds(MLP(schema, schema.features, hidden=(10, 5)), schema)
        MultiplyAdds(per_request=10, per_candidate=65)

    Source: this project; counted by PyTorch's FlopCounterMode.
    """
    products, _ = _counted(stage, features, history, values)
    return MultiplyAdds(*products)


def look_ups(
    stage: nn.Module, features: Schema | Sequence[Feature], *, history: int = 50, values: int = 3
) -> LookUps:
    """Count the rows of embeddings that a stage reads to score a request.

    A feature that is looked up twice counts twice. No values are computed, as in
    :func:`multiply_adds`.

    Args:
        stage: the stage; counted in evaluation mode.
        features: at least the features that the stage reads.
        history: number of entries of every history.
        values: number of values of every feature with several categories.

    Examples:
        >>> from cascaderank.schema import FittedSchema
        >>> from cascaderank.stages.mlp import MLP
        >>> schema = FittedSchema(
        ...     features=(
        ...         Feature(name="seen", role="history", kind="categorical", buckets=9),
        ...         Feature(name="shop", role="item", kind="categorical", buckets=9),
        ...     )
        ... )
        >>> look_ups(MLP(schema, schema.features), schema, history=20)
        LookUps(per_request=20, per_candidate=1)

    Source: this project.
    """
    _, rows = _counted(stage, features, history, values)
    return LookUps(*rows)


def _counted(
    stage: nn.Module, features: Schema | Sequence[Feature], history: int, values: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return multiply-adds and look-ups, each per request and per candidate."""
    from torch.utils.flop_counter import FlopCounterMode  # slow to import, and rarely used

    members = features.features if isinstance(features, Schema) else tuple(features)
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in chain(stage.named_parameters(), stage.named_buffers())
    }
    modes = {module: module.training for module in stage.modules()}
    products, rows = [], []
    try:
        for module in modes:
            module.training = False
        for candidates in (1, 2):
            counter = FlopCounterMode(display=False, custom_mapping=_COUNTED)
            with torch.no_grad(), counter:
                functional_call(stage, state, (_shapes(members, candidates, history, values),))
            counts = counter.get_flop_counts().get("Global", {})
            looked_up = counts.get(torch.ops.aten.embedding, 0)
            products.append((counter.get_total_flops() - looked_up) // 2)
            rows.append(looked_up)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return _split(*products), _split(*rows)


def _split(one: int, two: int) -> tuple[int, int]:
    """Return the counts per request and per candidate from those for one and two candidates."""
    return 2 * one - two, two - one


def _flops_of_vector(matrix: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _rows(_: torch.Size, codes: torch.Size, *__: Any, **___: Any) -> int:
    return codes.numel()


_COUNTED = {torch.ops.aten.mv: _flops_of_vector, torch.ops.aten.embedding: _rows}
"""Counts that PyTorch does not have by default: matrix-vector products, and look-ups."""


def _shapes(
    features: Sequence[Feature], candidates: int, history: int, values: int
) -> RequestBatch:
    """Return a batch of one request on the meta device."""
    shape = {Role.REQUEST: (1,), Role.ITEM: (1, candidates), Role.HISTORY: (1, history)}

    def columns(role: Role) -> dict[str, Tensor]:
        return {
            f.name: torch.empty(
                (*shape[role], f.width or values) if f.several else shape[role],
                dtype=torch.int64 if f.kind is Kind.CATEGORICAL else torch.float32,
                device="meta",
            )
            for f in features
            if f.role is role
        }

    def mask(role: Role) -> Tensor:
        return torch.empty(shape[role], dtype=torch.bool, device="meta")

    sequences = {f.sequence for f in features if f.role is Role.HISTORY}
    return RequestBatch(
        mask=mask(Role.ITEM),
        items=columns(Role.ITEM),
        request=columns(Role.REQUEST),
        history=columns(Role.HISTORY),
        history_mask={name: mask(Role.HISTORY) for name in sequences},
    )
