"""Requests of a synthetic funnel, and the logging of their candidates."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from cascaderank.data.funnel.features import estimate_feature, late_features
from cascaderank.data.funnel.funnel_settings import FunnelSettings
from cascaderank.data.funnel.world import (
    Floats,
    Integers,
    Past,
    World,
    duration,
    late_part,
    timestamps,
)
from cascaderank.data.ragged import offsets_of

CHEAP_DEVIATION = 0.6
"""Standard deviation of the first part of the utility; the other parts have 1."""

Values = NDArray[Any]

_POOL_ROWS = 200_000
_HOUR, _DAY = 3_600_000_000, 86_400_000_000
_PRIOR_ROWS = 4096


@dataclass(frozen=True)
class Choice:
    """Logged candidates of some requests, highest level first.

    Inside a level with known positions, the best candidates come first; inside other levels the
    order is random.
    """

    columns: Integers
    """``[requests, list]`` index of each logged candidate among all candidates of its request."""
    levels: NDArray[np.int8]
    """``[requests, list]`` funnel levels, 0 lowest."""
    positions: NDArray[np.int16]
    """``[requests, list]`` positions inside the level, from 1; 0 is unknown."""
    mask: NDArray[np.bool_]
    """``[requests, list]`` mask, ``True`` for a real candidate."""
    cuts: Floats
    """``[logging stages, requests]`` cut-off of each stage: the mean of the lowest score that it
    kept and the highest score that it dropped."""
    rates: Floats
    """``[logging stages, requests]`` fraction of the dropped candidates that is logged."""


@dataclass(frozen=True)
class Block:
    """Some requests with their logged candidates and the latent variables behind them."""

    user: Integers
    """``[requests]`` users."""
    time: Integers
    """``[requests]`` times in microseconds since the start of the log."""
    past: Past
    """Past likes of the users."""
    items: Integers
    """``[requests, list]`` logged items."""
    late: dict[str, Floats]
    """``[requests, list]`` late features of the logged candidates, by name."""
    factors: Floats
    """``[parts, requests, list]`` factors of the parts, which depend on the type of the item."""
    parts: Floats
    """``[parts, requests, list]`` parts of the utility of the logged candidates, multiplied by
    their factors."""
    estimates: dict[int, Floats]
    """``[requests, list]`` estimates of parts before the factors, by part from 0; see
    :func:`estimate`."""
    prior: Floats
    """``[parts, values]`` samples of each part before the factors and any logging stage,
    ascending."""
    choice: Choice
    """Levels and positions of the logged candidates."""


def block_size(settings: FunnelSettings) -> int:
    """Return the number of requests in a block, which bounds the memory for drawing it."""
    return max(1, _POOL_ROWS // settings.alive[0])


def draw_block(settings: FunnelSettings, world: World, number: int) -> Block:
    """Draw some requests and pass their candidates through the logging system.

    Args:
        settings: settings of the funnel.
        world: users and items drawn with these settings.
        number: number of the block, from 0; blocks are consecutive in time. A block depends only
            on the settings and its number, so blocks can be drawn in any order.
    """
    rng = np.random.default_rng([settings.seed, 1, number])
    first = number * block_size(settings)
    rows = np.arange(first, min(first + block_size(settings), settings.requests))
    time = ((rows + rng.random(len(rows))) / settings.requests * duration(settings)).astype(int)
    user = rng.integers(0, settings.users, len(rows))
    past = world.past(user, time)

    pool = _distinct(rng, (len(rows), settings.alive[0]), settings.items)
    parts = np.empty((settings.stages, *pool.shape), np.float32)
    parts[0] = CHEAP_DEVIATION * world.cheap_part(user, pool, past)
    late: dict[str, Floats] = {}
    for part in range(1, settings.stages):
        match, gap = (rng.standard_normal(pool.shape, np.float32) for _ in range(2))
        late.update(zip(late_features(part), (match, gap), strict=True))
        parts[part] = late_part(match, gap)

    factors = part_factors(settings)[:, world.type[pool]]
    choice = run_logging(settings, rng, parts * factors)
    logged, factors = (
        np.take_along_axis(x, choice.columns[None], axis=2) for x in (parts, factors)
    )
    # A separate random stream, so that estimates do not change the logged candidates.
    rng = np.random.default_rng([settings.seed, 2, number])
    estimates = {
        part: estimate(rng, logged[part] / deviation(part), share)
        for part, share in settings.estimates.items()
    }
    return Block(
        user=user,
        time=time,
        past=past,
        items=np.take_along_axis(pool, choice.columns, axis=1),
        late={k: np.take_along_axis(v, choice.columns, axis=1) for k, v in late.items()}
        | {estimate_feature(part): values for part, values in estimates.items()},
        factors=factors,
        parts=logged * factors,
        estimates=estimates,
        prior=np.sort(parts.reshape(settings.stages, -1)[:, :_PRIOR_ROWS], axis=1),
        choice=choice,
    )


def deviation(part: int) -> float:
    """Return the approximate standard deviation of a part of the utility; parts from 0."""
    return 1.0 if part else CHEAP_DEVIATION


def part_factors(settings: FunnelSettings) -> Floats:
    """Return the factor of each part for each type of items, ``[parts, types]``."""
    total = sum(deviation(part) ** 2 for part in range(settings.stages)) ** 0.5
    single = np.diag([total / deviation(part) for part in range(settings.stages)])
    return np.concatenate([np.ones((settings.stages, 1)), single], 1).astype(np.float32)


def estimate(rng: np.random.Generator, values: Floats, share: float) -> Floats:
    r"""Return noisy estimates that explain a fraction of the variance of some values.

    .. math::
        \sqrt{\text{share}}\, x + \sqrt{1 - \text{share}}\, \varepsilon,
        \qquad \varepsilon \sim \mathcal N(0, 1)

    Estimates have variance 1, like the values.

    Args:
        rng: generator of the noise.
        values: values with variance 1.
        share: fraction of the variance, in (0, 1).
    """
    noise = rng.standard_normal(values.shape, np.float32)
    mixed: Floats = np.float32(share**0.5) * values + np.float32((1 - share) ** 0.5) * noise
    return mixed


def run_logging(settings: FunnelSettings, rng: np.random.Generator, parts: Floats) -> Choice:
    """Pass candidates through all logging stages and log a sample of every level.

    Args:
        settings: settings of the funnel.
        rng: generator of the noise of the stages and of the sample of logged candidates.
        parts: ``[parts, requests, candidates]`` parts of the utility.
    """
    requests, candidates = parts.shape[1:]
    alive = np.broadcast_to(np.arange(candidates), (requests, candidates))
    columns, positions, masks, cuts, rates = [], [], [], [], []
    scores = parts[0]
    for level, (ranked_by, keep) in enumerate(
        zip(settings.logging_parts, settings.alive[1:], strict=True)
    ):
        utility = np.take_along_axis(parts[list(ranked_by)].sum(0), alive, axis=1)
        scores = utility + settings.noise_scale * _logistic(rng, utility.shape)
        order = np.argpartition(-scores, (keep - 1, keep), axis=1)
        edge = np.take_along_axis(scores, order[:, keep - 1 : keep + 1], axis=1)
        cuts.append(edge.mean(1))
        order, dropped = order[:, :keep], order[:, keep:]

        random_order = rng.random(dropped.shape, np.float32).argsort(axis=1)
        width = settings.per_level if settings.chain is None else dropped.shape[1]
        logged = np.take_along_axis(dropped, random_order[:, :width], axis=1)
        fewest = 1 if settings.ragged else width
        count = rng.integers(fewest, width + 1, size=(requests, 1))
        mask = np.arange(width) < count
        rates.append((count[:, 0] / dropped.shape[1]).astype(np.float32))
        if level >= 2:
            logged = _best_first(logged, np.where(mask, _at(scores, logged), -np.inf))
        columns.append(_at(alive, logged))
        positions.append(_positions(mask, known=level >= 2))
        masks.append(mask)
        scores, alive = _at(scores, order), _at(alive, order)

    best = np.broadcast_to(np.arange(settings.ground_truth), alive.shape)
    columns.append(_at(alive, _best_first(best, scores)))
    masks.append(np.ones(alive.shape, np.bool_))
    positions.append(_positions(masks[-1], known=True))
    levels = [np.full(c.shape, level, np.int8) for level, c in enumerate(columns)]
    return Choice(
        columns=np.concatenate(columns[::-1], axis=1),
        levels=np.concatenate(levels[::-1], axis=1),
        positions=np.concatenate(positions[::-1], axis=1),
        mask=np.concatenate(masks[::-1], axis=1),
        cuts=np.stack(cuts),
        rates=np.stack(rates),
    )


def block_frame(world: World, block: Block, first: int, *, uneven: bool) -> pl.DataFrame:
    """Return a block as rows of a request log; request ids count from ``first``.

    With ``uneven``, the types of the items are a feature.
    """
    mask = block.choice.mask
    offsets = offsets_of(mask.sum(1))
    items = block.items[mask]
    late = {name: values[mask] for name, values in block.late.items()}
    candidates: dict[str, Values] = {
        "item_id": items.astype(np.int32),
        "category": world.category[items].astype(np.int16),
        "quality": world.quality[items],
        "price": world.price[items],
        **({"type": world.type[items].astype(np.int16)} if uneven else {}),
        **late,
        "level": block.choice.levels[mask],
        "position": block.choice.positions[mask],
    }
    past: dict[str, Values] = {
        "history_item": block.past.items.astype(np.int32),
        "history_category": world.category[block.past.items].astype(np.int16),
    }
    return pl.DataFrame(
        {
            "request_id": np.arange(first, first + len(block.user)),
            "timestamp": pl.Series(timestamps(block.time)).dt.replace_time_zone("UTC"),
            "user_id": block.user.astype(np.int32),
            "segment": world.segment[block.user].astype(np.int16),
            "hour": (block.time // _HOUR % 24).astype(np.int16),
            "weekday": (block.time // _DAY % 7).astype(np.int16),
            "sensitivity": world.sensitivity[block.user],
            "account_age": world.account_age[block.user],
            **{name: lists(values, offsets) for name, values in candidates.items()},
            **{name: lists(values, block.past.offsets) for name, values in past.items()},
        }
    )


def _distinct(rng: np.random.Generator, shape: tuple[int, int], size: int) -> Integers:
    """Return rows of distinct numbers below ``size``: arithmetic sequences modulo ``size``.

    Start and step are random, and the step is coprime to ``size``. Items have independent
    attributes, so the even spacing of their numbers carries no information.
    """
    steps = np.arange(1, size + 1)
    steps = steps[np.gcd(steps, size) == 1]
    start = rng.integers(0, size, (shape[0], 1))
    step = rng.choice(steps, (shape[0], 1))
    return np.remainder(start + step * np.arange(shape[1]), size)


def _logistic(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Return standard logistic noise: the probability to exceed x is 1 / (1 + exp(x))."""
    uniform = rng.random(shape, np.float32)
    np.clip(uniform, 2.0**-26, 1 - 2.0**-24, out=uniform)
    noise: Floats = np.log(uniform / (1 - uniform))
    return noise


def _at(values: Values, where: Integers) -> Values:
    return np.take_along_axis(values, where, axis=1)


def _best_first(where: Integers, scores: Values) -> Integers:
    return _at(where, (-scores).argsort(axis=1, kind="stable"))


def _positions(mask: NDArray[np.bool_], *, known: bool) -> NDArray[np.int16]:
    ranks = np.arange(1, mask.shape[1] + 1) if known else 0
    return np.where(mask, ranks, 0).astype(np.int16)


def lists(values: Values, offsets: Integers) -> pl.Series:
    """Return a column of lists; list ``i`` has the values ``offsets[i]`` to ``offsets[i + 1]``."""
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values)))
