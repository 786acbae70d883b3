"""ICC: the cascade as one ranker, whose score is that of the stage that drops a candidate."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from cascaderank.errors import ShapeError
from cascaderank.losses.lambda_ndcg import lambda_ndcg_loss
from cascaderank.losses.ranknet import ranknet_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._published import (
    check_as_published,
    check_full_lists,
    check_published,
)
from cascaderank.objectives._sorting import Temperature, Warmth, make_warmth
from cascaderank.sorting import find_operator, top_k_probability
from cascaderank.tensors import at_least_float32

_PUBLISHED_TEMPERATURE = 1e-3

_PUBLISHED_CUTS = {2: (30, 30), 3: (40, 30, 30)}
"""Where the published code cuts each stage, the last one included."""

_PUBLISHED_WEIGHTS = {2: (1, 1), 3: (1, 2, 4)}
"""What the published code multiplies the scores of each stage with."""


@OBJECTIVES.register
def icc_objective(
    *,
    stages: tuple[str, ...],
    quotas: tuple[int, ...],
    published: bool = False,
    loss: Literal["ranknet", "lambda_ndcg"] = "ranknet",
    operator: str | None = None,
    temperature: Temperature | None = None,
    relative_temperature: bool | None = None,
) -> Objective:
    """Train all stages together as one ranker, the cascade being its score.

    ``e_j = sum_t W^t_j s^t_j`` with ``W^t_j = (1 - I^t_j) prod_{i < t} I^i_j``: the chance that
    stage t is the last to see candidate j. ``I^t_j = sigmoid((s^t_j - s^t_[q_t]) / temperature)``
    is a smooth choice of the top q_t of the whole list; the last stage drops nothing. The term is
    a loss over pairs on e, and is called ``end_to_end``. Labels tell what is preferred; ground
    truth is not needed.

    Scores of different stages are compared, each less the mean of its list; nothing but the loss
    keeps what a later stage scores above what an earlier one dropped.

    Args:
        stages: names of the stages, first first.
        quotas: how many candidates each stage passes on; that of the last is read by the
            ``lambda_ndcg`` loss only.
        published: cut at 30 and 30 with weights of 1 and 1 (40, 30, 30 and 1, 2, 4 for three
            stages), and let equal labels prefer who comes later, as the LCRON paper's code does.
            Defined for full lists, two and three stages.
        loss: :func:`cascaderank.losses.ranknet_loss`, or
            :func:`cascaderank.losses.lambda_ndcg_loss` at the last quota.
        operator: for the choice of each stage, a name in ``cascaderank.sorting.OPERATORS``; the
            gate above if not given.
        temperature: of that choice, positive, or :class:`~cascaderank.objectives.Annealed`. If
            neither this nor the next is given, 3 and relative; 1e-3 if not relative.
        relative_temperature: multiply the temperature by the spread of the scores of each list
            and stage (and what else the operator's logits grow with).

    Raises:
        ConfigError: if an option is unknown or out of range, or ``published`` fixes it.

    Examples:
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective("icc", stages=2, quotas=(2, 1))
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> objective(scores, torch.tensor([[2.0, 1.0, 0.0]])).total
        tensor(0.3385)

    Source: Gallagher et al. 2019 (WSDM), in the neural form of LCRON's comparison
    (arXiv 2503.09492); deviations are in ``docs/methods/icc.md``.
    """
    relative = relative_temperature
    if relative is None:
        relative = temperature is None and not published
    # The gate's logits grow with the spread of the scores alone, as those of this operator do.
    warmth = make_warmth(
        temperature,
        operator=find_operator(operator or "sigmoid"),
        relative=relative,
        usual=_PUBLISHED_TEMPERATURE,
        usual_relative=3.0,
    )
    count = len(stages)
    if published:
        check_published("icc", stages=count, threshold=None)
        fixed = {
            "loss": (loss, "ranknet"),
            "operator": (operator, None),
            "relative_temperature": (relative, False),
            "temperature": (warmth.temperature, _PUBLISHED_TEMPERATURE),
        }
        check_as_published("icc", fixed)
        return Objective([Term("end_to_end", _published)], stages=count)
    form = _Ours(quotas=quotas, loss=loss, gate=operator is None, warmth=warmth)
    return Objective([Term("end_to_end", form.end_to_end)], stages=count)


@dataclass(frozen=True, kw_only=True)
class _Ours:
    """The term of this library: masks, any quotas, ties without preference."""

    quotas: tuple[int, ...]
    loss: Literal["ranknet", "lambda_ndcg"]
    gate: bool
    warmth: Warmth

    def end_to_end(self, inputs: CascadeInputs) -> Tensor:
        mask = inputs.mask
        scores = _around_their_mean(at_least_float32(inputs.scores), mask)
        merged, reached = torch.zeros_like(scores[0]), torch.ones_like(scores[0])
        for t, (of_stage, quota) in enumerate(zip(scores[:-1], self.quotas, strict=False)):
            passed = self._passed(of_stage, quota, mask, self.warmth.of_stage(inputs, t))
            merged = merged + reached * (1 - passed) * of_stage
            reached = reached * passed
        merged = merged + reached * scores[-1]
        if self.loss == "lambda_ndcg":
            return lambda_ndcg_loss(merged, inputs.labels, m=self.quotas[-1], mask=mask)
        return ranknet_loss(merged, inputs.labels, mask=mask)

    def _passed(
        self, scores: Tensor, quota: int, mask: Tensor, temperature: float | Tensor
    ) -> Tensor:
        if self.gate:
            return _chosen(scores, quota, mask, temperature)
        operator = self.warmth.operator
        return top_k_probability(
            scores, quota, operator=operator, temperature=temperature, mask=mask
        )


def _around_their_mean(scores: Tensor, mask: Tensor) -> Tensor:
    """Return scores less the mean of their list and stage.

    A candidate that passes trades the score of one stage for that of the next. Were the next one
    lower on the whole, a stage would learn to pass on the worst.
    """
    filled = scores.masked_fill(~mask, 0.0)
    mean = filled.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    return (filled - mean).masked_fill(~mask, 0.0)


def _chosen(scores: Tensor, quota: int, mask: Tensor, temperature: float | Tensor) -> Tensor:
    """Return how far each candidate is among the top of its list; 1 in a list kept whole."""
    best_first = scores.masked_fill(~mask, -torch.inf).sort(dim=-1, descending=True).values
    last = best_first[..., quota - 1 :][..., :1]  # the quota-th best, learned through
    whole = mask.sum(-1, keepdim=True) <= quota
    if not last.shape[-1]:
        return torch.ones_like(scores)  # no list is that long
    last = torch.where(whole, 0.0, last)
    if isinstance(temperature, Tensor):
        temperature = temperature[..., None]
    return torch.where(whole, 1.0, ((scores - last) / temperature).sigmoid())


def _published(inputs: CascadeInputs) -> Tensor:
    """Return the term of the published code: each pair once, in the order of the list."""
    check_full_lists(inputs)
    scores = at_least_float32(inputs.scores)
    count, length = len(scores), scores.shape[-1]
    cuts, weights = _PUBLISHED_CUTS[count], _PUBLISHED_WEIGHTS[count]
    if length < cuts[0]:
        raise ShapeError(
            f"published=True of 'icc' is defined for lists of at least {cuts[0]} candidates; "
            f"got scores {list(scores.shape)}"
        )
    passed = [
        ((s - s.topk(cut, dim=-1).values[..., -1:]) / _PUBLISHED_TEMPERATURE).sigmoid()
        for s, cut in zip(scores, cuts, strict=True)
    ]
    merged, reached = torch.zeros_like(scores[0]), torch.ones_like(scores[0])
    for t, weight in enumerate(weights):
        share = passed[t] if t == count - 1 else 1 - passed[t]
        merged = merged + weight * reached * share * scores[t]
        reached = reached * passed[t]
    margin = merged[..., :, None] - merged[..., None, :]
    preferred = inputs.labels[..., :, None] > inputs.labels[..., None, :]
    cost = softplus(margin) - preferred * margin
    return (cost.triu(1).sum((-1, -2)) / length**2).mean()
