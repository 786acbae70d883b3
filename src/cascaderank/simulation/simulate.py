"""Simulation of a funnel, written as a request log."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import JsonValue

from cascaderank.data.encoding.hashing import hashed
from cascaderank.data.log.destination import check_inputs
from cascaderank.data.log.manifest import ITEM
from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.data.split import split_requests
from cascaderank.errors import DataError
from cascaderank.progress import Progress, Silent
from cascaderank.runs.seeding import pick_device
from cascaderank.simulation.funnel import Places, Requests, Scorer, draw_requests, uniform_of_pairs
from cascaderank.simulation.population import Population, observed_truth, read_population
from cascaderank.simulation.scoring import PairScorer
from cascaderank.simulation.simulation_settings import SimulationSettings
from cascaderank.simulation.teachers import Teacher, train_teachers

_PARTS = ("test", "validation", "train")
"""Parts, in the order of the simulation."""
_CELLS = 4_000_000  # user-item pairs per block


def simulate(
    settings: SimulationSettings,
    to: str | os.PathLike[str],
    *,
    runs: str | os.PathLike[str],
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Train teachers on a request log, and simulate a funnel of the teachers over its users.

    For each user, one test request is simulated, then one validation request, then the training
    requests. After the test and after the validation part, exposed items with positive feedback are
    removed from the items of the user, so no later part contains them. No request contains an item
    of the history of the user. All random numbers except those of training are hashes of seed,
    user, request and item, so the result depends neither on blocks nor on order.

    The log has the levels of :class:`~cascaderank.simulation.funnel.Funnel`, given parts
    (``split = { by = "given" }``), the truth of every candidate as ``label``, the observed part of
    it as ``feedback``, and a catalogue of all items. ``extra["simulation"]`` of the manifest holds
    the settings, the teachers with their accuracy, and the ``kind``: ``"observed"``, or
    ``"semi-synthetic"`` if the truth was sampled from the probabilities of a model. In that case,
    the name of the data set also ends in ``(semi-synthetic)``.

    Args:
        settings: settings of the simulation.
        to: folder of the request log to write.
        runs: folder of the runs of the teachers; complete runs are reused.
        name: name of the data set; by default that of the folder ``to``.
        overwrite: whether to replace an existing request log.
        progress: progress reporter.

    Raises:
        ConfigError: if the log does not have the configured users, items or features.
        DataError: if a user has too few items, a log is invalid, or ``to`` is or contains a log
            that is read.
        RunError: if ``runs`` contains teachers of other settings or data.

    Source: FS-LTR, section 8.1.
    """
    progress = progress or Silent()
    semi = settings.truth.by == "model"
    check_inputs(to, (settings.data.path, *settings.truth.paths))
    log = RequestLog.open(settings.data.path)
    population = read_population(
        log,
        split_requests(log, settings.data.split).train,
        user=settings.data.user,
        item=settings.data.item,
        features=settings.data.features,
    )
    seen = None
    if not semi:
        population, seen = observed_truth(
            population,
            settings.truth.paths,
            target=settings.data.target,
            threshold=settings.data.threshold,
        )
    population, seen = _sample_users(population, seen, settings)
    _check_enough(population, seen, settings)
    with RequestLogWriter(
        to,
        name=(name or Path(to).name) + " (semi-synthetic)" * semi,
        schema=population.schema,
        level_names=settings.as_funnel().level_names,
        overwrite=overwrite,
    ) as writer:
        teachers = train_teachers(
            {
                role: settings.run_of(role, _features(population, teacher.features))
                for role, teacher in settings.teachers().items()
            },
            runs,
            threshold=settings.data.threshold,
            progress=progress,
        )
        started = time.monotonic()
        positives = _write(writer, settings, population, teachers, seen, progress)
        writer.write_catalogue(population.items)
        writer.extra[ITEM] = population.item
        requests = population.users.height * (2 + settings.funnel.requests)
        kind = "semi-synthetic" if semi else "observed"
        writer.extra["simulation"] = {
            "kind": kind,
            "settings": settings.model_dump(mode="json", exclude_none=True),
            "teachers": {role: teacher.report for role, teacher in teachers.items()},
        }
        writer.extra["notes"] = {
            "truth": kind,
            "users": population.users.height,
            "items": population.items.height,
            **{f"exposed_positive_per_{part}_request": p for part, p in positives.items()},
            **{
                f"teacher_{role}": f"AUC {t.report['auc']:.4f}, calibration error "
                f"{t.report['calibration_error']:.4f}, corrected {t.report['calibrated_error']:.4f}"
                for role, t in teachers.items()
            },
            "requests_per_second": round(requests / max(time.monotonic() - started, 1e-9)),
        }


def _features(population: Population, patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f.name for f in population.schema.select(patterns))


def _sample_users(
    population: Population, seen: NDArray[np.int8] | None, settings: SimulationSettings
) -> tuple[Population, NDArray[np.int8] | None]:
    sample = population.sample(settings.funnel.users, settings.funnel.seed)
    if seen is None:
        return sample, None
    kept = population.users[population.user].is_in(sample.users[sample.user].implode())
    return sample, seen[kept.to_numpy()]


def _blocks(population: Population) -> Iterator[Places]:
    """Blocks of user rows, so that arrays over users and items have bounded size."""
    users, size = population.users.height, max(1, _CELLS // population.items.height)
    for first in range(0, users, size):
        yield np.arange(first, min(first + size, users))


def _allowed(
    population: Population, seen: NDArray[np.int8] | None, rows: Places
) -> NDArray[np.bool_]:
    """Mask of items that can be candidates of the users, ``[rows, items]``."""
    unseen = population.of(rows).unseen()
    return unseen if seen is None else unseen & (seen[rows] >= 0)


def _check_enough(
    population: Population, seen: NDArray[np.int8] | None, settings: SimulationSettings
) -> None:
    """Check before training that every user has enough items for all requests."""
    funnel = settings.as_funnel()
    removed = 2 * funnel.exposed
    needed = funnel.candidates + funnel.pool + removed
    counts = np.concatenate(
        [_allowed(population, seen, rows).sum(1) for rows in _blocks(population)]
    )
    if int(counts.min()) < needed:
        raise DataError(
            f"every user needs at least {needed:,} items outside the histories "
            f"({funnel.candidates:,} candidates, a pool of {funnel.pool:,}, and {removed:,} that "
            f"test and validation may remove); {int((counts < needed).sum()):,} of "
            f"{len(counts):,} users have fewer; the minimum is {int(counts.min()):,} of "
            f"{population.items.height:,}; lower funnel.candidates or funnel.pool"
        )


def _write(
    writer: RequestLogWriter,
    settings: SimulationSettings,
    population: Population,
    teachers: dict[str, Teacher],
    seen: NDArray[np.int8] | None,
    progress: Progress,
) -> dict[str, float]:
    """Write all requests; return the mean number of exposed positives per request of each part."""
    funnel = settings.as_funnel()
    scorers = {
        name: PairScorer(
            teacher.stage,
            teacher.schema,
            population,
            history_length=settings.data.history_length,
            device=pick_device(settings.train.device),
        )
        for name, teacher in teachers.items()
    }
    numbers = {"test": [0], "validation": [1], "train": range(2, 2 + settings.funnel.requests)}
    users = population.users.height
    # Samples depend on the identity of a user, not on its row.
    keys = hashed(population.users[population.user]).view(np.int64)
    positives = dict.fromkeys(_PARTS, 0)
    progress.start("simulating", users * (2 + settings.funnel.requests))
    for rows in _blocks(population):
        pool = _allowed(population, seen, rows)
        blocks = {name: scorer.block(rows) for name, scorer in scorers.items()}
        truth: Scorer
        if seen is None:
            truth = _sampled_truth(blocks["truth"], teachers["truth"], funnel.seed, keys[rows])
        else:
            truth = _observed_truth(seen[rows])
        for part in _PARTS:
            for number in numbers[part]:
                requests = draw_requests(
                    funnel,
                    users=keys[rows],
                    number=number,
                    pool=pool,
                    scorers=[blocks[stage.name] for stage in funnel.stages],
                    truth=truth,
                )
                writer.write(_frame(population, rows, requests, part, number), given=part)
                positives[part] += int(requests.positives().sum())
                progress.advance(len(rows))
                if part != "train":
                    pool = _without_positives(pool, requests)
    progress.stop(f"{users * (2 + settings.funnel.requests):,} requests")
    return {p: round(positives[p] / (users * len(numbers[p])), 3) for p in _PARTS}


def _without_positives(pool: NDArray[np.bool_], requests: Requests) -> NDArray[np.bool_]:
    user, place = np.nonzero(requests.positives())
    remaining = pool.copy()
    remaining[user, requests.items[user, place]] = False
    return remaining


def _observed_truth(seen: NDArray[np.int8]) -> Scorer:
    def truth(items: Places) -> NDArray[np.float32]:
        return (np.take_along_axis(seen, items, axis=1) > 0).astype(np.float32)

    return truth


def _sampled_truth(scorer: Scorer, teacher: Teacher, seed: int, users: Places) -> Scorer:
    """Labels sampled once per pair from its probability, the same in every request."""

    def truth(items: Places) -> NDArray[np.float32]:
        probabilities = teacher.platt(scorer(items))
        return (uniform_of_pairs(seed, users, items) < probabilities).astype(np.float32)

    return truth


def _frame(
    population: Population, rows: Places, requests: Requests, part: str, number: int
) -> pl.DataFrame:
    users = population.users[rows]
    suffix = f"-{part}" + f"-{number - 1}" * (part == "train")
    ids = users[population.user].cast(pl.String) + suffix
    items = population.items[requests.items.ravel()]
    width = requests.items.shape[1]
    lists = [_lists(name, items[name].to_arrow(), width) for name in items.columns]
    columns: dict[str, NDArray[Any]] = {
        "level": requests.levels,
        "position": requests.positions,
        "label": requests.labels,
        "feedback": requests.feedback,
    }
    lists += [_lists(name, pa.array(values.ravel()), width) for name, values in columns.items()]
    return users.with_columns(ids.alias("request_id"), *lists)


def _lists(name: str, values: Any, width: int) -> pl.Series:
    offsets = pa.array(np.arange(0, len(values) + 1, width, dtype=np.int64))
    return pl.Series(name, pa.LargeListArray.from_arrays(offsets, values))


def simulation_summary(log: RequestLog) -> dict[str, JsonValue]:
    """Return the entry ``extra["simulation"]`` of the manifest of a simulated log.

    Raises:
        DataError: if the log was not simulated.
    """
    extra = log.manifest.extra.get("simulation")
    if not isinstance(extra, dict):
        raise DataError(
            f"{log.path}: not a simulated log; create one with "
            "`cascaderank simulate CONFIG --to DIR`"
        )
    return extra
