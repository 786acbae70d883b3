"""Input of a cascade: a batch of requests with their candidates, as tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor
from torch.export import Dim, ShapesCollection, register_dataclass
from torch.serialization import add_safe_globals

from cascaderank.errors import ShapeError


@dataclass(frozen=True, kw_only=True)
class RequestBatch:
    """A batch of requests with their candidates, padded to the longest list of the batch.

    Categories are int64 codes (0 = out of vocabulary), numbers are float32 (NaN = missing). Values
    under ``False`` of a mask are arbitrary. A feature with several values has one dimension more:
    categories are padded with -1, which is no value (code 0 is one), and vectors have no padding.

    A batch is a pytree of tensors: ``torch.export.export(stage, (batch,))`` works, see
    :meth:`dynamic_shapes`.
    """

    mask: Tensor
    """``[batch, list]`` bool, ``True`` for a real candidate."""
    items: Mapping[str, Tensor]
    """Features of the candidates by name, each ``[batch, list]`` or ``[batch, list, values]``."""
    request: Mapping[str, Tensor] = field(default_factory=dict)
    """Features of the requests by name, each ``[batch]`` or ``[batch, values]``."""
    history: Mapping[str, Tensor] = field(default_factory=dict)
    """Features of the histories by name, each ``[batch, length]``; oldest entry first."""
    history_mask: Mapping[str, Tensor] = field(default_factory=dict)
    """Masks of the histories by sequence name, each ``[batch, length]`` bool."""
    labels: Tensor | None = None
    """``[batch, list]`` float, higher is better; ``None`` when serving."""
    levels: Tensor | None = None
    """``[batch, list]`` int64, level of the cascade that the candidate reached when it was logged;
    0 is the lowest."""
    feedback: Tensor | None = None
    """``[batch, list]`` float32, the user's response to the candidate, such as 1 for a click;
    ``None`` if the log has no feedback."""
    log_q: Tensor | None = None
    """``[batch, list]`` float32, log-probability that the sampler of random candidates draws each
    candidate; ``None`` if no candidates are sampled."""
    rows: Tensor | None = None
    """``[batch]`` int64, row of each request in its data set."""
    weights: Tensor | None = None
    """``[batch, list]`` float32, weight of each candidate in training, at least 0; ``None`` if all
    are 1; see :meth:`cascaderank.objectives.CascadeInputs.weighted`."""

    def __post_init__(self) -> None:
        mask: object = self.mask
        if not isinstance(mask, Tensor):
            return  # a tree of something else, such as the dynamic shapes of an export
        if self.mask.dim() != 2 or self.mask.dtype is not torch.bool:
            raise ShapeError(
                f"mask must be bool [batch, list]; got {self.mask.dtype} {list(self.mask.shape)}"
            )
        lists, (requests, _) = self.mask.shape, self.mask.shape
        for name, tensor in self.items.items():
            if tensor.shape[:2] != lists:
                raise ShapeError(
                    f"item feature '{name}' must be [batch, list] = {list(lists)}; "
                    f"got {list(tensor.shape)}"
                )
        for name, tensor in {**self.request, **self.history, **self.history_mask}.items():
            if tensor.shape[:1] != (requests,):
                raise ShapeError(
                    f"feature '{name}' must have {requests} requests; got {list(tensor.shape)}"
                )

    def __len__(self) -> int:
        return self.mask.shape[0]

    def dynamic_shapes(self) -> ShapesCollection:
        """Return dynamic shapes for ``torch.export.export``: every dimension may differ.

        The exported program then takes batches of other sizes, with other lengths of lists and
        histories. Export with at least two of each, because PyTorch treats 0 and 1 as constants.

        Examples:
            >>> from cascaderank.cascade import build_stage
            >>> from cascaderank.schema import Feature, FittedSchema
            >>> schema = FittedSchema(features=(Feature(name="x", role="item", kind="numeric"),))
            >>> stage = build_stage("linear", schema).eval()
            >>> batch = RequestBatch(mask=torch.ones(2, 3).bool(), items={"x": torch.rand(2, 3)})
            >>> program = torch.export.export(
            ...     stage, (batch,), dynamic_shapes=batch.dynamic_shapes()
            ... )
            >>> longer = RequestBatch(mask=torch.ones(4, 7).bool(), items={"x": torch.rand(4, 7)})
            >>> torch.allclose(program.module()(longer), stage(longer))
            True
        """
        shapes = ShapesCollection()  # type: ignore[no-untyped-call]
        for f in fields(self):
            value = getattr(self, f.name)
            tensors = value.values() if isinstance(value, Mapping) else [value]
            for tensor in tensors:
                if tensor is not None:
                    shapes[tensor] = dict.fromkeys(range(tensor.dim()), Dim.AUTO)
        return shapes

    def to(self, device: torch.device | str) -> "RequestBatch":
        """Return the batch on another device; copies from page-locked memory are asynchronous."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "RequestBatch":
        """Return the batch in page-locked memory; without CUDA, unchanged."""
        return self._each(Tensor.pin_memory) if torch.cuda.is_available() else self

    def _each(self, change: Callable[[Tensor], Tensor]) -> "RequestBatch":
        changed: dict[str, object] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Mapping):
                changed[f.name] = {name: change(tensor) for name, tensor in value.items()}
            elif value is not None:
                changed[f.name] = change(value)
        return RequestBatch(**changed)  # type: ignore[arg-type]


# Exported programs are saved with the batch that they were exported with.
add_safe_globals([RequestBatch])
register_dataclass(RequestBatch, serialized_type_name="cascaderank.RequestBatch")
