"""What a stage says of its candidates beyond one score: how far each is likely to get."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from cascaderank.batch import RequestBatch

Score = Literal["click", "exposure", "unclicked"]
"""What a stage with several outputs ranks by: that a candidate is clicked, is exposed, or is
exposed and not clicked."""

_CHOSEN: dict[str, tuple[int, ...]] = {"click": (0,), "exposure": (0, 1), "unclicked": (1,)}


class Chance(NamedTuple):
    """The probability of an event, in logarithms, so that neither end of [0, 1] is lost."""

    log_p: Tensor
    """``[batch, list]``, log of the probability."""
    log_not: Tensor
    """``[batch, list]``, log of one minus the probability."""

    def log_odds(self) -> Tensor:
        """Return ``[batch, list]``, which any loss may take for a score."""
        return self.log_p - self.log_not


@dataclass(frozen=True, kw_only=True)
class StageOutput:
    """What a stage says of the candidates of a batch."""

    scores: Tensor
    """``[batch, list]``, what it ranks by."""
    classes: Tensor | None = None
    """``[batch, list, 3 or 4]``, log-probabilities of the domains, of a stage that tells them apart
    as classes; see :data:`cascaderank.data.domains.DOMAINS`."""
    events: Mapping[str, Chance] = field(default_factory=dict)
    """Of a stage that has a tower for each: ``click``, ``exposure``, ``unexposed``, ``dropped``."""
    penalty: Tensor | None = None
    """Scalar, what its open gates cost; ``None`` if it has none."""
    most: float = 0.0
    """What the penalty would be with all gates open."""


@runtime_checkable
class DomainStage(Protocol):
    """A stage that may say more than one score."""

    domains: int
    """How many domains it tells apart; 1 if it says one score."""

    def domain_output(self, batch: RequestBatch, /) -> StageOutput:
        """Return all that the stage says; its scores are those of calling it."""


def output_of(stage: nn.Module, batch: RequestBatch) -> StageOutput:
    """Ask any stage for all that it says, working it out once."""
    if isinstance(stage, DomainStage):
        return stage.domain_output(batch)
    return StageOutput(scores=stage(batch))


def output_of_logits(
    logits: Tensor, score: Score, *, penalty: Tensor | None = None, most: float = 0.0
) -> StageOutput:
    """Make an output of ``[batch, list, outputs]``: one is a score, more are classes."""
    if logits.shape[-1] == 1:
        return StageOutput(scores=logits.squeeze(-1), penalty=penalty, most=most)
    classes = logits.log_softmax(-1)
    scores = chance_of(classes, _CHOSEN[score]).log_odds()
    return StageOutput(scores=scores, classes=classes, penalty=penalty, most=most)


def chance_of(classes: Tensor, chosen: Sequence[int]) -> Chance:
    """Return the chance of some of the classes.

    Examples:
        >>> thirds = torch.full((1, 1, 3), 1 / 3).log()
        >>> print(f"{chance_of(thirds, (0,)).log_odds().exp().item():.3f}")
        0.500
    """
    rest = [c for c in range(classes.shape[-1]) if c not in chosen]
    return Chance(classes[..., list(chosen)].logsumexp(-1), classes[..., rest].logsumexp(-1))


def chance(logit: Tensor) -> Chance:
    """Return the chance whose log-odds are given."""
    return Chance(logsigmoid(logit), logsigmoid(-logit))


def both(first: Chance, second: Chance) -> Chance:
    """Return the chance of one event and, given that, of another."""
    log_not = torch.logaddexp(first.log_not, first.log_p + second.log_not)
    return Chance(first.log_p + second.log_p, log_not)
