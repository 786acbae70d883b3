"""LCRON: the cascade as one network, by a lower bound of the probability of surviving it."""

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses import ground_truth_targets
from cascaderank.losses.survival import survival_costs, survival_loss
from cascaderank.losses.top_k import top_k_costs
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._annealed_weight import TermWeight, term_weight
from cascaderank.objectives._published.lcron_reference import LcronReference
from cascaderank.objectives._published.preconditions import (
    check_as_published,
    check_published,
    published_temperature,
)
from cascaderank.objectives._sorting import (
    Temperature,
    TemperatureSchedule,
    make_temperature_schedule,
)
from cascaderank.objectives._tightness import Trained, make_tightness
from cascaderank.sorting import find_operator, log_top_k_probability
from cascaderank.tensors import at_least_float32, reduce_lists


@OBJECTIVES.register
def lcron_objective(
    *,
    stages: tuple[str, ...],
    quotas: tuple[int, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    published: bool = False,
    operator: str = "neural_sort",
    temperature: Temperature | None = None,
    relative_temperature: bool = False,
    cut: Literal["ground_truth", "quotas"] = "ground_truth",
    end_to_end: float = 1.0,
    weights: Literal["learned"] | float | tuple[float, ...] = "learned",
    tightness: TermWeight = 0.0,
    tightness_temperature: Temperature = 1.0,
    tightness_trains: Trained = "both",
) -> Objective:
    """Train all stages jointly so that the ground truth survives all of them.

    ``L_e2e + sum_t [L_t / (2 w_t^2) + ln w_t]``: the end-to-end term is
    :func:`cascaderank.losses.survival_loss`, the term of each stage is
    :func:`cascaderank.losses.top_k_loss`. Terms are named ``end_to_end`` and ``top_k/<stage>``.
    ``tightness`` adds a term of this name, the negative log of the part of each stage's top set
    that the stage before it keeps.

    Args:
        stages: names of the stages, first stage first.
        quotas: number of candidates that each stage passes on; used if ``cut="quotas"``.
        ground_truth: size of the ground truth, the top candidates by label.
        threshold: the ground truth is every label of at least this value.
        published: whether to compute what the published code computes, with 1e-6 inside its
            logarithms and, for three stages, a weight of tied negatives that is the size of their
            group. Each list is evaluated at its own length, as if it were alone. Defined for two
            and three stages and a ground truth of the top k.
        operator: differentiable top-k operator, a name in ``cascaderank.sorting.OPERATORS``.
        temperature: temperature of the operator, positive, or
            :class:`~cascaderank.objectives.Annealed`. By default 1 if relative; otherwise 50, and
            for NeuralSort 50 in a list of 40 candidates and proportional to the number of
            candidates in others.
        relative_temperature: whether the temperature is multiplied by the scale of the
            operator's logits in each list (spread of the scores and, for NeuralSort, length of
            the list).
        cut: cut-off of every stage in the end-to-end term: the size of the list's ground truth,
            or the quotas of the cascade. The first performed better in the paper.
        end_to_end: weight of the end-to-end term; 0 omits it.
        weights: weights of the terms of the stages: ``"learned"``, or one number for all or per
            stage; 0 omits a term.
        tightness: weight of the term ``tightness``, at least 0, or
            :class:`~cascaderank.objectives.AnnealedWeight`; 0 omits it. It cuts at the quotas with
            the operator ``sigmoid``, whose probabilities add up to the quota.
        tightness_temperature: temperature of that operator, in units of scores; multiplied by the
            spread of the scores if ``relative_temperature``. Without ``tightness``, this and the
            next option are refused.
        tightness_trains: which of two adjacent stages receive gradient of this term: ``"both"``,
            or the ``"earlier"`` one.

    Raises:
        ConfigError: if an option is unknown, out of range or fixed by ``published``, or all terms
            are omitted.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective(
        ...     "lcron", stages=["retrieval", "ranking"], quotas=(2, 1), ground_truth=1,
        ...     operator="soft_sort", temperature=1.0, weights=(1.0, 0.5),
        ... )
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> objective(scores, torch.tensor([[2.0, 1.0, 0.0]])).total
        tensor(0.6304)

    Source: Learning Cascade Ranking as One Network (arXiv 2503.09492); deviations are in
    ``docs/methods/lcron.md``.
    """
    schedule = make_temperature_schedule(
        temperature, operator=find_operator(operator), relative=relative_temperature, default=50.0
    )
    if not 0 <= end_to_end < float("inf"):
        raise ConfigError(f"end_to_end must be a number of at least 0; got {end_to_end}")
    stage_weights = _stage_weights(weights, count=len(stages))
    form: _CascadeTerms | LcronReference
    if published:
        check_published("lcron", stages=len(stages), threshold=threshold)
        fixed = {
            "operator": (operator, "neural_sort"),
            "relative_temperature": (relative_temperature, False),
            "cut": (cut, "ground_truth"),
            "end_to_end": (end_to_end, 1.0),
            "weights": (weights, "learned"),
            "tightness": (tightness, 0.0),
        }
        check_as_published("lcron", fixed)
        temperature = published_temperature("lcron", schedule)
        form = LcronReference(
            k=ground_truth or 1,  # not None: without a threshold, it is given
            temperature=temperature,
            tied_rows_are_shared=len(stages) == 2,
        )
    else:
        form = _CascadeTerms(
            quotas=quotas if cut == "quotas" else None,
            k=ground_truth,
            threshold=threshold,
            schedule=schedule,
        )
    terms = [Term("end_to_end", form.end_to_end, end_to_end)]
    for t, (name, weight) in enumerate(zip(stages, stage_weights, strict=True)):
        terms.append(Term(f"top_k/{name}", partial(form.top_k, stage=t), weight, stage=t))
    tightness_weight = term_weight(tightness, "tightness")
    tightness_term = make_tightness(
        quotas=quotas,
        temperature=tightness_temperature,
        relative_temperature=relative_temperature,
        trained=tightness_trains,
    )
    if tightness_weight != 0:
        if len(stages) < 2:
            raise ConfigError(f"tightness needs two stages to compare; got {len(stages)}")
        terms.append(Term("tightness", tightness_term.loss, tightness_weight))
    elif tightness_temperature != 1.0 or tightness_trains != "both":
        raise ConfigError(
            "tightness_temperature and tightness_trains are options of the term tightness, which "
            f"is omitted; got {tightness_temperature} and {tightness_trains!r}: omit them, or set "
            "tightness"
        )
    remaining = [term for term in terms if term.weight != 0]
    if not remaining:
        raise ConfigError(
            "at least one term must have a positive weight; "
            f"got end_to_end={end_to_end} and weights={weights}"
        )
    return Objective(remaining, stages=len(stages), raw_weights=published)


def _stage_weights(
    given: Literal["learned"] | float | tuple[float, ...], *, count: int
) -> list[float | Literal["learned"]]:
    """Return the weight of the term of each stage."""
    if given == "learned":
        return ["learned"] * count
    numbers = given if isinstance(given, tuple) else (given,) * count
    if len(numbers) != count or not all(0 <= float(w) < float("inf") for w in numbers):
        raise ConfigError(
            f"weights must be 'learned', one number of at least 0, or {count} numbers of at "
            f"least 0, one per stage; got {list(given) if isinstance(given, tuple) else given}"
        )
    return [float(w) for w in numbers]


@dataclass(frozen=True, kw_only=True)
class _CascadeTerms:
    """The terms in this library's form: masks, log space, any quotas."""

    quotas: tuple[int, ...] | None
    k: int | None
    threshold: float | None
    schedule: TemperatureSchedule

    def end_to_end(self, inputs: CascadeInputs) -> Tensor:
        if self.quotas is not None:
            return survival_loss(
                inputs.scores,
                inputs.labels,
                quotas=self.quotas,
                k=self.k,
                threshold=self.threshold,
                operator=self.schedule.operator,
                temperature=self.schedule.of_stages(inputs),
                mask=inputs.mask,
            )
        log_kept, log_dropped, relevance, size = inputs.once(self._top_of_ground_truth)
        cuts = size.expand(inputs.scores.shape[:-1])
        costs = survival_costs(
            log_kept, log_dropped, relevance, cuts=cuts, size=size, mask=inputs.mask
        )
        return reduce_lists(costs, "mean").to(inputs.scores.dtype)

    def top_k(self, inputs: CascadeInputs, *, stage: int) -> Tensor:
        costs = inputs.once(self._top_k_of_stages)[stage]
        return reduce_lists(costs, "mean").to(inputs.scores.dtype)

    def _top_k_of_stages(self, inputs: CascadeInputs) -> Tensor:
        """Return the loss of each list in each stage, ``[stages, batch]``."""
        log_kept, log_dropped, relevance, size = inputs.once(self._top_of_ground_truth)
        return top_k_costs(log_kept, log_dropped, relevance, size=size, mask=inputs.mask)

    def _top_of_ground_truth(self, inputs: CascadeInputs) -> "_Top":
        """Return top-k probabilities at the size of the ground truth, which most terms share."""
        relevance, size = ground_truth_targets(
            inputs.labels,
            like=inputs.scores,
            k=self.k,
            threshold=self.threshold,
            mask=inputs.mask,
        )
        log_kept, log_dropped = log_top_k_probability(
            at_least_float32(inputs.scores),
            size,
            operator=self.schedule.operator,
            temperature=self.schedule.of_stages(inputs),
            mask=inputs.mask.expand_as(inputs.scores),
        )
        return _Top(log_kept, log_dropped, relevance, size)


class _Top(NamedTuple):
    log_kept: Tensor
    """``[stages, batch, list]``"""
    log_dropped: Tensor
    """``[stages, batch, list]``"""
    relevance: Tensor
    """``[batch, list]``; membership in the ground truth."""
    size: Tensor
    """``[batch]``; size of the ground truth, which is the cut-off of all stages."""
