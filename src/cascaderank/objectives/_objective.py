"""Objectives as weighted sums of terms that are reported separately."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeVar, final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError, ShapeError
from cascaderank.layers.named_modules import attribute_name
from cascaderank.objectives._candidate_weights import (
    check_candidate_weights,
    weighted_output,
    with_weighted_gradient,
)
from cascaderank.stages import StageOutput
from cascaderank.tensors import check_cascade

_T = TypeVar("_T")

_SMALLEST_WEIGHT = 1e-4
"""Smallest raw learned weight: at 0, the factor 1 / (2 w^2) and its gradient are not finite."""


@dataclass(frozen=True)
class CascadeInputs:
    """Input of a term: validated tensors of a batch; the mask is never ``None``."""

    scores: Tensor
    """``[stages, batch, list]``, first stage first."""
    labels: Tensor
    """``[batch, list]``, higher is better."""
    mask: Tensor
    """``[batch, list]`` bool, ``True`` for a real candidate."""
    levels: Tensor | None
    """``[batch, list]`` integers, 0 lowest: how far each candidate got in the logged cascade."""
    progress: float = 1.0
    """Fraction of training completed, in [0, 1]."""
    log_q: Tensor | None = None
    """``[batch, list]``, log-probability with which each candidate was sampled."""
    feedback: Tensor | None = None
    """``[batch, list]``, feedback of the user, such as 1 for a click."""
    rows: Tensor | None = None
    """``[batch]`` int64, row of each request in its data set."""
    outputs: tuple[StageOutput, ...] = ()
    """Outputs of each stage beyond its scores; empty if not available."""
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_levels(self.levels, self.labels)
        _check_optional(self.feedback, self.rows, self.outputs, self.scores)
        if not 0 <= self.progress <= 1:
            raise ConfigError(f"progress must be a number in [0, 1]; got {self.progress}")
        if self.log_q is not None and self.log_q.shape != self.labels.shape:
            raise ShapeError(
                f"log_q must be [batch, list] = {list(self.labels.shape)}; "
                f"got {list(self.log_q.shape)}"
            )

    @classmethod
    def of_batch(
        cls, batch: RequestBatch, outputs: Sequence[StageOutput], *, progress: float = 1.0
    ) -> Self:
        """Return the inputs of the objective for a batch and the outputs of all stages.

        If the batch has weights of candidates, they are applied as by :meth:`weighted`.

        Args:
            batch: batch of training requests, with labels.
            outputs: outputs of the stages, as :meth:`cascaderank.cascade.Cascade.outputs` returns
                them.
            progress: fraction of training completed, in [0, 1].

        Raises:
            ConfigError: if the batch has no labels, or ``progress`` is out of range.
            ShapeError: if shapes do not agree.
        """
        if batch.labels is None:
            raise ConfigError("training needs labels; the batch has none")
        scores = torch.stack([output.scores for output in outputs])
        inputs = cls(
            scores=scores,
            labels=batch.labels,
            mask=check_cascade(scores, batch.labels, None, batch.mask),
            levels=batch.levels,
            progress=progress,
            log_q=batch.log_q,
            feedback=batch.feedback,
            rows=batch.rows,
            outputs=tuple(outputs),
        )
        return inputs if batch.weights is None else inputs.weighted(batch.weights)

    def weighted(self, weights: Tensor) -> Self:
        r"""Return inputs whose objective has a gradient weighted by candidate.

        The gradient with respect to each stage's score :math:`s_{ti}` of candidate i is multiplied
        by its weight, for every objective:

        .. math:: w_i \, \frac{\partial L}{\partial s_{ti}}

        The values of scores and terms are unchanged. A candidate of weight 0 still has its place
        in the list and affects the gradient of the others, but is not trained on. For an objective
        that is a sum over candidates, such as ``bce``, this is the gradient of the weighted sum.

        Args:
            weights: ``[batch, list]`` floating point, at least 0.

        Raises:
            ShapeError: if the weights have another shape.

        Examples:
            >>> scores = torch.zeros(1, 1, 2, requires_grad=True)
            >>> inputs = CascadeInputs(scores, torch.ones(1, 2), torch.ones(1, 2).bool(), None)
            >>> inputs.weighted(torch.tensor([[0.0, 2.0]])).scores.sum().backward()
            >>> scores.grad
            tensor([[[0., 2.]]])

        Source: the weights of rows of LightGBM's ranking objectives, which multiply the gradient.
        """
        check_candidate_weights(weights, self.labels)
        weights = weights.masked_fill(~self.mask, 1.0)
        return replace(
            self,
            scores=with_weighted_gradient(self.scores, weights),
            outputs=tuple(weighted_output(output, weights) for output in self.outputs),
        )

    def once(self, function: Callable[["CascadeInputs"], _T]) -> _T:
        """Return ``function(self)``; cached, so that terms can share a result."""
        if function not in self._cache:
            self._cache[function] = function(self)
        value: _T = self._cache[function]
        return value


@dataclass(frozen=True)
class Term:
    """One part of an objective."""

    name: str
    """Such as ``end_to_end`` or ``top_k/retrieval``: the criterion and, if any, the stage."""
    function: Callable[[CascadeInputs], Tensor]
    """Returns a scalar, lower is better."""
    weight: float | Literal["learned"] | Callable[[float], float] = 1.0
    """Fixed factor, ``"learned"`` from the uncertainty of the term, or function of the progress."""
    stage: int | None = None
    """Index from 0 of the only stage that receives gradient; ``None`` if several may."""


@dataclass(frozen=True)
class ObjectiveOutput:
    """Value of an objective on a batch."""

    total: Tensor
    """Scalar to minimise."""
    terms: dict[str, Tensor]
    """Each term before weighting, without gradient."""
    weights: dict[str, Tensor]
    """Factor of each term, without gradient."""


@final
class Objective(nn.Module):
    """Weighted sum of terms.

    A term L with a fixed weight c contributes ``c L``; a weight that is a function of the progress
    of training contributes ``c(progress) L``. A learned weight contributes ``L / (2 w^2) + ln w``:
    it reduces the influence of a term that stays large, and ``ln w`` penalises that. The parameter
    is ``ln w``, initialised to 0, so w stays positive. It is stored in ``log_weights`` under the
    name of the term, see :func:`~cascaderank.layers.named_modules.attribute_name`.

    With ``raw_weights``, the parameter is w itself, initialised to 1 and stored in ``raw_weights``,
    as in published code; an optimizer with steps of a fixed size changes it at another rate. For w
    of at most 0, where ``ln w`` is undefined, both parts are those of ``|w|``, and for ``|w|``
    below 1e-4 those of 1e-4. States of such an objective that hold ``ln w`` are converted.

    Args:
        terms: the terms, with distinct names.
        stages: number of stages of the scores.
        raw_weights: whether the parameters of learned weights are w instead of ``ln w``.

    Raises:
        ConfigError: if there are no terms, or two terms have the same name.

    Examples:
        >>> import torch
        >>> size = Term("size", lambda inputs: inputs.scores.square().mean())
        >>> bias = Term("bias", lambda inputs: inputs.scores.mean().abs(), weight="learned")
        >>> objective = Objective([size, bias], stages=1)
        >>> out = objective(torch.full((1, 2, 3), 2.0), torch.zeros(2, 3))
        >>> out.total, out.terms["bias"], out.weights["bias"]
        (tensor(5., grad_fn=<AddBackward0>), tensor(2.), tensor(0.5000))

    Source: learned weights after Kendall et al. 2018 (arXiv 1705.07115).
    """

    def __init__(self, terms: Sequence[Term], *, stages: int, raw_weights: bool = False) -> None:
        super().__init__()
        names = [term.name for term in terms]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"an objective needs terms with distinct names; got {names}")
        self.terms = tuple(terms)
        self.stages = stages
        self.log_weights, self.raw_weights = nn.ParameterDict(), nn.ParameterDict()
        for term in terms:
            if term.weight == "learned" and raw_weights:
                self.raw_weights[self._attribute(term)] = nn.Parameter(torch.ones(()))
            elif term.weight == "learned":
                self.log_weights[self._attribute(term)] = nn.Parameter(torch.zeros(()))
        if raw_weights:
            self.register_load_state_dict_pre_hook(_with_raw_weights)  # type: ignore[no-untyped-call]

    def forward(
        self,
        scores: Tensor,
        labels: Tensor,
        *,
        mask: Tensor | None = None,
        levels: Tensor | None = None,
        log_q: Tensor | None = None,
        progress: float = 1.0,
        feedback: Tensor | None = None,
        rows: Tensor | None = None,
        outputs: Sequence[StageOutput] = (),
        reached: Tensor | None = None,
        terms: Collection[str] | None = None,
        weights: Tensor | None = None,
    ) -> ObjectiveOutput:
        """Evaluate the objective on a batch.

        Args:
            scores: ``[stages, batch, list]`` floating point, first stage first.
            labels: ``[batch, list]``, higher is better.
            mask: ``[batch, list]`` bool, ``True`` for a real candidate.
            levels: ``[batch, list]`` integers, 0 lowest; ``None`` if the log has none.
            log_q: ``[batch, list]``, log-probability with which each candidate was sampled;
                ``None`` if unknown.
            progress: fraction of training completed, in [0, 1]; annealed temperatures and weights
                are evaluated at it.
            feedback: ``[batch, list]``, above 0 for a click; ``None`` if the log has none.
            rows: ``[batch]`` int64, row of each request in its data set; for objectives that
                sample candidates.
            outputs: outputs of each stage beyond its scores, as returned by
                :meth:`cascaderank.cascade.Cascade.outputs`; for objectives that use more than
                scores.
            reached: ``[stages, batch, list]`` bool, candidates that each stage is trained on.
                A term of one stage treats the others as padding. A term of several stages models
                itself which candidates a stage drops, and ignores this argument.
            terms: names of the terms to evaluate; all by default. Other terms are neither computed
                nor reported.
            weights: ``[batch, list]``, weight of each candidate, by which the gradient of its
                scores is multiplied, see :meth:`CascadeInputs.weighted`; 1 by default.

        Raises:
            ShapeError: if shapes or dtypes do not agree.
            ConfigError: if ``progress`` is out of range, or no term is selected.
        """
        inputs = CascadeInputs(
            scores=scores,
            labels=labels,
            mask=check_cascade(scores, labels, None, mask),
            levels=levels,
            progress=progress,
            feedback=feedback,
            rows=rows,
            outputs=tuple(outputs),
            log_q=log_q,
        )
        if weights is not None:
            inputs = inputs.weighted(weights)
        return self.evaluate(inputs, reached=reached, terms=terms)

    def evaluate(
        self,
        inputs: CascadeInputs,
        *,
        reached: Tensor | None = None,
        terms: Collection[str] | None = None,
    ) -> ObjectiveOutput:
        """Evaluate the objective on inputs that are one record, such as those of a batch.

        Args:
            inputs: scores and targets, for example of :meth:`CascadeInputs.of_batch`.
            reached: as in :meth:`forward`.
            terms: as in :meth:`forward`.

        Raises:
            ShapeError: if the number of stages differs, or ``reached`` has another shape.
            ConfigError: if no term is selected.
        """
        scores = inputs.scores
        if scores.shape[0] != self.stages:
            raise ShapeError(
                f"the objective was built for {self.stages} stages; "
                f"got scores {list(scores.shape)} of {scores.shape[0]}"
            )
        of_stage = _narrowed(inputs, reached)
        total = scores.new_zeros(())
        values, weights = {}, {}
        for term in self._selected(terms):
            value = term.function(inputs if term.stage is None else of_stage[term.stage])
            weight = self._weight(term, inputs.progress)
            total = total + weight * value
            if term.weight == "learned":
                total = total + self._log_weight(term)
            values[term.name] = value.detach()
            weights[term.name] = torch.as_tensor(weight).detach()
        return ObjectiveOutput(total=total, terms=values, weights=weights)

    def weights(self, progress: float = 1.0) -> dict[str, Tensor]:
        """Return the factor of each term: its weight, or ``1 / (2 w^2)`` if learned."""
        return {
            term.name: torch.as_tensor(self._weight(term, progress)).detach() for term in self.terms
        }

    def _weight(self, term: Term, progress: float) -> Tensor | float:
        if term.weight == "learned" and self.raw_weights:
            return 1 / (2 * self._raw_weight(term).square())
        if term.weight == "learned":
            return (-2 * self._log_weight(term)).exp() / 2
        return term.weight(progress) if callable(term.weight) else term.weight

    def _log_weight(self, term: Term) -> Tensor:
        if self.raw_weights:
            return self._raw_weight(term).log()
        log_weight: Tensor = self.log_weights[self._attribute(term)]
        return log_weight

    def _raw_weight(self, term: Term) -> Tensor:
        weight: Tensor = self.raw_weights[self._attribute(term)]
        return weight.abs().clamp(min=_SMALLEST_WEIGHT)

    def _attribute(self, term: Term) -> str:
        return attribute_name(term.name, self.log_weights)

    def _selected(self, names: Collection[str] | None) -> list[Term]:
        selected = [t for t in self.terms if names is None or t.name in names]
        if not selected:
            raise ConfigError(
                f"the objective has no term of {sorted(names or ())}; "
                f"it has {', '.join(t.name for t in self.terms)}"
            )
        return selected


def _with_raw_weights(_module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Convert a state with ``ln w``, such as that of a run of version 0.4, to one with w."""
    logs = f"{prefix}log_weights."
    for key in [key for key in state if key.startswith(logs)]:
        state[f"{prefix}raw_weights.{key.removeprefix(logs)}"] = state.pop(key).exp()


def _narrowed(whole: CascadeInputs, reached: Tensor | None) -> list[CascadeInputs]:
    """Return the inputs for the terms of each stage, with candidates not reached masked."""
    if reached is None:
        return [whole] * len(whole.scores)
    if reached.dtype is not torch.bool or reached.shape != whole.scores.shape:
        raise ShapeError(
            f"reached must be bool [stages, batch, list] = {list(whole.scores.shape)}; "
            f"got {reached.dtype} {list(reached.shape)}"
        )
    return [replace(whole, mask=whole.mask & of_stage) for of_stage in reached]


def _check_levels(levels: Tensor | None, labels: Tensor) -> None:
    if levels is None:
        return
    dtype = levels.dtype
    integral = not (dtype.is_floating_point or dtype.is_complex or dtype is torch.bool)
    if not integral or levels.shape != labels.shape:
        raise ShapeError(
            f"levels must be integers [batch, list] = {list(labels.shape)}; "
            f"got {dtype} {list(levels.shape)}"
        )


def _check_optional(
    feedback: Tensor | None, rows: Tensor | None, outputs: Sequence[StageOutput], scores: Tensor
) -> None:
    if feedback is not None and feedback.shape != scores.shape[1:]:
        raise ShapeError(
            f"feedback must be [batch, list] = {list(scores.shape[1:])}; got {list(feedback.shape)}"
        )
    if rows is not None and rows.shape != scores.shape[1:2]:
        raise ShapeError(
            f"rows must be [batch] = {list(scores.shape[1:2])}; got {list(rows.shape)}"
        )
    if outputs and len(outputs) != len(scores):
        raise ShapeError(
            f"outputs must be one per stage; got {len(outputs)} for {len(scores)} stages"
        )
