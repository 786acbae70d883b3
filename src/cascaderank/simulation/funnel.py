"""Static requests of a funnel: candidates by chance, cut by one stage after another.

Nothing here knows models: what scores and what is true comes from functions of places of items.
Chance is a hash of seed, user, request and item, so that neither the size of a block nor the order
of users changes what is drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from cascaderank.data.hashing import mix, seeded
from cascaderank.errors import ConfigError, DataError

Places = NDArray[np.int64]
"""Where items are in the catalogue."""
Scorer = Callable[[Places], NDArray[np.float32]]
"""From places ``[users, n]``, none twice in a row, to one number each."""

_CANDIDATES, _NOISE, _EXPLORATION, _NEGATIVES = range(4)  # purposes of chance
_PURPOSES = 4
_ROWS = 16
_NEVER = np.uint64(2**64 - 1)


@final
@dataclass(frozen=True, kw_only=True)
class FunnelStage:
    """What one stage of the simulated funnel passes on, and what is logged of the rest."""

    name: str
    keep: int
    """Candidates that it passes on."""
    negatives: int
    """Candidates it dropped that are logged."""
    negatives_from: Literal["bottom", "random"] = "bottom"
    """Which: those of the lowest scores, or by chance."""
    noise: float = 0.0
    """Standard deviation of normal noise on every score, anew in each request."""
    exploration: float = 0.0
    """Share of what is kept that chance chooses among what the scores would drop."""


@final
@dataclass(frozen=True, kw_only=True)
class Funnel:
    """How a request goes: candidates by chance, then stage after stage.

    Args:
        candidates: that a request starts from.
        stages: in order.
        pool: items beside the candidates that are logged, by chance.
        seed: of all chance.

    Raises:
        ConfigError: if a stage keeps and logs more than reaches it, or a number is out of range.

    Examples:
        >>> rank = FunnelStage(name="rank", keep=5, negatives=3)
        >>> funnel = Funnel(candidates=20, stages=(rank,), pool=2)
        >>> funnel.level_names, funnel.list_length
        (('pool', 'rank_neg', 'exposed', 'exposed_pos'), 10)
    """

    candidates: int
    stages: tuple[FunnelStage, ...]
    pool: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        mistakes = [] if self.stages else ["a funnel needs a stage; got none"]
        mistakes += [f"pool must be at least 0; got {self.pool}"] * (self.pool < 0)
        arriving = self.candidates
        for stage in self.stages:
            if stage.keep < 1 or stage.negatives < 0:
                mistakes.append(
                    f"stages.{stage.name}: keep must be at least 1 and negatives at least 0; "
                    f"got {stage.keep} and {stage.negatives}"
                )
            if stage.keep + stage.negatives > arriving:
                mistakes.append(
                    f"stages.{stage.name}: keeps {stage.keep:,} and logs {stage.negatives:,} "
                    f"negatives of the {arriving:,} candidates that reach it; lower keep or "
                    "negatives, or let more reach it"
                )
            if not (stage.noise >= 0 and 0 <= stage.exploration < 1):
                mistakes.append(
                    f"stages.{stage.name}: noise must be at least 0 and exploration in [0, 1); "
                    f"got {stage.noise} and {stage.exploration}"
                )
            arriving = stage.keep
        if mistakes:
            raise ConfigError("; ".join(mistakes))

    @property
    def level_names(self) -> tuple[str, ...]:
        """How far a candidate got, lowest first: the z of FS-LTR's Eq 9, from z_0 on."""
        dropped = (f"{stage.name}_neg" for stage in self.stages)
        return ("pool", *dropped, "exposed", "exposed_pos")

    @property
    def exposed(self) -> int:
        """Candidates that the user is shown."""
        return self.stages[-1].keep

    @property
    def list_length(self) -> int:
        """Candidates of a request that are logged."""
        return self.pool + sum(s.negatives for s in self.stages) + self.exposed


@final
@dataclass(frozen=True, kw_only=True)
class Requests:
    """What is logged of one request of each of some users; all ``[users, list]``."""

    items: Places
    levels: NDArray[np.int8]
    positions: NDArray[np.int16]
    """Rank inside the level by the stage that put it there, from 1; 0 in the pool."""
    labels: NDArray[np.float32]
    """What the user would do with the item if it were shown: 1 or 0."""
    feedback: NDArray[np.float32]
    """What the user did with it: the label if it was shown, else 0."""

    def positives(self) -> NDArray[np.bool_]:
        """Return what was shown and had positive feedback, ``[users, list]``."""
        return self.feedback > 0


def draw_requests(
    funnel: Funnel,
    *,
    users: Places,
    number: int,
    pool: NDArray[np.bool_],
    scorers: Sequence[Scorer],
    truth: Scorer,
) -> Requests:
    """Draw one request of each user.

    Args:
        funnel: how it goes.
        users: ``[users]`` numbers that tell users apart; what is drawn depends on them.
        number: of the request; another number draws another.
        pool: ``[users, items]``, what can be a candidate.
        scorers: of the stages, first stage first; higher is better. Equals stay in the order of the
            stage before, and in that of the catalogue before the first.
        truth: 1 or 0 of items: whether the user would like them.

    Returns:
        What is logged: the pool, the negatives of each stage, then what was exposed.

    Raises:
        DataError: if a user has fewer items than the candidates and the pool need.
    """
    chance = _Chance(funnel.seed, users, number)
    alive, outside = _candidates(funnel, pool, chance)
    rows: list[tuple[Places, int, bool]] = [(outside, 0, False)]
    for level, (stage, scorer) in enumerate(zip(funnel.stages, scorers, strict=True), 1):
        scores = scorer(alive)
        if stage.noise:
            uniform = chance(alive, _NOISE, level)
            scores = scores + stage.noise * ndtri(_open_interval(uniform)).astype(np.float32)
        ranked = np.take_along_axis(alive, _best_first(scores), 1)
        alive, dropped = _cut(stage, ranked, chance, level)
        rows.append((_negatives(stage, dropped, chance, level), level, True))
    top = len(funnel.stages) + 1
    items = np.concatenate([places for places, _, _ in rows] + [alive], axis=1)
    labels = truth(items)
    shown = labels[:, -funnel.exposed :] > 0
    return Requests(
        items=items,
        levels=np.concatenate(
            [np.full(places.shape, level, np.int8) for places, level, _ in rows]
            + [np.where(shown, top + 1, top).astype(np.int8)],
            axis=1,
        ),
        positions=np.concatenate(
            [
                np.broadcast_to(np.arange(1, places.shape[1] + 1) * known, places.shape).astype(
                    np.int16
                )
                for places, _, known in rows
            ]
            + [np.where(shown, shown.cumsum(1), (~shown).cumsum(1)).astype(np.int16)],
            axis=1,
        ),
        labels=labels,
        feedback=np.concatenate(
            [np.zeros_like(labels[:, : -funnel.exposed]), labels[:, -funnel.exposed :]], axis=1
        ),
    )


def _candidates(
    funnel: Funnel, pool: NDArray[np.bool_], chance: "_Chance"
) -> tuple[Places, Places]:
    """Candidates and items beside them, each in the order of the catalogue."""
    needed = funnel.candidates + funnel.pool
    fewest = int(pool.sum(1).min()) if pool.size else 0
    if fewest < needed:
        short = int((pool.sum(1) < needed).sum())
        raise DataError(
            f"{short:,} of {len(pool):,} users have fewer than {needed:,} items to draw from "
            f"({funnel.candidates:,} candidates and a pool of {funnel.pool:,}); the fewest are "
            f"{fewest:,}; lower funnel.candidates or funnel.pool"
        )
    chosen = np.empty((len(pool), needed), dtype=np.int64)
    everything = np.arange(pool.shape[1])[None, :]
    for first in range(0, len(pool), _ROWS):  # some at a time: they stay in the cache
        some = slice(first, first + _ROWS)
        keys = chance(everything, _CANDIDATES, 0, some)
        keys[~pool[some]] = _NEVER
        chosen[some] = _lowest(keys, needed)
    inside, outside = chosen[:, : funnel.candidates], chosen[:, funnel.candidates :]
    return np.sort(inside, axis=1), np.sort(outside, axis=1)


def _cut(
    stage: FunnelStage, ranked: Places, chance: "_Chance", level: int
) -> tuple[Places, Places]:
    """What is kept and what is dropped, each best first."""
    explored = round(stage.exploration * stage.keep)
    kept, rest = np.split(ranked, [stage.keep - explored], axis=1)
    if not explored or rest.shape[1] == explored:
        return ranked[:, : stage.keep], ranked[:, stage.keep :]
    lucky = _some(rest, explored, chance(rest, _EXPLORATION, level))
    users = len(ranked)
    return (
        np.concatenate([kept, rest[lucky].reshape(users, -1)], axis=1),
        rest[~lucky].reshape(users, -1),
    )


def _negatives(stage: FunnelStage, dropped: Places, chance: "_Chance", level: int) -> Places:
    if stage.negatives_from == "bottom" or stage.negatives == dropped.shape[1]:
        return dropped[:, dropped.shape[1] - stage.negatives :]
    some = _some(dropped, stage.negatives, chance(dropped, _NEGATIVES, level))
    return dropped[some].reshape(len(dropped), stage.negatives)


def _some(places: Places, count: int, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Mark ``count`` places of each row, those of the lowest keys."""
    marked = np.zeros(places.shape, dtype=bool)
    if count:
        np.put_along_axis(marked, _lowest(keys, count), values=True, axis=1)
    return marked


def _lowest(keys: NDArray[np.uint64], count: int) -> Places:
    """Columns of the lowest keys of each row, lowest first.

    A column is put into the last bits of its key: numbers are sorted several times as fast as
    their places.
    """
    bits = np.uint64((keys.shape[1] - 1).bit_length())
    packed = ((keys >> bits) << bits) | np.arange(keys.shape[1], dtype=np.uint64)
    lowest = np.sort(np.partition(packed, count - 1, axis=1)[:, :count], axis=1)
    places: Places = (lowest & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    return places


def _best_first(scores: NDArray[np.float32]) -> Places:
    """Columns of each row, best first; of equals the earlier one, and NaN last."""
    known = np.where(np.isnan(scores), np.float32(-np.inf), scores).astype(np.float32) + 0.0
    bits = known.view(np.int32).astype(np.int64)
    ascending = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    packed = np.sort((-ascending << 32) + np.arange(scores.shape[1]), axis=1)
    places: Places = packed & 0xFFFFFFFF
    return places


@final
class _Chance:
    """Numbers that look random, of user, request, purpose, stage and item."""

    def __init__(self, seed: int, users: Places, number: int) -> None:
        of_user = mix(users.astype(np.uint64) ^ seeded(seed))
        self._of_request = mix(of_user ^ np.uint64(number))

    def __call__(
        self, items: Places, purpose: int, level: int, users: slice = slice(None)
    ) -> NDArray[np.uint64]:
        of_purpose = mix(self._of_request[users] ^ np.uint64(level * _PURPOSES + purpose))
        return mix(of_purpose[:, None] ^ items.astype(np.uint64))


def _open_interval(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers in (0, 1), of 53 bits."""
    return ((keys >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def uniform_of_pairs(seed: int, users: Places, items: Places) -> NDArray[np.float64]:
    """Return one number in (0, 1) of each pair, the same in every request.

    Args:
        seed: other seeds give others.
        users: ``[users]``.
        items: ``[users, n]``.

    Examples:
        >>> pair = uniform_of_pairs(0, np.array([3]), np.array([[1, 2]]))
        >>> bool((pair == uniform_of_pairs(0, np.array([3]), np.array([[1, 5]])))[0, 0])
        True
    """
    of_user = mix(mix(users.astype(np.uint64) ^ seeded(seed)) ^ _NEVER)
    return _open_interval(mix(of_user[:, None] ^ items.astype(np.uint64)))
