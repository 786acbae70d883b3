"""Settings of a synthetic funnel, and what follows from them."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.tensors import check_quotas

CATEGORIES = 20
Chain = Literal["exposure", "click"]
_LOGGING_STAGES = ("prerank", "coarse", "rank", "rerank")
_CASCADE_STAGES = ("retrieval", "preranking", "ranking", "reranking")
_AT_LEAST_ONE = ("requests", "users", "stages", "ground_truth", "per_level", "days")


@dataclass(frozen=True, kw_only=True)
class FunnelSettings:
    """What can be chosen about a synthetic funnel.

    The logging system has one stage more than the cascade that is to be learnt from it. A
    candidate's utility is a sum of as many parts as the cascade has stages. Logging stage ``t``
    ranks by the first ``t`` parts, the last one by all of them. What the stages of the cascade
    know of the parts is told by :attr:`knowledge`; what is logged does not depend on it.

    Raises:
        ConfigError: if a setting is out of range; all of them are told at once.

    Examples:
        >>> settings = FunnelSettings(stages=2)
        >>> settings.level_names
        ('prerank_neg', 'coarse_neg', 'rank_neg', 'rank_pos')
        >>> settings.alive, settings.kept
        ((80, 40, 20, 10), (30, 20))
    """

    requests: int = 20_000
    users: int = 2_000
    items: int = 5_000
    stages: int = 2
    """Stages of the cascade to be learnt."""
    quotas: tuple[int, ...] | None = None
    """What each of them keeps; ``None``: one level less with every stage, 30 and 20 of 40."""
    ground_truth: int = 10
    """Candidates that the logging system ends with: all of the top level."""
    per_level: int = 10
    """Candidates that are logged of every lower level."""
    ragged: bool = False
    """Log between 1 and ``per_level`` candidates of a lower level, by chance."""
    noise: float = 0.9
    """Standard deviation of the logistic noise of each logging stage; of a late part it is 1."""
    complementarity: float = 0.5
    """How much each stage knows that the others do not, in [0, 1].

    At 0 all stages know the same, everything; at 0.5 each knows what the earlier ones know and one
    part more; at 1 each knows one part of its own and nothing else.
    """
    days: int = 10
    chain: Chain | None = None
    """Log all candidates, with clicks, and as labels how likely each was of this; see
    :mod:`cascaderank.data.funnel.chain`."""
    seed: int = 0

    def __post_init__(self) -> None:
        mistakes = [
            f"{name} must be at least 1; got {getattr(self, name)}"
            for name in _AT_LEAST_ONE
            if getattr(self, name) < 1
        ]
        if not 0 < self.noise < float("inf"):
            mistakes.append(f"noise must be positive; got {self.noise}")
        if not 0 <= self.complementarity <= 1:
            mistakes.append(f"complementarity must be in [0, 1]; got {self.complementarity}")
        if self.chain not in (None, *get_args(Chain)):
            mistakes.append(f"chain must be exposure or click; got {self.chain}")
        if self.chain is not None and self.ragged:
            mistakes.append("chain logs all candidates, and ragged only some; choose one")
        if self.seed < 0:
            mistakes.append(f"seed must be at least 0; got {self.seed}")
        if not mistakes:
            if self.items < max(self.alive[0], CATEGORIES):
                mistakes.append(
                    f"items must be at least {max(self.alive[0], CATEGORIES)}, what a request "
                    f"starts from with {self.stages} stages, ground_truth {self.ground_truth} and "
                    f"per_level {self.per_level}; got {self.items}"
                )
            try:
                check_quotas(self.kept, stages=self.stages)
            except (ConfigError, ShapeError) as error:
                mistakes.append(str(error))
        if mistakes:
            raise ConfigError(f"synthetic funnel: {'; '.join(mistakes)}")

    @property
    def kept(self) -> tuple[int, ...]:
        """How many candidates each stage of the cascade keeps."""
        if self.quotas is not None:
            return tuple(self.quotas)
        return tuple(self.ground_truth + self.per_level * t for t in range(self.stages, 0, -1))

    @property
    def alive(self) -> tuple[int, ...]:
        """Candidates of a request before the first logging stage and after each of them.

        Each stage drops half, or what the log needs of its level if that is more.
        """
        alive = [self.ground_truth]
        for _ in range(self.stages + 1):
            alive.append(alive[-1] + max(alive[-1], self.per_level))
        return tuple(reversed(alive))

    @property
    def noise_scale(self) -> float:
        """Scale of the logistic distribution that the noise has."""
        return self.noise * math.sqrt(3) / math.pi

    @property
    def length(self) -> int:
        """Candidates that are logged of a request, if lists are not ragged."""
        if self.chain is not None:
            return self.alive[0]
        return self.ground_truth + self.per_level * (self.stages + 1)

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of levels, lowest first: who dropped the candidate, and the last one's choice."""
        names = [
            _LOGGING_STAGES[g] if g < len(_LOGGING_STAGES) else f"rerank_{g - 2}"
            for g in range(self.stages + 1)
        ]
        return (*(f"{name}_neg" for name in names), f"{names[-1]}_pos")

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages of the cascade."""
        if self.stages <= 2:
            return ("retrieval", "ranking")[-self.stages :]
        last = len(_CASCADE_STAGES)
        return tuple(
            _CASCADE_STAGES[t] if t < last else f"reranking_{t - last + 2}"
            for t in range(self.stages)
        )

    @property
    def knowledge(self) -> tuple[tuple[float, ...], ...]:
        """Share of the variance of each part that each stage of the cascade knows.

        By stage, then by part, in [0, 1]. A stage knows its own part. As complementarity rises from
        0 to 0.5 it comes to know less of the parts of later stages, and from 0.5 to 1 less of those
        of earlier ones.

        Examples:
            >>> FunnelSettings(complementarity=0.25).knowledge
            ((1.0, 0.5), (1.0, 1.0))
            >>> FunnelSettings(complementarity=1.0).knowledge
            ((1.0, 0.0), (0.0, 1.0))
        """
        later = max(0.0, 1 - 2 * self.complementarity)
        earlier = min(1.0, 2 - 2 * self.complementarity)
        return tuple(
            tuple(
                1.0 if part == stage else later if part > stage else earlier
                for part in range(self.stages)
            )
            for stage in range(self.stages)
        )

    @property
    def estimates(self) -> dict[int, float]:
        """Parts, from 0, that some stage knows in part, and which share of the variance."""
        cells = [(part, share) for row in self.knowledge for part, share in enumerate(row)]
        return dict(sorted((part, share) for part, share in cells if 0 < share < 1))

    @property
    def logging_parts(self) -> tuple[tuple[int, ...], ...]:
        """Parts of the utility that each logging stage sees, from 0."""
        return (*(tuple(range(t)) for t in range(1, self.stages + 1)), tuple(range(self.stages)))
