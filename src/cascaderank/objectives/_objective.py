"""An objective: weighted terms, added up and reported one by one."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, final

import torch
from torch import Tensor, nn

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.stages import StageOutput
from cascaderank.tensors import check_cascade

_T = TypeVar("_T")


@dataclass(frozen=True)
class CascadeInputs:
    """What a term may look at; checked, and the mask is always there."""

    scores: Tensor
    """``[stages, batch, list]``, first stage first."""
    labels: Tensor
    """``[batch, list]``, higher is better."""
    mask: Tensor
    """``[batch, list]`` bool, ``True`` for a real candidate."""
    levels: Tensor | None
    """``[batch, list]`` integers, 0 lowest: how far the logged system let a candidate get."""
    progress: float = 1.0
    """Share of training that is done, in [0, 1]."""
    log_q: Tensor | None = None
    """``[batch, list]``: logarithm of the chance by which each candidate was sampled."""
    feedback: Tensor | None = None
    """``[batch, list]``, what the user did with each, such as 1 for a click."""
    rows: Tensor | None = None
    """``[batch]`` int64, where in its data set each request is."""
    outputs: tuple[StageOutput, ...] = ()
    """What each stage says beyond its scores; nothing if that is not known."""
    _known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, function: Callable[["CascadeInputs"], _T]) -> _T:
        """Return ``function(self)``, worked out once however many terms ask for it."""
        if function not in self._known:
            self._known[function] = function(self)
        known: _T = self._known[function]
        return known


@dataclass(frozen=True)
class Term:
    """One part of an objective."""

    name: str
    """Such as ``end_to_end`` or ``top_k/retrieval``: what, and of which stage."""
    function: Callable[[CascadeInputs], Tensor]
    """Gives a scalar, lower is better."""
    weight: float | Literal["learned"] | Callable[[float], float] = 1.0
    """A fixed factor, ``"learned"`` by its uncertainty, or a function of the progress."""
    stage: int | None = None
    """The only stage that learns from it, from 0; ``None`` if several may."""


@dataclass(frozen=True)
class ObjectiveOutput:
    """What an objective says about a batch."""

    total: Tensor
    """Scalar to minimise."""
    terms: dict[str, Tensor]
    """Each term before weighting, without gradient."""
    weights: dict[str, Tensor]
    """What each term was multiplied with, without gradient."""


@final
class Objective(nn.Module):
    """Add up weighted terms.

    A fixed weight c contributes ``c L``, one that is a function of the share of training that is
    done contributes ``c(progress) L``. A learned one contributes ``L / (2 w^2) + ln w``: a term
    that stays large is told to count less, at a price. What is learned is ``ln w``, starting at
    0, so w cannot turn negative. It is found in ``log_weights`` under the name of its term.

    Args:
        terms: the parts, with names of their own.
        stages: how many stages the scores must have.

    Raises:
        ConfigError: if there are no terms, or two of one name.

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

    def __init__(self, terms: Sequence[Term], *, stages: int) -> None:
        super().__init__()
        names = [term.name for term in terms]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"an objective needs terms of different names; got {names}")
        self.terms = tuple(terms)
        self.stages = stages
        self.log_weights = nn.ParameterDict(
            {t.name: nn.Parameter(torch.zeros(())) for t in terms if t.weight == "learned"}
        )

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
    ) -> ObjectiveOutput:
        """Judge the scores of a batch.

        Args:
            scores: ``[stages, batch, list]`` floating point, first stage first.
            labels: ``[batch, list]``, higher is better.
            mask: ``[batch, list]`` bool, ``True`` for a real candidate.
            levels: ``[batch, list]`` integers, 0 lowest, if the log tells.
            log_q: ``[batch, list]``, logarithm of the chance by which each was sampled, if known.
            progress: share of training that is done, in [0, 1]: what is annealed stands there.
            feedback: ``[batch, list]``, above 0 for a click, if the log tells.
            rows: ``[batch]`` int64, where in its data set each request is; for objectives that
                sample.
            outputs: what each stage says beyond its scores, as
                :meth:`cascaderank.cascade.Cascade.outputs` returns it; for objectives that learn
                from more than scores.
            reached: ``[stages, batch, list]`` bool, candidates that each stage is to learn from.
                A term of one stage takes the others for padding; a term of several stages knows
                by itself what a stage drops, and is not concerned.
            terms: names of those that count; all if not given. Others are neither worked out nor
                reported.

        Raises:
            ShapeError: if shapes or kinds of numbers do not agree.
            ConfigError: if ``progress`` is out of range, or no term counts.
        """
        mask = check_cascade(scores, labels, None, mask)
        if scores.shape[0] != self.stages:
            raise ShapeError(
                f"the objective was built for {self.stages} stages; "
                f"got scores {list(scores.shape)} of {scores.shape[0]}"
            )
        _check_levels(levels, labels)
        _check_beside(feedback, rows, outputs, scores)
        if not 0 <= progress <= 1:
            raise ConfigError(f"progress must be a number in [0, 1]; got {progress}")
        if log_q is not None and log_q.shape != labels.shape:
            raise ShapeError(
                f"log_q must be [batch, list] = {list(labels.shape)}; got {list(log_q.shape)}"
            )
        whole = CascadeInputs(
            scores=scores,
            labels=labels,
            mask=mask,
            levels=levels,
            progress=progress,
            feedback=feedback,
            rows=rows,
            outputs=tuple(outputs),
            log_q=log_q,
        )
        of_stage = _narrowed(whole, reached)
        total = scores.new_zeros(())
        values, weights = {}, {}
        for term in self._counted(terms):
            value = term.function(whole if term.stage is None else of_stage[term.stage])
            weight = self._weight(term, progress)
            total = total + weight * value
            if term.name in self.log_weights:
                total = total + self.log_weights[term.name]
            values[term.name] = value.detach()
            weights[term.name] = torch.as_tensor(weight).detach()
        return ObjectiveOutput(total=total, terms=values, weights=weights)

    def weights(self, progress: float = 1.0) -> dict[str, Tensor]:
        """Return what each term is multiplied with: its weight, or ``1 / (2 w^2)`` if learned."""
        return {
            term.name: torch.as_tensor(self._weight(term, progress)).detach() for term in self.terms
        }

    def _weight(self, term: Term, progress: float) -> Tensor | float:
        if term.weight == "learned":
            log_weight: Tensor = self.log_weights[term.name]
            return (-2 * log_weight).exp() / 2
        return term.weight(progress) if callable(term.weight) else term.weight

    def _counted(self, names: Collection[str] | None) -> list[Term]:
        counted = [t for t in self.terms if names is None or t.name in names]
        if not counted:
            raise ConfigError(
                f"terms {sorted(names or ())} are none of the objective's; "
                f"it has {', '.join(t.name for t in self.terms)}"
            )
        return counted


def _narrowed(whole: CascadeInputs, reached: Tensor | None) -> list[CascadeInputs]:
    """What the terms of each stage look at."""
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
    kind = levels.dtype
    whole = not (kind.is_floating_point or kind.is_complex or kind is torch.bool)
    if not whole or levels.shape != labels.shape:
        raise ShapeError(
            f"levels must be integers [batch, list] = {list(labels.shape)}; "
            f"got {kind} {list(levels.shape)}"
        )


def _check_beside(
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
        raise ShapeError(f"one output per stage: got {len(outputs)} for {len(scores)} stages")
