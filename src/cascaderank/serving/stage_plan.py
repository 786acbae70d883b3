"""How a stage of a bundle scores candidates: from parts that were computed at export, or anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.errors import ConfigError, DataError
from cascaderank.previous import Output
from cascaderank.schema import FittedSchema, Role
from cascaderank.serving.item_table import ItemTable
from cascaderank.serving.pace import Pace
from cascaderank.settings.run import RunSettings
from cascaderank.stages import SplitStage, VectorStage

_BLOCK = 65_536  # items whose parts are computed at a time


@final
@dataclass(kw_only=True, eq=False)
class StagePlan:
    """One stage, the item features that it reads, and the parts of all items."""

    name: str
    stage: nn.Module
    """The stage, in evaluation mode."""
    features: tuple[str, ...]
    """Item features that the stage reads."""
    pair_features: tuple[str, ...]
    """Those of request and item together, which the catalogue does not have."""
    quota: int
    previous: tuple[Output, ...] = ()
    """Outputs of the previous stage that the stage reads."""
    parts: Tensor | None = None
    """``[items, width]`` part of each item; ``None`` if the score is no function of parts."""
    pace: Pace = field(default_factory=Pace, init=False)
    """Expected time."""
    _split: SplitStage | None = field(init=False)

    def __post_init__(self) -> None:
        # Once, because a check of a protocol takes as long as a layer of a small network.
        if isinstance(self.stage, VectorStage):
            self._split = _Vectors(self.stage)
        else:
            splits = isinstance(self.stage, SplitStage) and self.stage.splits
            self._split = self.stage if splits else None  # type: ignore[assignment]

    @property
    def split(self) -> SplitStage | None:
        """The stage as a function of a part of the request and a part of the item.

        ``None`` for a stage that cannot be split.
        """
        return self._split

    def scores_of_parts(
        self, request: RequestBatch, items: Tensor, vector: Tensor | None = None
    ) -> NDArray[np.float32]:
        """Return scores ``[items]`` of candidates by their parts, ``[items, width]``.

        Args:
            request: the encoded request.
            items: parts of the candidates.
            vector: ``[width]`` vector in place of that of the request, of a stage with vectors.
        """
        split = self._checked_split()
        part = split.request_part(request) if vector is None else (vector[None],)
        return self._checked(split.scores_of_parts(part, items[None])[0])

    def parts_of_features(
        self, request: RequestBatch, items: Mapping[str, Tensor], count: int
    ) -> Tensor:
        """Return the parts of candidates, ``[count, width]``, by encoded features."""
        return self._checked_split().item_part(self._batch(request, items, count))[0]

    def _checked_split(self) -> SplitStage:
        if self._split is None:
            raise ConfigError(f"stage '{self.name}' cannot be split into parts")
        return self._split

    def scores_of_features(
        self, request: RequestBatch, items: Mapping[str, Tensor], count: int
    ) -> NDArray[np.float32]:
        """Return scores ``[count]`` of candidates by encoded features, ``[1, count]`` each."""
        return self._checked(self.stage(self._batch(request, items, count))[0])

    def _batch(
        self, request: RequestBatch, items: Mapping[str, Tensor], count: int
    ) -> RequestBatch:
        return RequestBatch(
            mask=torch.ones(1, count, dtype=torch.bool),
            items=items,
            request=request.request,
            history=request.history,
            history_mask=request.history_mask,
        )

    def _checked(self, scores: Tensor) -> NDArray[np.float32]:
        found: NDArray[np.float32] = scores.float().numpy()
        wrong = np.count_nonzero(np.isnan(found))
        if wrong:
            raise DataError(
                f"stage '{self.name}': scores must be numbers; got NaN for {wrong} of {len(found)} "
                "candidates; the weights or the features of these candidates are not finite"
            )
        return found


@final
class _Vectors:
    """A stage whose score is a dot product, as a function of two parts."""

    splits = True

    def __init__(self, stage: VectorStage) -> None:
        self._stage = stage

    def request_part(self, batch: RequestBatch) -> tuple[Tensor, ...]:
        return (self._stage.request_vectors(batch),)

    def item_part(self, batch: RequestBatch) -> Tensor:
        return self._stage.item_vectors(batch)

    def scores_of_parts(self, request: tuple[Tensor, ...], items: Tensor) -> Tensor:
        return (items @ request[0].unsqueeze(-1)).squeeze(-1)


def stage_plans(
    cascade: Cascade,
    schema: FittedSchema,
    settings: RunSettings,
    *,
    known: Sequence[str],
    parts: Mapping[str, Tensor] | None = None,
) -> list[StagePlan]:
    """Return the plan of each stage, first stage first.

    Args:
        cascade: cascade in evaluation mode, on the CPU.
        schema: schema of the run.
        settings: settings of the run.
        known: item features of the catalogue.
        parts: parts of all items by stage.
    """
    plans = []
    for (name, stage), quota in zip(cascade.stages.items(), cascade.quotas, strict=True):
        chosen = schema.select(settings.stages[name].features)
        previous = cascade.previous.get(name, ())
        features = tuple(f.name for f in chosen if f.role is Role.ITEM)
        plans.append(
            StagePlan(
                name=name,
                stage=stage,
                features=features,
                pair_features=tuple(f for f in features if f not in known),
                quota=quota,
                previous=previous,
                parts=(parts or {}).get(name),
            )
        )
    return plans


def parts_of_items(plans: Sequence[StagePlan], items: ItemTable) -> dict[str, Tensor]:
    """Return the parts of all items, ``[items, width]`` float32, by stage.

    Stages that read features of request and item together or outputs of the previous stage, and
    those whose score is no function of parts, are omitted.
    """
    found: dict[str, Tensor] = {}
    with torch.inference_mode():
        for plan in plans:
            if plan.split is None or plan.pair_features or plan.previous:
                continue
            blocks = []
            for start in range(0, len(items), _BLOCK):
                places = np.arange(start, min(start + _BLOCK, len(items)))
                mask = torch.ones(1, len(places), dtype=torch.bool)
                encoded: dict[str, Any] = items.encoded(plan.features, places)
                batch = RequestBatch(mask=mask, items=encoded)
                blocks.append(plan.split.item_part(batch)[0].float())
            found[plan.name] = torch.cat(blocks).contiguous()
    return found
