"""Sampling of static requests of a funnel: random candidates, selected stage by stage.

This module is independent of models: scores and truth are functions of item positions. Random
numbers are hashes of seed, user, request and item, so the sample depends neither on the block size
nor on the order of the users.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from cascaderank.data.encoding.hashing import mix, seeded
from cascaderank.errors import ConfigError, DataError
from cascaderank.limits import LARGEST_FLOAT32

Places = NDArray[np.int64]
"""Positions of items in the catalogue."""
Scorer = Callable[[Places], NDArray[np.float32]]
"""Function from item positions ``[users, n]``, distinct per row, to one score each."""

_CANDIDATES, _NOISE, _EXPLORATION, _NEGATIVES = range(4)  # uses of random numbers
_PURPOSES = 4
_ROWS_PER_BLOCK = 16
_MAX_KEY = np.uint64(2**64 - 1)


@final
@dataclass(frozen=True, kw_only=True)
class FunnelStage:
    """Selection of one stage of the simulated funnel, and logging of the candidates it drops."""

    name: str
    keep: int
    """Number of candidates that the stage keeps."""
    negatives: int
    """Number of dropped candidates that are logged."""
    negatives_from: Literal["bottom", "random"] = "bottom"
    """Selection of the logged dropped candidates: lowest scores, or at random."""
    noise: float = 0.0
    """Standard deviation of normal noise added to every score, independent for each request."""
    exploration: float = 0.0
    """Share of the kept candidates that is sampled at random from those the scores would drop."""


@final
@dataclass(frozen=True, kw_only=True)
class Funnel:
    """A funnel: random candidates, then selection stage by stage.

    Args:
        candidates: number of initial candidates of a request.
        stages: stages, first stage first.
        pool: number of further random items that are logged.
        seed: seed of all random numbers.

    Raises:
        ConfigError: if a stage keeps and logs more candidates than reach it, or a number is out of
            range.

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
        mistakes = [] if self.stages else ["a funnel needs at least one stage; got none"]
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
                    f"stages.{stage.name}: keep + negatives must be at most the {arriving:,} "
                    f"candidates that reach the stage; got {stage.keep:,} + {stage.negatives:,}; "
                    "lower keep or negatives, or increase the candidates"
                )
            if not (0 <= stage.noise <= LARGEST_FLOAT32 and 0 <= stage.exploration < 1):
                mistakes.append(
                    f"stages.{stage.name}: noise must be at least 0, in the range of float32, and "
                    f"exploration in [0, 1); got {stage.noise} and {stage.exploration}"
                )
            arriving = stage.keep
        if mistakes:
            raise ConfigError("; ".join(mistakes))

    @property
    def level_names(self) -> tuple[str, ...]:
        """Level names, lowest first: the levels z of Eq 9 of FS-LTR, from z_0."""
        dropped = (f"{stage.name}_neg" for stage in self.stages)
        return ("pool", *dropped, "exposed", "exposed_pos")

    @property
    def exposed(self) -> int:
        """Number of candidates exposed to the user."""
        return self.stages[-1].keep

    @property
    def list_length(self) -> int:
        """Number of logged candidates per request."""
        return self.pool + sum(s.negatives for s in self.stages) + self.exposed


@final
@dataclass(frozen=True, kw_only=True)
class Requests:
    """Logged candidates of one request for each user of a block; all arrays ``[users, list]``."""

    items: Places
    """Positions of the items in the catalogue."""
    levels: NDArray[np.int8]
    """Index into :attr:`Funnel.level_names`."""
    positions: NDArray[np.int16]
    """Rank within the level by the score of the stage that assigned it, from 1; 0 in the pool."""
    labels: NDArray[np.float32]
    """1 if the user would give positive feedback on exposure, else 0."""
    feedback: NDArray[np.float32]
    """Observed feedback: the label if the item was exposed, else 0."""

    def positives(self) -> NDArray[np.bool_]:
        """Return the mask of exposed items with positive feedback, ``[users, list]``."""
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
    """Sample one request for each user.

    Args:
        funnel: funnel to simulate.
        users: ``[users]``, distinct integer keys of the users; the sample depends on them.
        number: number of the request; different numbers produce different requests.
        pool: ``[users, items]`` bool, ``True`` for items that can be candidates.
        scorers: scorers of the stages, first stage first; higher is better. Ties keep the order of
            the previous stage, and in the first stage the order of the catalogue.
        truth: function from items to labels, 1 for positive feedback, else 0.

    Returns:
        The logged candidates: the pool, the negatives of each stage, then the exposed candidates.

    Raises:
        DataError: if a user has fewer items than the candidates and the pool need.
    """
    random = _PairHash(funnel.seed, users, number)
    alive, outside = _candidates(funnel, pool, random)
    parts: list[tuple[Places, int, bool]] = [(outside, 0, False)]
    for level, (stage, scorer) in enumerate(zip(funnel.stages, scorers, strict=True), 1):
        scores = scorer(alive)
        if stage.noise:
            uniform = random(alive, _NOISE, level)
            scores = scores + stage.noise * ndtri(_open_interval(uniform)).astype(np.float32)
        ranked = np.take_along_axis(alive, _best_first(scores), 1)
        alive, dropped = _cut(stage, ranked, random, level)
        parts.append((_negatives(stage, dropped, random, level), level, True))
    top = len(funnel.stages) + 1
    items = np.concatenate([places for places, _, _ in parts] + [alive], axis=1)
    labels = truth(items)
    shown = labels[:, -funnel.exposed :] > 0
    return Requests(
        items=items,
        levels=np.concatenate(
            [np.full(places.shape, level, np.int8) for places, level, _ in parts]
            + [np.where(shown, top + 1, top).astype(np.int8)],
            axis=1,
        ),
        positions=np.concatenate(
            [
                np.broadcast_to(np.arange(1, places.shape[1] + 1) * has_rank, places.shape).astype(
                    np.int16
                )
                for places, _, has_rank in parts
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
    funnel: Funnel, pool: NDArray[np.bool_], random: "_PairHash"
) -> tuple[Places, Places]:
    """Initial candidates and pool items of each user, each in the order of the catalogue."""
    needed = funnel.candidates + funnel.pool
    fewest = int(pool.sum(1).min()) if pool.size else 0
    if fewest < needed:
        short = int((pool.sum(1) < needed).sum())
        raise DataError(
            f"every user needs at least {needed:,} items ({funnel.candidates:,} candidates and a "
            f"pool of {funnel.pool:,}); {short:,} of {len(pool):,} users have fewer; the "
            f"minimum is {fewest:,}; lower funnel.candidates or funnel.pool"
        )
    chosen = np.empty((len(pool), needed), dtype=np.int64)
    all_items = np.arange(pool.shape[1])[None, :]
    for first in range(0, len(pool), _ROWS_PER_BLOCK):  # blocks fit into the CPU cache
        block = slice(first, first + _ROWS_PER_BLOCK)
        keys = random(all_items, _CANDIDATES, 0, block)
        keys[~pool[block]] = _MAX_KEY
        chosen[block] = _lowest(keys, needed)
    inside, outside = chosen[:, : funnel.candidates], chosen[:, funnel.candidates :]
    return np.sort(inside, axis=1), np.sort(outside, axis=1)


def _cut(
    stage: FunnelStage, ranked: Places, random: "_PairHash", level: int
) -> tuple[Places, Places]:
    """Kept and dropped candidates, each best first."""
    explored = round(stage.exploration * stage.keep)
    kept, rest = np.split(ranked, [stage.keep - explored], axis=1)
    if not explored or rest.shape[1] == explored:
        return ranked[:, : stage.keep], ranked[:, stage.keep :]
    sampled = _sample(rest, explored, random(rest, _EXPLORATION, level))
    users = len(ranked)
    return (
        np.concatenate([kept, rest[sampled].reshape(users, -1)], axis=1),
        rest[~sampled].reshape(users, -1),
    )


def _negatives(stage: FunnelStage, dropped: Places, random: "_PairHash", level: int) -> Places:
    """Dropped candidates that are logged, best first."""
    if stage.negatives_from == "bottom" or stage.negatives == dropped.shape[1]:
        return dropped[:, dropped.shape[1] - stage.negatives :]
    sampled = _sample(dropped, stage.negatives, random(dropped, _NEGATIVES, level))
    return dropped[sampled].reshape(len(dropped), stage.negatives)


def _sample(places: Places, count: int, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Mask of the ``count`` positions of each row with the lowest keys."""
    mask = np.zeros(places.shape, dtype=bool)
    if count:
        np.put_along_axis(mask, _lowest(keys, count), values=True, axis=1)
    return mask


def _lowest(keys: NDArray[np.uint64], count: int) -> Places:
    """Columns of the lowest keys of each row, lowest first.

    The column is stored in the low bits of its key, because sorting values is several times as fast
    as sorting indices.
    """
    bits = np.uint64((keys.shape[1] - 1).bit_length())
    packed = ((keys >> bits) << bits) | np.arange(keys.shape[1], dtype=np.uint64)
    lowest = np.sort(np.partition(packed, count - 1, axis=1)[:, :count], axis=1)
    places: Places = (lowest & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    return places


def _best_first(scores: NDArray[np.float32]) -> Places:
    """Columns of each row, best first; ties in the order of the columns, NaN last."""
    filled = np.where(np.isnan(scores), np.float32(-np.inf), scores).astype(np.float32) + 0.0
    bits = filled.view(np.int32).astype(np.int64)
    ascending = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    packed = np.sort((-ascending << 32) + np.arange(scores.shape[1]), axis=1)
    places: Places = packed & 0xFFFFFFFF
    return places


@final
class _PairHash:
    """Pseudo-random numbers: hashes of user, request, purpose, stage and item."""

    def __init__(self, seed: int, users: Places, number: int) -> None:
        user_keys = mix(users.astype(np.uint64) ^ seeded(seed))
        self._request_keys = mix(user_keys ^ np.uint64(number))

    def __call__(
        self, items: Places, purpose: int, level: int, users: slice = slice(None)
    ) -> NDArray[np.uint64]:
        keys = mix(self._request_keys[users] ^ np.uint64(level * _PURPOSES + purpose))
        return mix(keys[:, None] ^ items.astype(np.uint64))


def _open_interval(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Uniform numbers in (0, 1) from the upper 53 bits of hashes."""
    return ((keys >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def uniform_of_pairs(seed: int, users: Places, items: Places) -> NDArray[np.float64]:
    """Return one uniform number in (0, 1) for each pair, the same in every request.

    Args:
        seed: seed of the hash.
        users: ``[users]``, integer keys of the users.
        items: ``[users, n]``, positions of items.

    Returns:
        ``[users, n]`` float64.

    Examples:
        >>> pair = uniform_of_pairs(0, np.array([3]), np.array([[1, 2]]))
        >>> bool((pair == uniform_of_pairs(0, np.array([3]), np.array([[1, 5]])))[0, 0])
        True
    """
    keys = mix(mix(users.astype(np.uint64) ^ seeded(seed)) ^ _MAX_KEY)
    return _open_interval(mix(keys[:, None] ^ items.astype(np.uint64)))
