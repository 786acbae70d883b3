"""Closed loop: simulated users click, the ranker serves and logs, the next training reads the log.

Run with ``python examples/closed_loop.py FOLDER``; it takes a few minutes on one core. The users
and items are those of the synthetic funnel, so that the true probability of each click is known.

On day 0 random items are shown. Each later day serves the model that was trained in the night
before, by searching all items, with some noise on the request vector so that the log also has
items that the model does not prefer. The model of the following day is trained on all days that
were served so far, from scratch. All models are compared on the same requests, without noise:

- value: expected number of clicks on the list;
- joint recall: share of the best ten items, by true probability, that are on the list.

Intervals are percentile bootstraps over requests. The last column is the paired difference of the
value to the model before.
"""

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from cascaderank.data.funnel.features import funnel_schema
from cascaderank.data.funnel.funnel_settings import FunnelSettings
from cascaderank.data.funnel.world import START, World, make_world
from cascaderank.data.log.manifest import ITEM
from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.evaluation import Summary, bootstrap_interval
from cascaderank.serving import (
    Exploration,
    LogSettings,
    Ranker,
    Sampling,
    ServedLogWriter,
    export_run,
)
from cascaderank.serving.served import Served
from cascaderank.settings.run import RunSettings, check_settings
from cascaderank.training.train_run import train_run

DAYS, REQUESTS, EVALUATED = 4, 1000, 400
LIST, RANDOM = 10, 30
FUNNEL = FunnelSettings(users=300, items=400, stages=1, days=30, seed=3)
STAGES = ("retrieval", "ranking")
SHARPNESS, OFFSET = 2.0, 2.5
"""Log-odds of a click: SHARPNESS times the utility of the item, minus OFFSET."""


class Users:
    """Simulated users: their requests, and the true probabilities of their clicks."""

    def __init__(self) -> None:
        self.world: World = make_world(FUNNEL)
        world = self.world
        self.items = pl.DataFrame(
            {
                "item_id": np.arange(FUNNEL.items),
                "category": world.category,
                "quality": world.quality,
                "price": world.price,
            }
        )

    def requests(self, day: int, count: int) -> list[dict[str, Any]]:
        """Return the requests of a day as raw values, with the time and the user."""
        rng, world = np.random.default_rng([1, day]), self.world
        found = []
        for user in rng.integers(0, FUNNEL.users, count):
            hour = int(rng.integers(24))
            time = np.array([(day * 24 + hour) * 3_600_000_000])
            past = world.past(np.array([user]), time)
            found.append(
                {
                    "time": START + timedelta(days=day, hours=hour),
                    "user_id": int(user),
                    "segment": int(world.segment[user]),
                    "hour": hour,
                    "weekday": day % 7,
                    "sensitivity": float(world.sensitivity[user]),
                    "account_age": float(world.account_age[user]),
                    "history_item": past.items.tolist(),
                    "history_category": world.category[past.items].tolist(),
                    "past": past,
                }
            )
        return found

    def click_probabilities(self, request: dict[str, Any]) -> NDArray[np.float64]:
        """Return the true probability of a click on each item, ``[items]``."""
        user, every = np.array([request["user_id"]]), np.arange(FUNNEL.items)[None]
        utility = self.world.cheap_part(user, every, request["past"])[0]
        return expit(SHARPNESS * utility.astype(np.float64) - OFFSET)


def random_day(users: Users, folder: Path) -> None:
    """Write the log of day 0: ten random items are shown, and some others are logged."""
    rng, rows = np.random.default_rng(0), []
    for number, request in enumerate(users.requests(0, REQUESTS)):
        items = rng.choice(FUNNEL.items, LIST + RANDOM, replace=False)
        clicked = rng.random(LIST) < users.click_probabilities(request)[items[:LIST]]
        rows.append(
            {
                "request_id": f"0-{number}",
                "timestamp": request["time"],
                **{name: request[name] for name in _names("request", "history")},
                **{name: users.items[name].gather(items).to_list() for name in _names("item")},
                "level": [2] * LIST + [0] * RANDOM,
                "position": [*range(1, LIST + 1), *[0] * RANDOM],
                "feedback": [*clicked.astype(float), *[0.0] * RANDOM],
            }
        )
    lists = {name: pl.List(pl.Int64) for name in ("history_item", "history_category")}
    writer = RequestLogWriter(
        folder,
        name="random",
        schema=funnel_schema(FUNNEL),
        level_names=(*(f"{name}_neg" for name in STAGES), "served"),
        extra={ITEM: "item_id"},
    )
    with writer:
        writer.write(pl.DataFrame(rows, schema_overrides=lists))
        writer.write_catalogue(users.items)


def served_day(users: Users, ranker: Ranker, folder: Path, day: int) -> int:
    """Serve a day with noise, log it, and return the number of clicks."""
    rng, clicks = np.random.default_rng([2, day]), 0
    settings = LogSettings(
        sampling=Sampling(stages={"retrieval": 10, "ranking": 0}),
        exploration=Exploration(scale=1.0),
    )
    with ServedLogWriter(folder, ranker, settings) as log:
        for number, request in enumerate(users.requests(day, REQUESTS)):
            request_id = f"{day}-{number}"
            answer = ranker.rank(
                request,
                request_id=request_id,
                sampling=log.sampling,
                exploration=log.exploration,
            )
            log.record(
                Served(
                    request_id=request_id,
                    request=request,
                    answer=answer,
                    time=request["time"],
                    bundle=ranker.name,
                )
            )
            probabilities = users.click_probabilities(request)
            for item in answer.ids:
                if rng.random() < probabilities[item]:
                    log.feedback(request_id, item, 1)
                    clicks += 1
    if log.status.lost or log.status.unmatched:
        raise SystemExit(f"the log is not complete: {log.status}")
    return clicks


def trained(dataset: Path, folder: Path, day: int) -> Ranker:
    """Train a cascade on a log, export it, and return its ranker."""
    settings: RunSettings = check_settings(
        {
            "data": {
                "path": str(dataset),
                "target": {"z": [0, 0, 0, 1], "by": "feedback"},  # clicked or not
                "split": {"by": "request", "validation": 0.1, "test": 0.1},
            },
            "relevance": {"threshold": 1},
            "stages": {
                "retrieval": {"model": "two_tower", "quota": 60, "hidden": [32, 16]},
                "ranking": {"model": "mlp", "quota": LIST, "hidden": [32, 16]},
            },
            "objective": {"name": "bce"},
            "train": {"epochs": 6, "batch_size": 64, "learning_rate": 0.005, "seed": day},
        }
    )
    train_run(settings, folder / f"run-{day}")
    export_run(folder / f"run-{day}", folder / f"bundle-{day}", golden=20, name=f"day {day}")
    return Ranker.load(folder / f"bundle-{day}")


def judged(users: Users, ranker: Ranker) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return value and joint recall of each evaluated request, without noise."""
    values, recalls = [], []
    for request in users.requests(FUNNEL.days - 1, EVALUATED):
        probabilities = users.click_probabilities(request)
        ids = ranker.rank(request).ids
        best = np.argsort(-probabilities)[:LIST]
        values.append(probabilities[ids].sum())
        recalls.append(len({*ids} & {*best.tolist()}) / LIST)
    return np.array(values), np.array(recalls)


def main(folder: Path) -> list[Summary]:
    """Run the loop; return the differences of the value of each model to the one before."""
    users, log = Users(), folder / "log"
    random_day(users, folder / "random")
    requests = users.requests(FUNNEL.days - 1, EVALUATED)
    chances = np.stack([users.click_probabilities(request) for request in requests])
    print(
        f"random lists: value {LIST * chances.mean():.2f}, joint recall {LIST / FUNNEL.items:.3f}"
    )
    best = np.sort(chances, axis=1)[:, -LIST:].sum(1).mean()
    print(f"best lists: value {best:.2f}, joint recall 1")
    gains, before = [], None
    for day in range(1, DAYS + 1):
        ranker = trained(folder / "random" if day == 1 else log, folder, day)
        values, recalls = judged(users, ranker)
        line = f"day {day}: value {_text(values, 2)}, joint recall {_text(recalls, 3)}"
        if before is not None:
            gains.append(bootstrap_interval(values - before))
            line += f", gain {_text(values - before, 2)}"
        before = values
        if day < DAYS:
            clicks = served_day(users, ranker, log, day)
            line += f"; {clicks / REQUESTS:.2f} clicks per list that was served with noise"
        print(line, flush=True)
    first = gains[0]
    verdict = (
        "better than" if first.low > 0 else "worse than" if first.high < 0 else "not different from"
    )
    print(f"the model of day 2 is {verdict} that of day 1")
    return gains


def _names(*roles: str) -> Sequence[str]:
    return [f.name for f in funnel_schema(FUNNEL).features if f.role in roles]


def _text(values: NDArray[np.float64], digits: int) -> str:
    summary = bootstrap_interval(values)
    return f"{summary.mean:.{digits}f} [{summary.low:.{digits}f}, {summary.high:.{digits}f}]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
