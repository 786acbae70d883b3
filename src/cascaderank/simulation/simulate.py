"""A simulated funnel as an ordinary request log."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import JsonValue

from cascaderank.data.hashing import hashed
from cascaderank.data.request_log import RequestLog, RequestLogWriter
from cascaderank.data.split import split_requests
from cascaderank.errors import DataError
from cascaderank.simulation.funnel import Places, Requests, Scorer, draw_requests, uniform_of_pairs
from cascaderank.simulation.population import Population, observed_truth, read_population
from cascaderank.simulation.scoring import PairScorer
from cascaderank.simulation.settings import SimulationSettings
from cascaderank.simulation.teachers import Teacher, train_teachers
from cascaderank.training.progress import Progress, Silent
from cascaderank.training.seeding import pick_device

_PARTS = ("test", "validation", "train")
"""In the order in which their requests are made."""
_CELLS = 4_000_000  # users times items at a time


def simulate(
    settings: SimulationSettings,
    to: Path,
    *,
    runs: Path,
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Train teachers on a request log, and simulate a funnel of them over its users.

    Of each user one request is made to test, then one to validate, then those to train. What was
    exposed with positive feedback is removed from the user's items each time a part is complete,
    so that no later part has it. No request has an item of the user's history. All chance but that
    of training is a hash of the seed, user, request and item: neither blocks nor order matter.

    The log has the levels of :class:`~cascaderank.simulation.funnel.Funnel`, given parts
    (``split = { by = "given" }``), the truth of every candidate as ``label``, what was seen of it
    as ``feedback``, and a catalogue of all items. ``extra["simulation"]`` of the manifest tells
    the settings, the teachers and how good they are, and the ``kind``: ``"observed"``, or
    ``"semi-synthetic"`` if the truth was drawn from a model's probabilities; the name says so too.

    Args:
        settings: of the simulation.
        to: folder of the request log to write.
        runs: folder of the teachers' runs; those that are complete are used as they are.
        name: of the data set; not given, that of the folder ``to``.
        overwrite: replace a request log that is there.
        progress: hears how far it is.

    Raises:
        ConfigError: if the log has not such users, items or features.
        DataError: if a user has too few items, or a log is not what it must be.
        RunError: if ``runs`` holds teachers of other settings or data.

    Source: FS-LTR, section 8.1.
    """
    progress = progress or Silent()
    semi = settings.truth.by == "model"
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
    population, seen = _drawn(population, seen, settings)
    _check_enough(population, seen, settings)
    with RequestLogWriter(
        to,
        name=(name or to.name) + " (semi-synthetic)" * semi,
        schema=population.schema,
        level_names=settings.as_funnel().level_names,
        overwrite=overwrite,
    ) as writer:
        teachers = train_teachers(
            {
                of: settings.run_of(of, _features(population, teacher.features))
                for of, teacher in settings.teachers().items()
            },
            runs,
            threshold=settings.data.threshold,
            progress=progress,
        )
        started = time.monotonic()
        positives = _write(writer, settings, population, teachers, seen, progress)
        writer.write_catalogue(population.items)
        requests = population.users.height * (2 + settings.funnel.requests)
        kind = "semi-synthetic" if semi else "observed"
        writer.extra["simulation"] = {
            "kind": kind,
            "settings": settings.model_dump(mode="json", exclude_none=True),
            "teachers": {of: teacher.report for of, teacher in teachers.items()},
        }
        writer.extra["notes"] = {
            "truth": kind,
            "users": population.users.height,
            "items": population.items.height,
            **{f"exposed_positive_per_{part}_request": p for part, p in positives.items()},
            **{
                f"teacher_{of}": f"AUC {t.report['auc']:.4f}, calibration error "
                f"{t.report['calibration_error']:.4f}, corrected {t.report['calibrated_error']:.4f}"
                for of, t in teachers.items()
            },
            "requests_per_second": round(requests / max(time.monotonic() - started, 1e-9)),
        }


def _features(population: Population, patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f.name for f in population.schema.select(patterns))


def _drawn(
    population: Population, seen: NDArray[np.int8] | None, settings: SimulationSettings
) -> tuple[Population, NDArray[np.int8] | None]:
    drawn = population.drawn(settings.funnel.users, settings.funnel.seed)
    if seen is None:
        return drawn, None
    kept = population.users[population.user].is_in(drawn.users[drawn.user].implode())
    return drawn, seen[kept.to_numpy()]


def _blocks(population: Population) -> Iterator[Places]:
    """Rows of users, some at a time: what is kept of users and items is kept of these alone."""
    users, size = population.users.height, max(1, _CELLS // population.items.height)
    for first in range(0, users, size):
        yield np.arange(first, min(first + size, users))


def _allowed(
    population: Population, seen: NDArray[np.int8] | None, rows: Places
) -> NDArray[np.bool_]:
    """What can be a candidate of some users, ``[rows, items]``."""
    unseen = population.of(rows).unseen()
    return unseen if seen is None else unseen & (seen[rows] >= 0)


def _check_enough(
    population: Population, seen: NDArray[np.int8] | None, settings: SimulationSettings
) -> None:
    """Check before any teacher learns that no request can run out of items."""
    funnel = settings.as_funnel()
    removed = 2 * funnel.exposed
    needed = funnel.candidates + funnel.pool + removed
    counts = np.concatenate(
        [_allowed(population, seen, rows).sum(1) for rows in _blocks(population)]
    )
    if int(counts.min()) < needed:
        raise DataError(
            f"{int((counts < needed).sum()):,} of {len(counts):,} users have fewer than {needed:,} "
            f"items ({funnel.candidates:,} candidates, a pool of {funnel.pool:,}, and {removed:,} "
            "that test and validation may take out), without those of their histories; the fewest "
            f"are {int(counts.min()):,} of {population.items.height:,}; lower funnel.candidates or "
            "funnel.pool"
        )


def _write(
    writer: RequestLogWriter,
    settings: SimulationSettings,
    population: Population,
    teachers: dict[str, Teacher],
    seen: NDArray[np.int8] | None,
    progress: Progress,
) -> dict[str, float]:
    """Write all requests; return how many positives a request of each part has."""
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
    # Who a user is, not where it stands, decides what is drawn.
    keys = hashed(population.users[population.user]).view(np.int64)
    positives = dict.fromkeys(_PARTS, 0)
    progress.start("simulating", users * (2 + settings.funnel.requests))
    for rows in _blocks(population):
        pool = _allowed(population, seen, rows)
        blocks = {name: scorer.block(rows) for name, scorer in scorers.items()}
        truth: Scorer
        if seen is None:
            truth = _drawn_truth(blocks["truth"], teachers["truth"], funnel.seed, keys[rows])
        else:
            truth = _seen_truth(seen[rows])
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
    left = pool.copy()
    left[user, requests.items[user, place]] = False
    return left


def _seen_truth(seen: NDArray[np.int8]) -> Scorer:
    def truth(items: Places) -> NDArray[np.float32]:
        return (np.take_along_axis(seen, items, axis=1) > 0).astype(np.float32)

    return truth


def _drawn_truth(scorer: Scorer, teacher: Teacher, seed: int, users: Places) -> Scorer:
    """One draw of each pair from its probability, the same in every request."""

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


def told(log: RequestLog) -> dict[str, JsonValue]:
    """Return what the manifest of a simulated log says about its simulation.

    Raises:
        DataError: if the log was not simulated.
    """
    extra = log.manifest.extra.get("simulation")
    if not isinstance(extra, dict):
        raise DataError(
            f"{log.path}: not a simulated log; make one with `cascaderank simulate CONFIG --to DIR`"
        )
    return extra
