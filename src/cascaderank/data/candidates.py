"""Which candidates a request is trained on: so many of each level, and random items."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from cascaderank.data.columns import EncodedLog
from cascaderank.data.hashing import mix, seeded
from cascaderank.data.item_catalogue import Codes, ItemCatalogue, flat_places
from cascaderank.data.ragged import positions_within
from cascaderank.errors import ConfigError, DataError, did_you_mean

_ALL = 2**31

SEARCH_METRICS: Final = ("hit_rate", "ndcg", "recall", "precision")
"""What a search of all items is judged by, each at every cut-off."""


class CandidateSettings(BaseModel):
    """What of a request is trained on, drawn anew in each epoch.

    Examples:
        >>> CandidateSettings(levels={"clicked": 1, "shown": 1}, pool=2).draw
        'uniform'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: dict[str, PositiveInt | Literal["all"]] | None = Field(
        None,
        description="How many of each level, by its name; others take no part.",
    )
    pool: int = Field(0, ge=0, description="Items drawn at random from the catalogue.")
    draw: Literal["uniform", "frequency"] = Field(
        "uniform", description="Evenly, or as often as they are candidates in training."
    )


class CatalogueSettings(BaseModel):
    """What tells items apart, and how the search of all of them is judged.

    Examples:
        >>> CatalogueSettings(item="video_id").cutoffs
        (20, 50)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    item: str = Field(description="Category of the candidates, such as the id of the item.")
    user: str | None = Field(
        None, description="Category of the request: what its user liked in training is left out."
    )
    leaves_out: float | None = Field(
        None,
        description="Items of at least this label in training requests of the user are left out of "
        "the lists, such as all that was exposed; not given, what was ground truth.",
    )
    cutoffs: tuple[PositiveInt, ...] = Field(
        (20, 50), min_length=1, description="Lengths of the lists that are judged."
    )
    decides: str | None = Field(
        None,
        description='Metric of this search, such as "recall@50", that decides on validation '
        "requests which epoch is kept and what is tuned; joint recall if not given.",
    )

    @model_validator(mode="after")
    def _left_out_are_items_of_a_user(self) -> Self:
        if self.leaves_out is not None and self.user is None:
            raise ValueError("leaves_out needs user: the feature of requests that names the user")
        return self

    @model_validator(mode="after")
    def _what_decides_is_measured(self) -> Self:
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
    """Candidates of some requests, one after another: logged ones, then random ones."""

    lengths: Codes
    """``[requests]``."""
    places: Codes
    """``[candidates]``: in the columns of the log, or in the catalogue."""
    random: NDArray[np.bool_]
    """``[candidates]``: ``True`` for one from the catalogue."""
    log_q: NDArray[np.float32] | None
    """``[candidates]``: logarithm of the chance by which a random candidate would be it."""


@final
class CandidateSampler:
    """Draws the candidates of requests, as a function of seed, epoch and request alone.

    Of a level with fewer candidates than are asked for, all are taken. Random items are drawn
    with replacement; one that is a candidate of the request anyway is left out, since the log
    says more about it than that it was drawn. By frequency, the chance of an item is in
    proportion to one more than the times it was a candidate in training.

    Args:
        log: the encoded requests.
        settings: what to draw.
        level_names: of the log, lowest first.
        catalogue: what random items are drawn from.
        seed: of all draws.

    Raises:
        ConfigError: if a level is unknown, or random items are wanted and there is no catalogue.
        DataError: if levels are wanted and the log has none.
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
                f"train.candidates.pool = {settings.pool} draws random items, and nothing says "
                "what tells items apart; name the feature in catalogue.item"
            )
        self._counts = _counts(settings.levels, level_names, log)
        self._log, self._seed, self.pool = log, seed, settings.pool
        self.catalogue = catalogue if settings.pool else None
        if self.catalogue is not None:
            even = settings.draw == "uniform"
            weights = np.ones(len(self.catalogue)) if even else self.catalogue.counts + 1.0
            self._cumulative = np.cumsum(weights / weights.sum())
            log_q = np.log(weights / weights.sum()).astype(np.float32)
            # At the end, where place -1 looks: an item that cannot be drawn counts as the rarest.
            self._log_q = np.append(log_q, log_q.min())
            self._codes = np.asarray(log.items[self.catalogue.item])

    def draw(self, rows: Codes, epoch: int) -> Drawn:
        """Draw the candidates of some requests.

        Args:
            rows: of the requests in the log, ``[requests]``.
            epoch: counted from 0; each draws anew.
        """
        logged = flat_places(self._log.offsets, rows)
        lengths = self._log.offsets[rows + 1] - self._log.offsets[rows]
        keys = mix(mix(rows.view(np.uint64) ^ seeded(self._seed)) ^ seeded(epoch))
        owner = np.repeat(np.arange(len(rows)), lengths)
        kept = self._kept(logged, owner, keys[owner], positions_within(lengths))
        places, whose, random = logged[kept], owner[kept], np.zeros(len(kept), dtype=bool)
        if self.catalogue is not None:
            drawn, of = self._drawn(self.catalogue, keys, owner, self._codes[logged])
            places, whose = np.concatenate([places, drawn]), np.concatenate([whose, of])
            random = np.concatenate([random, np.ones(len(drawn), dtype=bool)])
            order = np.argsort(whose, kind="stable")
            places, whose, random = places[order], whose[order], random[order]
        return Drawn(
            lengths=np.bincount(whose, minlength=len(rows)).astype(np.int64),
            places=places,
            random=random,
            log_q=self._chances(places, random),
        )

    def _kept(
        self, logged: Codes, owner: Codes, keys: NDArray[np.uint64], within: Codes
    ) -> NDArray[np.intp]:
        """Which of the logged candidates are drawn: those first by chance in their level."""
        if self._counts is None or self._log.levels is None:
            return np.arange(len(logged))
        level = np.asarray(self._log.levels)[logged].astype(np.int64)
        # A number for each, and requests in order: ten times as fast as sorting by three keys.
        chance = mix(keys ^ within.view(np.uint64)) >> np.uint64(7)
        order = np.argsort(level.view(np.uint64) << np.uint64(57) | chance, kind="stable")
        order = order[np.argsort(owner[order], kind="stable")]
        _, sizes = np.unique((owner * 128 + level)[order], return_counts=True)
        first = order[positions_within(sizes) < self._counts[level[order]]]
        return np.sort(first)

    def _drawn(
        self, catalogue: ItemCatalogue, keys: NDArray[np.uint64], owner: Codes, logged: Codes
    ) -> tuple[Codes, Codes]:
        """Places in the catalogue of what is drawn, and whose it is."""
        whose = np.repeat(np.arange(len(keys)), self.pool)
        turn = np.tile(np.arange(self.pool, dtype=np.uint64), len(keys)) + np.uint64(2**32)
        chance = (mix(keys[whose] ^ turn) >> np.uint64(11)) / 2.0**53
        places = np.minimum(
            np.searchsorted(self._cumulative, chance, side="right"), len(catalogue) - 1
        )
        size = len(catalogue)
        own = catalogue.places(logged)
        there = own >= 0
        known = np.sort(owner[there] * size + own[there])
        drawn = whose * size + places
        # Few are drawn and many were logged, so the few are looked up: `isin` hashes the many.
        at = np.searchsorted(known, drawn)
        new = np.append(known, -1)[at] != drawn
        return places[new], whose[new]

    def _chances(self, places: Codes, random: NDArray[np.bool_]) -> NDArray[np.float32] | None:
        if self.catalogue is None:
            return None
        of_item = places.copy()
        of_item[~random] = self.catalogue.places(self._codes[places[~random]])
        chances: NDArray[np.float32] = self._log_q[of_item]
        return chances


def _counts(
    levels: Mapping[str, int | Literal["all"]] | None, names: tuple[str, ...], log: EncodedLog
) -> NDArray[Any] | None:
    if levels is None:
        return None
    if log.levels is None or not names:
        raise DataError(
            "train.candidates.levels says how many of each level, and the log has no levels"
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
