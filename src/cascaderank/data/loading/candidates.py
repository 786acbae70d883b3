"""Sampling of training candidates: a number of logged candidates per level, and random items."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, Field, Tag, model_validator

from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.hashing import mix, seeded
from cascaderank.data.item_catalogue import Codes, ItemCatalogue
from cascaderank.data.ragged import flat_places, positions_within
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.settings.base import Count, CountOrZero, Real, Settings

_OfLevel = Annotated[
    Annotated[Count, Tag("number")] | Annotated[Literal["all"], Tag("all")],
    Discriminator(lambda value: "all" if isinstance(value, str) else "number"),
]
_ALL = 2**31  # more candidates than a level of a request can have

SEARCH_METRICS: Final = ("hit_rate", "ndcg", "recall", "precision")
"""Metrics of the search over all items; each is computed at every cut-off."""


class CandidateSettings(Settings):
    """Settings of the training candidates of a request, which are drawn anew in each epoch.

    Examples:
        >>> CandidateSettings(levels={"clicked": 1, "shown": 1}, pool=2).draw
        'uniform'
    """

    levels: dict[str, _OfLevel] | None = Field(
        None,
        description='Number of candidates by level name, or "all"; other levels have none.',
    )
    pool: CountOrZero = Field(0, description="Number of random items from the catalogue.")
    draw: Literal["uniform", "frequency"] = Field(
        "uniform",
        description="Distribution of the random items: uniform, or by their count in training.",
    )


class CatalogueSettings(Settings):
    """Identity of items, and evaluation of the search over all items.

    Examples:
        >>> CatalogueSettings(item="video_id").cutoffs
        (20, 50)
    """

    item: str = Field(description="Categorical item feature that identifies an item.")
    user: str | None = Field(
        None,
        description="Categorical request feature that identifies a user; relevant items of the "
        "user's training requests are left out of the lists.",
    )
    leaves_out: Real | None = Field(
        None,
        description="Items with at least this label in the user's training requests are left out, "
        "such as all exposed items; default: the ground truth of these requests.",
    )
    cutoffs: tuple[Count, ...] = Field(
        (20, 50), min_length=1, description="Cut-offs of the metrics."
    )
    decides: str | None = Field(
        None,
        description='Metric of this search on validation requests, such as "recall@50", that '
        "selects the epoch and the tuned settings; default: joint recall.",
    )

    @model_validator(mode="after")
    def _leaves_out_needs_user(self) -> Self:
        if self.leaves_out is not None and self.user is None:
            raise ValueError("leaves_out needs user, the request feature that identifies a user")
        return self

    @model_validator(mode="after")
    def _decides_is_a_metric(self) -> Self:
        known = [f"{name}@{m}" for name in SEARCH_METRICS for m in self.cutoffs]
        if self.decides is not None and self.decides not in known:
            raise ValueError(
                f"decides must be one of {', '.join(known)}{did_you_mean(self.decides, known)}; "
                f"got '{self.decides}'"
            )
        return self


@final
@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Drawn candidates of some requests, concatenated; logged ones first in each request."""

    lengths: Codes
    """``[requests]`` number of candidates of each request."""
    places: Codes
    """``[candidates]`` index in the columns of the log, or in the catalogue if random."""
    random: NDArray[np.bool_]
    """``[candidates]`` mask, ``True`` for a candidate drawn from the catalogue."""
    log_q: NDArray[np.float32] | None
    """``[candidates]`` log-probability of the item in one random draw; ``None`` without draws."""


@final
class CandidateSampler:
    """Draw training candidates, as a function of seed, epoch and request only.

    A level with fewer candidates than its setting contributes all of them. Random items are drawn
    with replacement. A drawn item that is a logged candidate of the same request is discarded,
    because the log already has its label. With ``draw="frequency"``, the probability of an item is
    proportional to one plus its number of occurrences as a candidate of the training requests.

    Args:
        log: the encoded requests.
        settings: numbers of candidates to draw.
        level_names: names of the levels of the log, lowest first.
        catalogue: items to draw from; needed if ``settings.pool`` is above 0.
        seed: seed of all draws.

    Raises:
        ConfigError: if a level does not exist, or if random items are set without a catalogue.
        DataError: if levels are set and the log has no levels.
    """

    def __init__(
        self,
        log: EncodedLog,
        settings: CandidateSettings,
        *,
        level_names: tuple[str, ...] = (),
        catalogue: ItemCatalogue | None = None,
        seed: int = 0,
    ) -> None:
        if settings.pool and catalogue is None:
            raise ConfigError(
                f"train.candidates.pool = {settings.pool} draws random items and needs the feature "
                "that identifies them; set catalogue.item"
            )
        self._counts = _counts(settings.levels, level_names, log)
        self._log, self._seed, self.pool = log, seed, settings.pool
        self.catalogue = catalogue if settings.pool else None
        if self.catalogue is not None:
            uniform = settings.draw == "uniform"
            weights = np.ones(len(self.catalogue)) if uniform else self.catalogue.counts + 1.0
            self._cumulative = np.cumsum(weights / weights.sum())
            log_q = np.log(weights / weights.sum()).astype(np.float32)
            # The last entry (index -1) is for items outside the catalogue: the lowest of all.
            self._log_q = np.append(log_q, log_q.min())
            self._codes = np.asarray(log.items[self.catalogue.item])

    def draw(self, rows: Codes, epoch: int) -> Drawn:
        """Draw the candidates of some requests.

        Args:
            rows: ``[requests]`` row numbers of the requests in the log.
            epoch: number of the epoch, from 0; each epoch has other candidates.
        """
        logged = flat_places(self._log.offsets, rows)
        lengths = self._log.offsets[rows + 1] - self._log.offsets[rows]
        keys = mix(mix(rows.view(np.uint64) ^ seeded(self._seed)) ^ seeded(epoch))
        owner = np.repeat(np.arange(len(rows)), lengths)
        kept = self._kept(logged, owner, keys[owner], positions_within(lengths))
        places, request, random = logged[kept], owner[kept], np.zeros(len(kept), dtype=bool)
        if self.catalogue is not None:
            drawn, drawn_for = self._drawn(self.catalogue, keys, owner, self._codes[logged])
            places = np.concatenate([places, drawn])
            request = np.concatenate([request, drawn_for])
            random = np.concatenate([random, np.ones(len(drawn), dtype=bool)])
            order = np.argsort(request, kind="stable")
            places, request, random = places[order], request[order], random[order]
        return Drawn(
            lengths=np.bincount(request, minlength=len(rows)).astype(np.int64),
            places=places,
            random=random,
            log_q=self._log_probabilities(places, random),
        )

    def _kept(
        self, logged: Codes, owner: Codes, keys: NDArray[np.uint64], within: Codes
    ) -> NDArray[np.intp]:
        """Return indices of the drawn logged candidates: the first in random order, per level."""
        if self._counts is None or self._log.levels is None:
            return np.arange(len(logged))
        level = np.asarray(self._log.levels)[logged].astype(np.int64)
        # Two stable sorts by one number each: ten times as fast as a sort by three keys.
        random = mix(keys ^ within.view(np.uint64)) >> np.uint64(7)
        order = np.argsort(level.view(np.uint64) << np.uint64(57) | random, kind="stable")
        order = order[np.argsort(owner[order], kind="stable")]
        _, sizes = np.unique((owner * 128 + level)[order], return_counts=True)
        first = order[positions_within(sizes) < self._counts[level[order]]]
        return np.sort(first)

    def _drawn(
        self, catalogue: ItemCatalogue, keys: NDArray[np.uint64], owner: Codes, logged: Codes
    ) -> tuple[Codes, Codes]:
        """Return the catalogue index of each drawn item, and the request it is drawn for."""
        request = np.repeat(np.arange(len(keys)), self.pool)
        draw = np.tile(np.arange(self.pool, dtype=np.uint64), len(keys)) + np.uint64(2**32)
        uniform = (mix(keys[request] ^ draw) >> np.uint64(11)) / 2.0**53
        places = np.minimum(
            np.searchsorted(self._cumulative, uniform, side="right"), len(catalogue) - 1
        )
        size = len(catalogue)
        logged_places = catalogue.places(logged)
        listed = logged_places >= 0
        logged_pairs = np.sort(owner[listed] * size + logged_places[listed])
        drawn_pairs = request * size + places
        # Search for the few drawn items: faster than `isin`, which hashes the many logged ones.
        at = np.searchsorted(logged_pairs, drawn_pairs)
        new = np.append(logged_pairs, -1)[at] != drawn_pairs
        return places[new], request[new]

    def _log_probabilities(
        self, places: Codes, random: NDArray[np.bool_]
    ) -> NDArray[np.float32] | None:
        if self.catalogue is None:
            return None
        item_places = places.copy()
        item_places[~random] = self.catalogue.places(self._codes[places[~random]])
        log_q: NDArray[np.float32] = self._log_q[item_places]
        return log_q


def _counts(
    levels: Mapping[str, int | Literal["all"]] | None, names: tuple[str, ...], log: EncodedLog
) -> NDArray[Any] | None:
    if levels is None:
        return None
    if log.levels is None or not names:
        raise DataError(
            "train.candidates.levels needs a log with levels; found none; prepare the log with "
            "levels, or remove the setting"
        )
    counts = np.zeros(128, dtype=np.int64)
    for name, count in levels.items():
        if name not in names:
            raise ConfigError(
                f"train.candidates.levels: no level called '{name}'{did_you_mean(name, names)}; "
                f"there are {', '.join(names)}"
            )
        counts[names.index(name)] = _ALL if count == "all" else count
    return counts
