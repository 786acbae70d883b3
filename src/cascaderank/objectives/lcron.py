"""LCRON: the cascade as one network, by a lower bound of the chance to survive it."""

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses import ground_truth_targets
from cascaderank.losses.survival import survival_costs, survival_loss
from cascaderank.losses.top_k import top_k_costs
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._published import (
    check_as_published,
    check_full_lists,
    check_published,
    published_temperature,
)
from cascaderank.objectives._sorting import Temperature, Warmth, make_warmth
from cascaderank.relevance import ground_truth as top_by_label
from cascaderank.sorting import find_operator, log_top_k_probability, permutation
from cascaderank.tensors import at_least_float32, reduce_lists

_EPSILON = 1e-6
"""What the published code adds inside logarithms and to denominators."""


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
) -> Objective:
    """Train all stages together so that the ground truth survives all of them.

    ``L_e2e + sum_t [L_t / (2 w_t^2) + ln w_t]``: the end-to-end term is
    :func:`cascaderank.losses.survival_loss`, the term of each stage is
    :func:`cascaderank.losses.top_k_loss`. Terms are called ``end_to_end`` and ``top_k/<stage>``.

    Args:
        stages: names of the stages, first first.
        quotas: how many candidates each stage passes on; read if ``cut="quotas"``.
        ground_truth: the ground truth is the top so many by label.
        threshold: the ground truth is every label of at least this.
        published: compute what the published code computes, with 1e-6 inside its logarithms.
            Defined for full lists, two and three stages, and a ground truth of the top k.
        operator: the smooth top-k, a name in ``cascaderank.sorting.OPERATORS``.
        temperature: of the operator, positive, or :class:`~cascaderank.objectives.Annealed`; 50
            if not given, and 1 if not given and relative.
        relative_temperature: multiply the temperature by the size of the operator's logits in
            each list (spread of the scores and, for NeuralSort, length of the list).
        cut: where the end-to-end term cuts every stage: at the size of the list's ground truth,
            or at the quotas of the cascade. The paper found the first better.
        end_to_end: weight of the end-to-end term; 0 leaves it out.
        weights: of the terms of the stages: ``"learned"``, or one number for all or per stage;
            0 leaves a term out.

    Raises:
        ConfigError: if an option is unknown or out of range, ``published`` fixes it, or all terms
            are left out.

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
    warmth = make_warmth(
        temperature, operator=find_operator(operator), relative=relative_temperature, usual=50.0
    )
    if not 0 <= end_to_end < float("inf"):
        raise ConfigError(f"end_to_end must be a number of at least 0; got {end_to_end}")
    of_stage = _weights(weights, count=len(stages))
    form: _Ours | _Published
    if published:
        check_published("lcron", stages=len(stages), threshold=threshold)
        fixed = {
            "operator": (operator, "neural_sort"),
            "relative_temperature": (relative_temperature, False),
            "cut": (cut, "ground_truth"),
            "end_to_end": (end_to_end, 1.0),
            "weights": (weights, "learned"),
        }
        check_as_published("lcron", fixed)
        form = _Published(k=ground_truth, temperature=published_temperature("lcron", warmth))
    else:
        form = _Ours(
            quotas=quotas if cut == "quotas" else None,
            k=ground_truth,
            threshold=threshold,
            warmth=warmth,
        )
    terms = [Term("end_to_end", form.end_to_end, end_to_end)]
    for t, (name, weight) in enumerate(zip(stages, of_stage, strict=True)):
        terms.append(Term(f"top_k/{name}", partial(form.top_k, stage=t), weight, stage=t))
    left = [term for term in terms if term.weight != 0]
    if not left:
        raise ConfigError(
            f"end_to_end={end_to_end} and weights={weights} leave nothing of 'lcron' to learn from"
        )
    return Objective(left, stages=len(stages))


def _weights(
    given: Literal["learned"] | float | tuple[float, ...], *, count: int
) -> list[float | Literal["learned"]]:
    """Of each stage."""
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
class _Ours:
    """The terms of this library: masks, log space, any quotas."""

    quotas: tuple[int, ...] | None
    k: int | None
    threshold: float | None
    warmth: Warmth

    def end_to_end(self, inputs: CascadeInputs) -> Tensor:
        if self.quotas is not None:
            return survival_loss(
                inputs.scores,
                inputs.labels,
                quotas=self.quotas,
                k=self.k,
                threshold=self.threshold,
                operator=self.warmth.operator,
                temperature=self.warmth.of_stages(inputs),
                mask=inputs.mask,
            )
        log_kept, log_dropped, marks, size = inputs.once(self._top_of_ground_truth)
        cuts = size.expand(inputs.scores.shape[:-1])
        costs = survival_costs(log_kept, log_dropped, marks, cuts=cuts, size=size, mask=inputs.mask)
        return reduce_lists(costs, "mean").to(inputs.scores.dtype)

    def top_k(self, inputs: CascadeInputs, *, stage: int) -> Tensor:
        costs = inputs.once(self._top_k_of_stages)[stage]
        return reduce_lists(costs, "mean").to(inputs.scores.dtype)

    def _top_k_of_stages(self, inputs: CascadeInputs) -> Tensor:
        """Return the cost of each list in each stage, ``[stages, batch]``."""
        log_kept, log_dropped, marks, size = inputs.once(self._top_of_ground_truth)
        return top_k_costs(log_kept, log_dropped, marks, size=size, mask=inputs.mask)

    def _top_of_ground_truth(self, inputs: CascadeInputs) -> "_Top":
        """Cut all stages at the size of the ground truth: what most terms are made of."""
        marks, size = ground_truth_targets(
            inputs.labels,
            like=inputs.scores,
            k=self.k,
            threshold=self.threshold,
            mask=inputs.mask,
        )
        log_kept, log_dropped = log_top_k_probability(
            at_least_float32(inputs.scores),
            size,
            operator=self.warmth.operator,
            temperature=self.warmth.of_stages(inputs),
            mask=inputs.mask.expand_as(inputs.scores),
        )
        return _Top(log_kept, log_dropped, marks, size)


class _Top(NamedTuple):
    log_kept: Tensor
    """``[stages, batch, list]``"""
    log_dropped: Tensor
    """``[stages, batch, list]``"""
    marks: Tensor
    """``[batch, list]``; of the ground truth."""
    size: Tensor
    """``[batch]``; how many are marked, which is where all stages are cut."""


@dataclass(frozen=True, kw_only=True)
class _Published:
    """The terms of the published code, with its epsilons."""

    k: int | None
    temperature: float

    def end_to_end(self, inputs: CascadeInputs) -> Tensor:
        kept, dropped = self._shares(inputs, inputs.scores)
        survived, lost = kept.prod(0), 1 - (1 - dropped).prod(0)
        return self._cross_entropy(inputs, survived, lost)

    def top_k(self, inputs: CascadeInputs, *, stage: int) -> Tensor:
        return self._cross_entropy(inputs, *self._shares(inputs, inputs.scores[stage]))

    def _shares(self, inputs: CascadeInputs, scores: Tensor) -> tuple[Tensor, Tensor]:
        check_full_lists(inputs)
        rows = permutation(scores, operator="neural_sort", temperature=self.temperature)
        total = rows.sum(-2).detach() + _EPSILON
        return rows[..., : self.k, :].sum(-2) / total, rows[..., self.k :, :].sum(-2) / total

    def _cross_entropy(self, inputs: CascadeInputs, kept: Tensor, dropped: Tensor) -> Tensor:
        marks = top_by_label(inputs.labels, k=self.k)
        hit, miss = (kept + _EPSILON).log(), (dropped + _EPSILON).log()
        return -(marks * hit + (1 - marks) * miss).mean()
