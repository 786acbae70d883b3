"""Outputs of the previous stage as inputs of a stage."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.schema import Feature, FittedSchema, Kind, Role
from cascaderank.selection import best_first, kept_by_stages

Output = Literal["score", "rank"]
"""Output of the previous stage: the score, or the natural logarithm of the rank."""


def schema_with_previous(schema: FittedSchema, previous: Sequence[Output]) -> FittedSchema:
    """Return a schema with outputs of the previous stage as numeric features of the candidates.

    Args:
        schema: schema fitted to the training requests.
        previous: outputs, each at most once. Their features are ``previous_score`` and
            ``previous_rank``.

    Raises:
        ConfigError: if the schema has a feature of that name.

    Examples:
        >>> [f.name for f in schema_with_previous(FittedSchema(features=()), ["score"]).features]
        ['previous_score']
    """
    names = [f"previous_{output}" for output in previous]
    taken = [f.name for f in schema.features if f.name in names]
    if taken:
        raise ConfigError(
            f"the data have a feature '{taken[0]}', the name of an output of the previous stage; "
            "rename the column"
        )
    added = (Feature(name=name, role=Role.ITEM, kind=Kind.NUMERIC) for name in names)
    # Not validated again: vocabularies can have millions of values.
    return schema.model_copy(update={"features": (*schema.features, *added)})


def batch_with_previous(
    batch: RequestBatch, previous: Sequence[Output], scores: Sequence[Tensor], quotas: Sequence[int]
) -> RequestBatch:
    """Return a batch with outputs of the previous stage, as constants to the gradient.

    A rank counts the candidates that the previous stage received, which the stages before it kept.
    It is thus the same in training, where all stages score all candidates, and in serving. A
    candidate that was dropped earlier has the rank that it would have among them.

    Args:
        batch: batch that the stage scores.
        previous: outputs to add.
        scores: scores ``[batch, list]`` of the earlier stages, first stage first; at least one.
        quotas: number of candidates that the earlier stages pass on.

    Returns:
        The batch with the item features ``previous_score``, the score itself, and
        ``previous_rank``, the logarithm of the rank, 0 for the first.

    Examples:
        >>> import torch
        >>> batch = RequestBatch(mask=torch.ones(1, 3).bool(), items={})
        >>> scores = [torch.tensor([[3.0, 1.0, 2.0]])]
        >>> batch_with_previous(batch, ["rank"], scores, (2,)).items["previous_rank"].exp()
        tensor([[1., 3., 2.]])

    Source: this project.
    """
    last = scores[-1].detach()
    outputs: dict[str, Tensor] = {}
    if "score" in previous:
        outputs["previous_score"] = last
    if "rank" in previous:
        received = batch.mask
        if len(scores) > 1:
            orders = [best_first(earlier.detach()) for earlier in scores[:-1]]
            received = kept_by_stages(orders, quotas[: len(orders)], received)[-1]
        order = best_first(last)
        in_order = received.gather(-1, order)
        before = in_order.cumsum(-1) - in_order.long()
        ranks = before.new_zeros(before.shape).scatter(-1, order, before + 1)
        outputs["previous_rank"] = ranks.to(last.dtype).log()
    return replace(batch, items={**batch.items, **outputs})
