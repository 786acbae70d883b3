"""Users and items of a request log."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.encoding.hashing import hashed, mix, seeded
from cascaderank.data.labels import labels_of, needs
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.ragged import flattened, lengths_of
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.limits import check_fits
from cascaderank.schema import Kind, Role, Schema, abridged

Places = NDArray[np.int64]


@final
@dataclass(frozen=True, kw_only=True)
class Population:
    """Users, with the features of their latest request, and all items."""

    schema: Schema
    """Features of users, their histories and items."""
    user: str
    """Name of the feature that identifies the user."""
    item: str
    """Name of the feature that identifies the item."""
    users: pl.DataFrame
    """One row per user, sorted by user: request features and histories."""
    items: pl.DataFrame
    """One row per item, sorted by item: item features."""

    def sample(self, count: int | None, seed: int) -> "Population":
        """Return a population with a random sample of the users.

        Args:
            count: number of users; ``None`` for all.
            seed: seed of the sample, which does not depend on the order of the users.

        Raises:
            ConfigError: if ``count`` exceeds the number of users.
        """
        if count is None:
            return self
        if count > self.users.height:
            raise ConfigError(
                f"funnel.users must be at most the number of users, {self.users.height:,}; got "
                f"{count:,}; lower it, or omit it to use all users"
            )
        keys = mix(hashed(self.users[self.user]) ^ seeded(seed))
        return self.of(np.sort(keys.argsort(kind="stable")[:count]))

    def of(self, rows: Places) -> "Population":
        """Return a population with the users at ``rows``."""
        return Population(
            schema=self.schema,
            user=self.user,
            item=self.item,
            users=self.users[rows],
            items=self.items,
        )

    def places(self, values: pl.Series) -> Places:
        """Return the positions of items in the catalogue; -1 for unknown items."""
        known = self.items.select(pl.col(self.item).alias("value")).with_row_index("place")
        found = (
            values.rename("value")
            .to_frame()
            .join(known, on="value", how="left", maintain_order="left")
        )
        return found["place"].cast(pl.Int64).fill_null(-1).to_numpy()

    def unseen(self) -> NDArray[np.bool_]:
        """Return the mask of items in no history of each user, ``[users, items]``.

        A history reveals the feedback of the user to a model, so its items cannot be candidates.

        Raises:
            ConfigError: if the mask does not fit into the memory of the machine.
        """
        users, items = self.users.height, self.items.height
        check_fits(
            float(users * items),
            f"a table of {users:,} users and {items:,} items",
            "set funnel.users to a lower number",
        )
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
    """Read the users and items of a request log.

    Args:
        log: request log.
        rows: requests that define the users, such as the training requests of the teachers; the
            latest request of each user is used.
        user: categorical request feature that identifies the user.
        item: categorical candidate feature that identifies the item.
        features: names or shell patterns of the features to keep; ``user`` and ``item`` are always
            kept.

    Raises:
        ConfigError: if ``user`` or ``item`` is not such a feature, or a candidate feature depends
            on more than the item.
        SchemaError: if a pattern of ``features`` matches no feature.
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
            f"data.{what}: unknown feature '{name}'{did_you_mean(name, schema.names)}; available: "
            f"{abridged(schema.names)}"
        )
    feature = schema[name]
    if feature.role is not role or feature.kind is not Kind.CATEGORICAL or feature.several:
        raise ConfigError(
            f"data.{what} must be a categorical feature of the {role} with one value; got "
            f"'{feature.name}', a {feature.kind} feature of the {feature.role}"
            f"{' with several' if feature.several else ''}"
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
        raise DataError(f"{log.path}: no training request has a user; check data.user")
    return latest.select(names).sort(user)


def _items(log: RequestLog, item: str, names: list[str]) -> pl.DataFrame:
    items = log.catalogue()
    if items is None:
        frames = [
            frame.select(pl.col(n).explode() for n in names).unique() for frame in log.frames(names)
        ]
        items = pl.concat(frames).unique().filter(pl.col(item).is_not_null())
    absent = [n for n in names if n not in items.columns or log.schema[n].by_request]
    items = items.select(n for n in names if n in items.columns).unique().sort(item)
    twice = items.filter(pl.col(item).is_duplicated())
    values = twice.group_by(item).agg(pl.col(n).n_unique() for n in items.columns if n != item)
    several = [n for n in values.columns if n not in (item, *absent) and (values[n] > 1).any()]
    if several or absent:
        wrong = [*several, *absent]
        without = ", ".join(f'"!{n}"' for n in wrong)
        raise ConfigError(
            f"{log.path}: item features must depend on the item alone; {abridged(wrong)} also "
            f'depends on the request; set data.features = ["*", {without}]'
        )
    return items


def observed_truth(
    population: Population,
    paths: Sequence[str | os.PathLike[str]],
    *,
    target: str,
    threshold: float,
) -> tuple[Population, NDArray[np.int8]]:
    """Read the observed feedback of users on items.

    Args:
        population: users and items.
        paths: request logs with the user and item features of the population.
        target: definition of the labels; see :mod:`cascaderank.data.labels`.
        threshold: minimum label of positive feedback.

    Returns:
        The population restricted to the users of the first log, and feedback ``[users, items]``: 1
        for positive, 0 for not positive, -1 for unobserved pairs. A pair that was observed several
        times is positive if it was positive at least once.

    Raises:
        DataError: if no user of the first log is in the population.
    """
    seen: NDArray[np.int8] | None = None
    for path in map(Path, paths):
        log = RequestLog.open(path)
        label_columns = needs(target, log.manifest.columns, where=str(path))
        for name in (population.user, population.item):
            log.schema[name]  # raises with the available names
        levels = len(log.manifest.level_names)
        frames = [
            _pairs(frame, population, label_columns, target, threshold, levels=levels)
            for frame in log.frames([population.user, population.item, *label_columns])
        ]
        pairs = pl.concat(frames)
        if seen is None:
            known = population.users[population.user].is_in(pairs["user"].unique().implode())
            population = population.of(np.flatnonzero(known.to_numpy()))
            if not population.users.height:
                raise DataError(
                    f"{path}: expected users of the training requests of the teachers; got none; "
                    "check that both logs are of the same data set"
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
    label_columns: Sequence[str],
    target: str,
    threshold: float,
    *,
    levels: int,
) -> pl.DataFrame:
    lengths = lengths_of(frame[population.item])
    columns = {c: flattened(frame[c]).to_numpy() for c in label_columns}
    labels = labels_of(target, columns, levels=levels)
    return pl.DataFrame(
        {
            "user": frame[population.user].gather(np.repeat(np.arange(frame.height), lengths)),
            "item": flattened(frame[population.item]),
            "positive": labels >= threshold,
        }
    )
