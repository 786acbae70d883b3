"""ICC: the cascade as one ranker, whose score is that of the stage that drops a candidate."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cascaderank.losses.lambda_ndcg import lambda_ndcg_loss
from cascaderank.losses.ranknet import ranknet_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._published.icc_reference import ICC_TEMPERATURE, icc_reference
from cascaderank.objectives._published.preconditions import check_as_published, check_published
from cascaderank.objectives._sorting import (
    Temperature,
    TemperatureSchedule,
    make_temperature_schedule,
)
from cascaderank.sorting import find_operator, top_k_probability
from cascaderank.tensors import at_least_float32, below_best


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
    """Train all stages jointly as one ranker whose score merges the scores of the stages.

    ``e_j = sum_t W^t_j s^t_j`` with ``W^t_j = (1 - I^t_j) prod_{i < t} I^i_j``: the probability
    that stage t is the last to score candidate j.
    ``I^t_j = sigmoid((s^t_j - s^t_[q_t]) / temperature)`` is a smooth selection of the top q_t of
    the whole list; the last stage drops nothing. The term is a pairwise loss on e, named
    ``end_to_end``. Preferences follow from labels; no ground truth is needed.

    Scores of different stages are compared after subtracting the mean of each list. Only the loss
    makes the scores of a later stage exceed those of candidates dropped earlier.

    Args:
        stages: names of the stages, first stage first.
        quotas: number of candidates that each stage passes on; the last is used by the
            ``lambda_ndcg`` loss only.
        published: whether to cut at 30 and 30 with weights of 1 and 1 (40, 30, 30 and 1, 2, 4 for
            three stages), and to prefer the later candidate of equal labels, as the code of the
            LCRON paper does. Defined for two and three stages and lists of at least 30 (40)
            candidates; each list is evaluated at its own length, as if it were alone.
        loss: :func:`cascaderank.losses.ranknet_loss`, or
            :func:`cascaderank.losses.lambda_ndcg_loss` at the last quota.
        operator: operator of the selection of each stage, a name in
            ``cascaderank.sorting.OPERATORS``; the gate above by default.
        temperature: temperature of that selection, positive, or
            :class:`~cascaderank.objectives.Annealed`. The default is 3 and relative if neither
            this nor the next option is given, and 1e-3 if not relative.
        relative_temperature: whether the temperature is multiplied by the spread of the scores of
            each list and stage (and, for an operator, by the other factors of its logits' scale).

    Raises:
        ConfigError: if an option is unknown or out of range, or fixed by ``published``.

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
    # The logits of the gate scale with the spread of the scores only, as those of this operator.
    schedule = make_temperature_schedule(
        temperature,
        operator=find_operator(operator or "sigmoid"),
        relative=relative,
        default=ICC_TEMPERATURE,
        default_relative=3.0,
    )
    count = len(stages)
    if published:
        check_published("icc", stages=count, threshold=None)
        fixed = {
            "loss": (loss, "ranknet"),
            "operator": (operator, None),
            "relative_temperature": (relative, False),
            "temperature": (schedule.temperature, ICC_TEMPERATURE),
        }
        check_as_published("icc", fixed)
        return Objective([Term("end_to_end", icc_reference)], stages=count)
    cascade = _CascadeTerm(quotas=quotas, loss=loss, gate=operator is None, schedule=schedule)
    return Objective([Term("end_to_end", cascade.end_to_end)], stages=count)


@dataclass(frozen=True, kw_only=True)
class _CascadeTerm:
    """The term in this library's form: masks, any quotas, no preference between equal labels."""

    quotas: tuple[int, ...]
    loss: Literal["ranknet", "lambda_ndcg"]
    gate: bool
    schedule: TemperatureSchedule

    def end_to_end(self, inputs: CascadeInputs) -> Tensor:
        mask = inputs.mask
        scores = _centred(at_least_float32(inputs.scores), mask)
        merged, reached = torch.zeros_like(scores[0]), torch.ones_like(scores[0])
        for t, (of_stage, quota) in enumerate(zip(scores[:-1], self.quotas, strict=False)):
            passed = self._passed(of_stage, quota, mask, self.schedule.of_stage(inputs, t))
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
            return _soft_selection(scores, quota, mask, temperature)
        operator = self.schedule.operator
        return top_k_probability(
            scores, quota, operator=operator, temperature=temperature, mask=mask
        )


def _centred(scores: Tensor, mask: Tensor) -> Tensor:
    """Return scores minus the mean of their list and stage.

    For a candidate that passes, the score of the next stage replaces that of this one. If scores
    of the next stage were lower on average, a stage would be trained to pass on the worst.
    """
    filled = below_best(scores, mask)
    mean = filled.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    return (filled - mean).masked_fill(~mask, 0.0)


def _soft_selection(
    scores: Tensor, quota: int, mask: Tensor, temperature: float | Tensor
) -> Tensor:
    """Return the soft membership of each candidate in the top of its list.

    It is 1 in a list that is kept as a whole.
    """
    best_first = scores.masked_fill(~mask, -torch.inf).sort(dim=-1, descending=True).values
    last = best_first[..., quota - 1 :][..., :1]  # the quota-th best, with gradient
    whole = mask.sum(-1, keepdim=True) <= quota
    if not last.shape[-1]:
        return torch.ones_like(scores)  # no list is that long
    last = torch.where(whole, 0.0, last)
    if isinstance(temperature, Tensor):
        temperature = temperature[..., None]
    return torch.where(whole, 1.0, ((scores - last) / temperature).sigmoid())
