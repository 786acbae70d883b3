"""Users and items of a request log: who asks, and what there is to be shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.hashing import hashed, mix, seeded
from cascaderank.data.labels import labels_of, needs
from cascaderank.data.ragged import flattened, lengths_of
from cascaderank.data.request_log import RequestLog
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.schema import Kind, Role, Schema, abridged

Places = NDArray[np.int64]


@final
@dataclass(frozen=True, kw_only=True)
class Population:
    """Users as they were when they last asked, and all items."""

    schema: Schema
    """Features of users, their histories and items."""
    user: str
    item: str
    users: pl.DataFrame
    """One row each, in an order of its own: features of the request and histories."""
    items: pl.DataFrame
    """One row each."""

    def drawn(self, count: int | None, seed: int) -> "Population":
        """Return some of the users, by chance.

        Raises:
            ConfigError: if there are not so many.
        """
        if count is None:
            return self
        if count > self.users.height:
            raise ConfigError(
                f"funnel.users is {count:,}, and there are {self.users.height:,} users to draw "
                "from; lower it, or leave it out for all"
            )
        keys = mix(hashed(self.users[self.user]) ^ seeded(seed))
        return self.of(np.sort(keys.argsort(kind="stable")[:count]))

    def of(self, rows: Places) -> "Population":
        """Return some of the users."""
        return Population(
            schema=self.schema,
            user=self.user,
            item=self.item,
            users=self.users[rows],
            items=self.items,
        )

    def places(self, values: pl.Series) -> Places:
        """Return where items are in the catalogue; -1 for those that are not."""
        known = self.items.select(pl.col(self.item).alias("value")).with_row_index("place")
        found = (
            values.rename("value")
            .to_frame()
            .join(known, on="value", how="left", maintain_order="left")
        )
        return found["place"].cast(pl.Int64).fill_null(-1).to_numpy()

    def unseen(self) -> NDArray[np.bool_]:
        """Return what is in no history of each user, ``[users, items]``.

        A history tells a model what the user did with its items: none of them is a candidate.
        """
        unseen = np.ones((self.users.height, self.items.height), dtype=bool)
        vocabulary = self.schema[self.item].vocabulary
        for feature in self.schema.of(Role.HISTORY, Kind.CATEGORICAL):
            if feature.vocabulary == vocabulary:
                lists = self.users[feature.name]
                user = np.repeat(np.arange(len(lists)), lengths_of(lists))
                place = self.places(flattened(lists))
                unseen[user[place >= 0], place[place >= 0]] = False
        return unseen


def read_population(
    log: RequestLog, rows: Places, *, user: str, item: str, features: Sequence[str] = ("*",)
) -> Population:
    """Read users and items of a log.

    Args:
        log: the data set.
        rows: requests that tell about users, such as those that teachers learn from; of each user
            the latest one counts.
        user: categorical feature of the request that names the user.
        item: categorical feature of the candidate that names the item.
        features: names or shell patterns of the features to keep; ``user`` and ``item`` are kept.

    Raises:
        ConfigError: if ``user`` or ``item`` is no such feature, or a feature of candidates tells
            about more than the item.
        SchemaError: if a pattern of ``features`` matches none.
    """
    _check_name(log.schema, user, Role.REQUEST, "user")
    _check_name(log.schema, item, Role.ITEM, "item")
    chosen = {f.name for f in log.schema.select(features)} | {user, item}
    kept = [f for f in log.schema.features if f.name in chosen]
    of_users = [f.name for f in kept if f.role is not Role.ITEM]
    of_items = [f.name for f in kept if f.role is Role.ITEM]
    return Population(
        schema=Schema(features=tuple(kept)),
        user=user,
        item=item,
        users=_users(log, rows, user, of_users),
        items=_items(log, item, of_items),
    )


def _check_name(schema: Schema, name: str, role: Role, what: str) -> None:
    if name not in schema.names:
        raise ConfigError(
            f"data.{what}: no feature '{name}'{did_you_mean(name, schema.names)}; there are "
            f"{abridged(schema.names)}"
        )
    feature = schema[name]
    if feature.role is not role or feature.kind is not Kind.CATEGORICAL:
        raise ConfigError(
            f"data.{what} must be a categorical feature of the {role}; '{feature.name}' is a "
            f"{feature.kind} one of the {feature.role}"
        )


def _users(log: RequestLog, rows: Places, user: str, names: list[str]) -> pl.DataFrame:
    timed = "timestamp" in log.manifest.columns
    columns = [*names, *(["timestamp"] if timed else [])]
    latest: pl.DataFrame | None = None
    for frame in log.frames(columns, rows=rows):
        named = frame.filter(pl.col(user).is_not_null())
        together = named if latest is None else pl.concat([latest, named])
        if timed:
            together = together.sort("timestamp", maintain_order=True)
        latest = together.unique(user, keep="last", maintain_order=True)
    if latest is None or not latest.height:
        raise DataError(f"{log.path}: no training request names a user; is data.user right?")
    return latest.select(names).sort(user)


def _items(log: RequestLog, item: str, names: list[str]) -> pl.DataFrame:
    items = log.catalogue()
    if items is None:
        found = [
            frame.select(pl.col(n).explode() for n in names).unique() for frame in log.frames(names)
        ]
        items = pl.concat(found).unique().filter(pl.col(item).is_not_null())
    absent = [n for n in names if n not in items.columns]
    items = items.select(n for n in names if n in items.columns).unique().sort(item)
    twice = items.filter(pl.col(item).is_duplicated())
    values = twice.group_by(item).agg(pl.col(n).n_unique() for n in items.columns if n != item)
    several = [n for n in values.columns if n != item and (values[n] > 1).any()]
    if several or absent:
        wrong = [*several, *absent]
        without = ", ".join(f'"!{n}"' for n in wrong)
        raise ConfigError(
            f"{log.path}: {abridged(wrong)} tells about more than the item, so a simulation does "
            f'not know it of another request; say data.features = ["*", {without}]'
        )
    return items


def observed_truth(
    population: Population, paths: Sequence[Path], *, target: str, threshold: float
) -> tuple[Population, NDArray[np.int8]]:
    """Read what users were seen to do with items.

    Args:
        population: users and items.
        paths: request logs that name both as the population does.
        target: what the labels are, see :mod:`cascaderank.data.labels`.
        threshold: labels of at least this are positive.

    Returns:
        The users of the first log that the population has, and ``[users, items]``: 1 positive, 0
        not, -1 where nothing was seen. What was seen several times is positive if it once was.

    Raises:
        DataError: if no user of the first log is in the population.
    """
    seen: NDArray[np.int8] | None = None
    for path in paths:
        log = RequestLog.open(path)
        wanted = needs(target, log.manifest.columns, where=str(path))
        for name in (population.user, population.item):
            log.schema[name]  # tells which there are
        frames = [
            _pairs(frame, population, wanted, target, threshold)
            for frame in log.frames([population.user, population.item, *wanted])
        ]
        pairs = pl.concat(frames)
        if seen is None:
            there = population.users[population.user].is_in(pairs["user"].unique().implode())
            population = population.of(np.flatnonzero(there.to_numpy()))
            if not population.users.height:
                raise DataError(
                    f"{path}: none of its users is among those that the teachers know; is it of "
                    "the same data set?"
                )
            seen = np.full((population.users.height, population.items.height), -1, np.int8)
        rows = population.users.select(pl.col(population.user).alias("user")).with_row_index("row")
        pairs = pairs.join(rows, on="user", how="inner", maintain_order="left")
        place = population.places(pairs["item"])
        inside = place >= 0
        at = pairs["row"].to_numpy()[inside], place[inside]
        np.maximum.at(seen, at, pairs["positive"].cast(pl.Int8).to_numpy()[inside])
    if seen is None:
        raise ConfigError("observed truth needs at least one log; got none")
    return population, seen


def _pairs(
    frame: pl.DataFrame,
    population: Population,
    wanted: Sequence[str],
    target: str,
    threshold: float,
) -> pl.DataFrame:
    lengths = lengths_of(frame[population.item])
    labels = labels_of(target, {c: flattened(frame[c]).to_numpy() for c in wanted})
    return pl.DataFrame(
        {
            "user": frame[population.user].gather(np.repeat(np.arange(frame.height), lengths)),
            "item": flattened(frame[population.item]),
            "positive": labels >= threshold,
        }
    )
