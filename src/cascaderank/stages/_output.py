"""Outputs of a stage beyond one score: probabilities of how far each candidate gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from cascaderank.batch import RequestBatch

Score = Literal["click", "exposure", "unclicked"]
"""Event whose log-odds a stage with several outputs ranks by: click, exposure, or exposure without
a click."""

_CLASSES_OF_SCORE: dict[str, tuple[int, ...]] = {
    "click": (0,),
    "exposure": (0, 1),
    "unclicked": (1,),
}


class Chance(NamedTuple):
    """The probability of an event in log space, accurate near both 0 and 1."""

    log_p: Tensor
    """``[batch, list]``, logarithm of the probability."""
    log_not: Tensor
    """``[batch, list]``, logarithm of one minus the probability."""

    def log_odds(self) -> Tensor:
        """Return the log-odds, ``[batch, list]``, which can be used as scores of any loss."""
        return self.log_p - self.log_not


@dataclass(frozen=True, kw_only=True)
class StageOutput:
    """Outputs of a stage for the candidates of a batch."""

    scores: Tensor
    """``[batch, list]``, the scores that the stage ranks by."""
    classes: Tensor | None = None
    """``[batch, list, 3 or 4]``, log-probabilities of the domains, for a stage that predicts them
    as classes; see :data:`cascaderank.data.domains.DOMAINS`."""
    events: Mapping[str, Chance] = field(default_factory=dict)
    """Probabilities by event, for a stage with one tower per event: ``click``, ``exposure``,
    ``unexposed``, ``dropped``."""
    penalty: Tensor | None = None
    """Scalar, penalty of the open gates; ``None`` for a stage without gates."""
    most: float = 0.0
    """Penalty if all gates were open."""


@runtime_checkable
class DomainStage(Protocol):
    """A stage that may have outputs beyond one score."""

    domains: int
    """Number of domains that it predicts; 1 if it predicts one score."""

    def domain_output(self, batch: RequestBatch, /) -> StageOutput:
        """Return all outputs of the stage; the scores equal those of calling it."""


def output_of(stage: nn.Module, batch: RequestBatch) -> StageOutput:
    """Return all outputs of any stage, computed in one forward pass."""
    if isinstance(stage, DomainStage):
        return stage.domain_output(batch)
    return StageOutput(scores=stage(batch))


def output_of_logits(
    logits: Tensor, score: Score, *, penalty: Tensor | None = None, most: float = 0.0
) -> StageOutput:
    """Return the output for logits ``[batch, list, outputs]``: one is a score, more are classes."""
    if logits.shape[-1] == 1:
        return StageOutput(scores=logits.squeeze(-1), penalty=penalty, most=most)
    classes = logits.log_softmax(-1)
    scores = chance_of(classes, _CLASSES_OF_SCORE[score]).log_odds()
    return StageOutput(scores=scores, classes=classes, penalty=penalty, most=most)


def chance_of(classes: Tensor, chosen: Sequence[int]) -> Chance:
    """Return the probability that the class is one of ``chosen``.

    Examples:
        >>> thirds = torch.full((1, 1, 3), 1 / 3).log()
        >>> print(f"{chance_of(thirds, (0,)).log_odds().exp().item():.3f}")
        0.500
    """
    rest = [c for c in range(classes.shape[-1]) if c not in chosen]
    return Chance(classes[..., list(chosen)].logsumexp(-1), classes[..., rest].logsumexp(-1))


def chance(logit: Tensor) -> Chance:
    """Return the probability with the given log-odds."""
    return Chance(logsigmoid(logit), logsigmoid(-logit))


def both(first: Chance, second: Chance) -> Chance:
    """Return the joint probability, where ``second`` is conditional on ``first``."""
    log_not = torch.logaddexp(first.log_not, first.log_p + second.log_not)
    return Chance(first.log_p + second.log_p, log_not)
