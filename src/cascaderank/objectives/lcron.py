"""LCRON: the cascade as one network, by a lower bound of the chance to survive it."""

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses._marks import mark
from cascaderank.losses.survival import survival_costs, survival_loss
from cascaderank.losses.top_k import top_k_costs
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._published import (
    check_as_published,
    check_full_lists,
    check_published,
)
from cascaderank.relevance import ground_truth as top_by_label
from cascaderank.sorting import (
    Operator,
    check_temperature,
    find_operator,
    log_top_k_probability,
    permutation,
)
from cascaderank.sorting import relative_temperature as relative_temperature_of
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
    temperature: float | None = None,
    relative_temperature: bool = False,
    cut: Literal["ground_truth", "quotas"] = "ground_truth",
    weights: Literal["learned"] | tuple[float, ...] = "learned",
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
        temperature: of the operator, positive; 50 if not given, and 1 if not given and relative.
        relative_temperature: multiply the temperature by the size of the operator's logits in
            each list (spread of the scores and, for NeuralSort, length of the list).
        cut: where the end-to-end term cuts every stage: at the size of the list's ground truth,
            or at the quotas of the cascade. The paper found the first better.
        weights: of the terms of the stages: ``"learned"``, or one number per stage.

    Raises:
        ConfigError: if an option is unknown or out of range, or ``published`` fixes it.

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
    if temperature is None:
        temperature = 1.0 if relative_temperature else 50.0
    check_temperature(temperature)
    if weights == "learned":
        of_stage: list[float | Literal["learned"]] = ["learned"] * len(stages)
    else:
        of_stage = list(weights)
        if len(weights) != len(stages) or not all(0 <= w < float("inf") for w in weights):
            raise ConfigError(
                f"weights must be 'learned' or {len(stages)} numbers of at least 0, "
                f"one per stage; got {list(weights)}"
            )
    form: _Ours | _Published
    if published:
        check_published("lcron", stages=len(stages), threshold=threshold)
        fixed = {
            "operator": (operator, "neural_sort"),
            "relative_temperature": (relative_temperature, False),
            "cut": (cut, "ground_truth"),
            "weights": (weights, "learned"),
        }
        check_as_published("lcron", fixed)
        form = _Published(k=ground_truth, temperature=temperature)
    else:
        form = _Ours(
            quotas=quotas if cut == "quotas" else None,
            k=ground_truth,
            threshold=threshold,
            operator=find_operator(operator),
            temperature=temperature,
            relative=relative_temperature,
        )
    terms = [Term("end_to_end", form.end_to_end)]
    for t, (name, weight) in enumerate(zip(stages, of_stage, strict=True)):
        terms.append(Term(f"top_k/{name}", partial(form.top_k, stage=t), weight))
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _Ours:
    """The terms of this library: masks, log space, any quotas."""

    quotas: tuple[int, ...] | None
    k: int | None
    threshold: float | None
    operator: Operator
    temperature: float
    relative: bool

    def end_to_end(self, inputs: CascadeInputs) -> Tensor:
        if self.quotas is not None:
            return survival_loss(
                inputs.scores,
                inputs.labels,
                quotas=self.quotas,
                k=self.k,
                threshold=self.threshold,
                operator=self.operator,
                temperature=inputs.once(self._temperature),
                mask=inputs.mask,
            )
        log_kept, log_dropped, marks, size = inputs.once(self._top_of_ground_truth)
        cuts = size.expand(inputs.scores.shape[:-1])
        costs = survival_costs(log_kept, log_dropped, marks, cuts=cuts, size=size, mask=inputs.mask)
        return reduce_lists(costs, "mean").to(inputs.scores.dtype)

    def top_k(self, inputs: CascadeInputs, *, stage: int) -> Tensor:
        log_kept, log_dropped, marks, size = inputs.once(self._top_of_ground_truth)
        costs = top_k_costs(log_kept[stage], log_dropped[stage], marks, size=size, mask=inputs.mask)
        return reduce_lists(costs, "mean").to(inputs.scores.dtype)

    def _top_of_ground_truth(self, inputs: CascadeInputs) -> "_Top":
        """Cut all stages at the size of the ground truth: what most terms are made of."""
        marks, size = mark(
            inputs.labels,
            like=inputs.scores,
            k=self.k,
            threshold=self.threshold,
            mask=inputs.mask,
        )
        log_kept, log_dropped = log_top_k_probability(
            at_least_float32(inputs.scores),
            size,
            operator=self.operator,
            temperature=inputs.once(self._temperature),
            mask=inputs.mask.expand_as(inputs.scores),
        )
        return _Top(log_kept, log_dropped, marks, size)

    def _temperature(self, inputs: CascadeInputs) -> float | Tensor:
        if not self.relative:
            return self.temperature
        return relative_temperature_of(
            at_least_float32(inputs.scores),
            self.temperature,
            operator=self.operator,
            mask=inputs.mask.expand_as(inputs.scores),
        )


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
