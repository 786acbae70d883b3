"""An objective: weighted terms, added up and reported one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, final

import torch
from torch import Tensor, nn

from cascaderank.errors import ConfigError, ShapeError
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
    weight: float | Literal["learned"] = 1.0
    """A fixed factor, or ``"learned"`` by its uncertainty."""


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

    A fixed weight c contributes ``c L``. A learned one contributes ``L / (2 w^2) + ln w``: a term
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
    ) -> ObjectiveOutput:
        """Judge the scores of a batch.

        Args:
            scores: ``[stages, batch, list]`` floating point, first stage first.
            labels: ``[batch, list]``, higher is better.
            mask: ``[batch, list]`` bool, ``True`` for a real candidate.
            levels: ``[batch, list]`` integers, 0 lowest, if the log tells.

        Raises:
            ShapeError: if shapes or kinds of numbers do not agree.
        """
        mask = check_cascade(scores, labels, None, mask)
        if scores.shape[0] != self.stages:
            raise ShapeError(
                f"the objective was built for {self.stages} stages; "
                f"got scores {list(scores.shape)} of {scores.shape[0]}"
            )
        _check_levels(levels, labels)
        inputs = CascadeInputs(scores=scores, labels=labels, mask=mask, levels=levels)
        total = scores.new_zeros(())
        values = {}
        for term in self.terms:
            value = term.function(inputs)
            total = total + self._factor(term) * value
            if term.name in self.log_weights:
                total = total + self.log_weights[term.name]
            values[term.name] = value.detach()
        return ObjectiveOutput(total=total, terms=values, weights=self.weights())

    def weights(self) -> dict[str, Tensor]:
        """Return what each term is multiplied with: its fixed weight, or ``1 / (2 w^2)``."""
        return {term.name: torch.as_tensor(self._factor(term)).detach() for term in self.terms}

    def _factor(self, term: Term) -> Tensor | float:
        if term.weight == "learned":
            log_weight: Tensor = self.log_weights[term.name]
            return (-2 * log_weight).exp() / 2
        return term.weight


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
