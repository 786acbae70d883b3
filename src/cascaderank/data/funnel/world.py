"""Users and items of a synthetic funnel: attributes, preferences and past likes."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from cascaderank.data.funnel.funnel_settings import CATEGORIES, FunnelSettings
from cascaderank.data.ragged import offsets_of
from cascaderank.errors import ConfigError
from cascaderank.limits import check_fits

START = datetime(2024, 1, 1, tzinfo=UTC)
HISTORY = 20
"""Maximum number of past likes in a request; the latest are kept."""

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_SEGMENTS = 8
_FAVOURITES, _FAVOURITE_SHARE = 4, 0.8
_MOST_LIKES, _DAYS_BEFORE = 60, 30
_MICROSECONDS_PER_DAY = 86_400_000_000
_BYTES = 8  # of a number while it is drawn


@dataclass(frozen=True)
class Past:
    """Past likes of the users of some requests, concatenated; oldest first in each request."""

    items: Integers
    """``[likes]`` liked items."""
    offsets: Integers
    """``[requests + 1]`` index of the first like of each request, and the total at the end."""


@dataclass(frozen=True)
class World:
    """Users, items and likes. Times are microseconds since :data:`START`."""

    segment: Integers
    """``[users]`` segment of each user."""
    sensitivity: Floats
    """``[users]`` price sensitivity; a high price lowers the utility in proportion to it."""
    account_age: Floats
    """``[users]`` age of the account in days; has no influence on the utility."""
    category: Integers
    """``[items]`` category of each item."""
    quality: Floats
    """``[items]`` merit of the item that a feature reveals."""
    appeal: Floats
    """``[items]`` merit of the item that only its id identifies."""
    price: Floats
    """``[items]`` price."""
    type: Integers
    """``[items]`` 0 for an item whose utility is the sum of all parts; t for one whose utility is
    part t alone, from 1."""
    affinity: Floats
    """``[segments, categories]`` standardised preference of each segment for each category."""
    like_items: Integers
    """``[likes]`` liked items of all users, sorted by user and time."""
    like_keys: Integers
    """``[likes]`` user · :attr:`span` + time, ascending."""
    like_offsets: Integers
    """``[users + 1]`` index of the first like of each user, and the total at the end."""
    span: int
    """Upper bound of the times of likes and requests, exclusive."""
    share_deviation: float
    """Standard deviation of the share of a category in a long history."""

    def past(self, user: Integers, time: Integers) -> Past:
        """Return the last :data:`HISTORY` likes of users strictly before a time.

        Args:
            user: ``[requests]`` users.
            time: ``[requests]`` times in microseconds since :data:`START`.
        """
        end = np.searchsorted(self.like_keys, user * self.span + time)
        start = np.maximum(end - HISTORY, self.like_offsets[user])
        offsets = offsets_of(end - start)
        where = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], end - start)
        return Past(items=self.like_items[where], offsets=offsets)

    def cheap_part(self, user: Integers, items: Integers, past: Past) -> Floats:
        """Return the part of the utility that the cheap features determine.

        Args:
            user: ``[requests]`` users.
            items: ``[requests, candidates]`` items.
            past: past likes of the users of these requests.

        Returns:
            ``[requests, candidates]`` values with a standard deviation of about 1.
        """
        # Terms of request and category only are summed before they are gathered by candidate.
        taste = 0.65 * self.affinity[self.segment[user]]
        taste += 0.53 * (self._shares(past) - 1 / CATEGORIES) / self.share_deviation
        log_price = np.log(self.price)
        standardised = (log_price - log_price.mean()) / log_price.std()
        deal = -0.3 * self.sensitivity[user][:, None] * standardised[items]
        merit = 0.35 * self.quality + 0.3 * self.appeal
        rows = np.arange(len(user))[:, None]
        part: Floats = taste.astype(np.float32)[rows, self.category[items]] + merit[items] + deal
        return part

    def _shares(self, past: Past) -> NDArray[np.float64]:
        """Return the share of each category in each history, ``[requests, categories]``."""
        lengths = np.diff(past.offsets)
        cells = np.repeat(np.arange(len(lengths)), lengths) * CATEGORIES + self.category[past.items]
        counts = np.bincount(cells, minlength=len(lengths) * CATEGORIES).reshape(-1, CATEGORIES)
        return counts / np.maximum(lengths, 1)[:, None]


def make_world(settings: FunnelSettings) -> World:
    """Draw users, items and likes; depends on users, items, days and seed of the settings only.

    Raises:
        ConfigError: if users, items or the candidates of a request do not fit into the memory of
            the machine, or users and days together exceed 64 bits.
    """
    span = (settings.days + _DAYS_BEFORE + 1) * _MICROSECONDS_PER_DAY
    if settings.users * span >= 2**63:
        raise ConfigError(
            f"synthetic funnel: users must be at most {(2**63 - 1) // span:,} with "
            f"{settings.days:,} days; got {settings.users:,}; reduce users or days"
        )
    of_user = CATEGORIES * _BYTES * 3 + _MOST_LIKES // 2 * _BYTES * 5
    of_candidate = _BYTES * (3 + settings.stages)
    check_fits(
        float(settings.users * of_user + settings.items * _BYTES * 5)
        + settings.alive[0] * of_candidate,
        f"synthetic funnel: {settings.users:,} users, {settings.items:,} items and requests of "
        f"{settings.alive[0]:,} candidates",
        "reduce users, items, stages, ground_truth or per_level",
    )
    rng = np.random.default_rng([settings.seed, 0])
    users, items = settings.users, settings.items
    affinity = rng.standard_normal((_SEGMENTS, CATEGORIES))
    category = rng.permutation(items) % CATEGORIES  # no category is empty
    favourite = rng.random((users, CATEGORIES)).argsort(axis=1)[:, :_FAVOURITES]

    lengths = rng.integers(0, _MOST_LIKES + 1, users)
    user = np.repeat(np.arange(users), lengths)
    likes = len(user)
    first = -_DAYS_BEFORE * _MICROSECONDS_PER_DAY
    time = rng.integers(first, settings.days * _MICROSECONDS_PER_DAY, likes)
    liked = np.where(
        rng.random(likes) < _FAVOURITE_SHARE,
        favourite[user, rng.integers(0, _FAVOURITES, likes)],
        rng.integers(0, CATEGORIES, likes),
    )
    by_category = category.argsort(kind="stable")
    sizes = np.bincount(category, minlength=CATEGORIES)
    begins = np.cumsum(sizes) - sizes
    like_items = by_category[begins[liked] + rng.integers(0, sizes[liked])]
    keys = user * span + time
    order = keys.argsort(kind="stable")

    taste = np.full((users, CATEGORIES), (1 - _FAVOURITE_SHARE) / CATEGORIES)
    np.put_along_axis(taste, favourite, taste[0, 0] + _FAVOURITE_SHARE / _FAVOURITES, axis=1)
    by_chance = (taste * (1 - taste)).mean() / HISTORY
    return World(
        segment=rng.integers(0, _SEGMENTS, users),
        sensitivity=rng.standard_normal(users, np.float32),
        account_age=rng.exponential(365.0, users).astype(np.float32),
        category=category,
        quality=rng.standard_normal(items, np.float32),
        appeal=rng.standard_normal(items, np.float32),
        type=_types(settings),
        price=np.exp(3.0 + 0.7 * rng.standard_normal(items)).astype(np.float32),
        affinity=((affinity - affinity.mean()) / affinity.std()).astype(np.float32),
        like_items=like_items[order],
        like_keys=keys[order],
        like_offsets=offsets_of(lengths),
        span=span,
        share_deviation=float(np.sqrt(taste.var() + by_chance)),
    )


def _types(settings: FunnelSettings) -> Integers:
    """Draw the types of the items: random ones, and equal numbers of each."""
    types = np.zeros(settings.items, np.int64)
    # A separate random stream, so that types do not change other attributes.
    order = np.random.default_rng([settings.seed, 4]).permutation(settings.items)
    single = order[: round(settings.unevenness * settings.items)]
    types[single] = 1 + np.arange(len(single)) % settings.stages
    return types


def late_part(match: Floats, gap: Floats) -> Floats:
    r"""Return a late part of the utility.

    .. math::
        \sqrt{\tfrac12}\, \text{match} + \tfrac12 (1 - \text{gap}^2)

    Match and gap are independent standard normal variables, so the part has mean 0 and variance 1.
    """
    part: Floats = np.sqrt(np.float32(0.5)) * match + np.float32(0.5) * (1 - gap * gap)
    return part


def timestamps(time: Integers) -> NDArray[np.datetime64]:
    """Convert microseconds since :data:`START` to datetimes in UTC."""
    start = np.datetime64(START.replace(tzinfo=None), "us")
    stamps: NDArray[np.datetime64] = start + time.astype("timedelta64[us]")
    return stamps


def duration(settings: FunnelSettings) -> int:
    """Return the length of the log in microseconds."""
    return int(timedelta(days=settings.days) / timedelta(microseconds=1))
