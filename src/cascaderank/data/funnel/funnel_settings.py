"""Settings of a synthetic funnel, and quantities derived from them."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.limits import LARGEST, LARGEST_FLOAT32
from cascaderank.tensors import check_quotas

CATEGORIES = 20
Chain = Literal["exposure", "click"]
_LOGGING_STAGES = ("prerank", "coarse", "rank", "rerank")
_CASCADE_STAGES = ("retrieval", "preranking", "ranking", "reranking")
_MOST_POSITIONS = 32_767  # that the format of a log can store
_LARGEST = {
    "requests": LARGEST,
    "users": LARGEST,
    "items": LARGEST,
    "stages": 100,
    "ground_truth": _MOST_POSITIONS,
    "per_level": _MOST_POSITIONS,
    "days": 36_525,
}


@dataclass(frozen=True, kw_only=True)
class FunnelSettings:
    """Settings of a synthetic funnel.

    The logging system has one stage more than the cascade that is trained on its log. The utility
    of a candidate is a sum of one part per stage of the cascade. Logging stage ``t`` (from 1) ranks
    by the sum of the first ``t`` parts; the last logging stage ranks by the sum of all parts.
    :attr:`knowledge` defines which parts the features of each cascade stage reveal; it has no
    influence on the logged candidates, levels and positions.

    Raises:
        ConfigError: if settings are out of range; the message lists all of them.

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
    """Number of stages of the trained cascade."""
    quotas: tuple[int, ...] | None = None
    """Candidates kept by each stage; ``None``: ``ground_truth`` plus one level per stage that is
    left, such as 30 and 20 of 40."""
    ground_truth: int = 10
    """Candidates kept by the last logging stage; they form the top level."""
    per_level: int = 10
    """Logged candidates of every lower level."""
    ragged: bool = False
    """Log a random number of candidates of every lower level, between 1 and ``per_level``."""
    noise: float = 0.9
    """Standard deviation of the logistic noise of each logging stage, in units of the standard
    deviation of a late part."""
    complementarity: float = 0.5
    """Difference between the knowledge of the stages, in [0, 1].

    At 0, every stage has the features of all parts. At 0.5, every stage has the features of its own
    part and of all earlier parts. At 1, every stage has the features of its own part only.
    """
    unevenness: float = 0.0
    """Fraction of the items whose utility is a single part, in [0, 1].

    Each stage has an equal number of such items. Their utility is the part of this stage alone,
    multiplied so that its standard deviation is that of the sum of all parts. To a stage without
    the features of the part they differ by their type alone.
    """
    days: int = 10
    """Length of the log in days."""
    chain: Chain | None = None
    """Log all candidates with clicks, and label each with its probability of exposure or of a
    click; see :mod:`cascaderank.data.funnel.chain`."""
    seed: int = 0
    """Seed of all random draws."""

    def __post_init__(self) -> None:
        mistakes = [
            f"{name} must be at {'least 1' if number < 1 else f'most {largest:,}'}; got {number:,}"
            for name, largest in _LARGEST.items()
            if not 1 <= (number := getattr(self, name)) <= largest
        ]
        if not 0 < self.noise <= LARGEST_FLOAT32:
            mistakes.append(f"noise must be positive, in the range of float32; got {self.noise}")
        if not 0 <= self.complementarity <= 1:
            mistakes.append(f"complementarity must be in [0, 1]; got {self.complementarity}")
        if not 0 <= self.unevenness <= 1:
            mistakes.append(f"unevenness must be in [0, 1]; got {self.unevenness}")
        if self.chain not in (None, *get_args(Chain)):
            mistakes.append(f"chain must be exposure or click; got {self.chain}")
        if self.chain is not None and self.ragged:
            mistakes.append("chain logs all candidates and ragged only some; set one of them")
        if not 0 <= self.seed < 2**63:
            mistakes.append(f"seed must be at least 0 and less than 2^63; got {self.seed}")
        if not mistakes:
            if self.items < max(self.alive[0], CATEGORIES):
                mistakes.append(
                    f"items must be at least {max(self.alive[0], CATEGORIES)}, the candidates of a "
                    f"request with {self.stages} stages, ground_truth {self.ground_truth} and "
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
        """Number of candidates that each stage of the cascade keeps."""
        if self.quotas is not None:
            return tuple(self.quotas)
        return tuple(self.ground_truth + self.per_level * t for t in range(self.stages, 0, -1))

    @property
    def alive(self) -> tuple[int, ...]:
        """Candidates of a request before the first logging stage and after each logging stage.

        Each stage drops half of its candidates, or ``per_level`` if that is more.
        """
        alive = [self.ground_truth]
        for _ in range(self.stages + 1):
            alive.append(alive[-1] + max(alive[-1], self.per_level))
        return tuple(reversed(alive))

    @property
    def noise_scale(self) -> float:
        """Scale of the logistic distribution of the noise."""
        return self.noise * math.sqrt(3) / math.pi

    @property
    def length(self) -> int:
        """Logged candidates of a request, if lists are not ragged."""
        if self.chain is not None:
            return self.alive[0]
        return self.ground_truth + self.per_level * (self.stages + 1)

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of levels, lowest first: dropped by each logging stage, then kept by the last."""
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
        """Fraction of the variance of each part that the features of each stage explain.

        By stage, then by part, in [0, 1]. The fraction is 1 for the stage's own part. For the parts
        of later stages it falls from 1 to 0 as complementarity rises from 0 to 0.5; for the parts
        of earlier stages it falls from 1 to 0 as complementarity rises from 0.5 to 1.

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
        """Fraction of the variance in the estimates of parts, by part from 0.

        An estimate exists for every part that some stage explains with a fraction between 0 and 1.
        """
        cells = [(part, share) for row in self.knowledge for part, share in enumerate(row)]
        return dict(sorted((part, share) for part, share in cells if 0 < share < 1))

    @property
    def logging_parts(self) -> tuple[tuple[int, ...], ...]:
        """Parts of the utility, from 0, that each logging stage ranks by."""
        return (*(tuple(range(t)) for t in range(1, self.stages + 1)), tuple(range(self.stages)))
