"""Simulated funnel with planted preferences, for which the best joint recall is known."""

import os
from dataclasses import asdict
from pathlib import Path

from pydantic import JsonValue

from cascaderank.data.funnel.ceiling import Ceiling
from cascaderank.data.funnel.chain import with_chain
from cascaderank.data.funnel.features import funnel_schema, stage_features
from cascaderank.data.funnel.funnel_settings import Chain, FunnelSettings
from cascaderank.data.funnel.traffic import block_frame, block_size, draw_block
from cascaderank.data.funnel.world import make_world
from cascaderank.data.log.manifest import ITEM
from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress, checked_options, paths_of
from cascaderank.errors import ConfigError


@SOURCES.register
@checked_options
def synthetic_source(
    from_: Inputs | None,
    to: str | os.PathLike[str],
    *,
    requests: int = 20_000,
    users: int = 2_000,
    items: int = 5_000,
    stages: int = 2,
    quotas: tuple[int, ...] | None = None,
    ground_truth: int = 10,
    per_level: int = 10,
    ragged: bool = False,
    noise: float = 0.9,
    complementarity: float = 0.5,
    unevenness: float = 0.0,
    days: int = 10,
    chain: Chain | None = None,
    seed: int = 0,
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Simulate a request log with planted preferences, logged by a funnel of several noisy stages.

    Each request belongs to one user at one time and starts from many items. The utility of an item
    is a sum of parts. The first part is a function of cheap features: the preference of the user's
    segment for the item's category, the number of items of that category in the user's history,
    the item's quality, an effect of the item id alone, and the price, which lowers the utility for
    users that are sensitive to prices. Each further part is a function of two features of request
    and item, ``match_2`` and ``gap_2``, ``match_3`` and ``gap_3`` and so on: utility increases
    with the match and decreases with the square of the gap.

    The logging system has one stage more than ``stages``. Its first stage ranks by the first part
    only, the next by the first two, and so on; each adds noise and drops half of the candidates or
    more. Of the candidates that a stage dropped, ``per_level`` are sampled for the log; of those
    that the last stage kept, all are logged. The levels are those of RecFlow: with two stages
    ``prerank_neg``, ``coarse_neg``, ``rank_neg`` and ``rank_pos``, with three ``rerank_neg`` and
    ``rerank_pos`` after ``rank_neg``. Positions are unknown in the lowest two levels. The top level
    is the ground truth: the top ``ground_truth`` by the target ``funnel``.

    ``complementarity`` determines which parts each stage of the cascade can observe. At 0.5, stage
    ``t`` observes the first ``t`` parts, as the logging stages do. At 0 every stage observes all
    parts, at 1 only its own. In between, a stage observes noisy estimates of some parts
    (``estimate_1``, ``estimate_2``); the fraction of variance that an estimate explains decreases
    linearly.

    ``unevenness`` is the fraction of the items whose utility is one part alone; the feature
    ``type`` is the number of the part, 0 for all other items. At complementarity 1 only one stage
    can rank the items of a type.

    ``extra["planted"]`` of the manifest holds the planted truth: ``stages`` (name, features that
    the stage may use, ``recall`` of the best such stage alone at its quota, ``survival``: fraction
    of the ground truth left after it), ``quotas``, ``ground_truth``, ``joint_recall``: the best
    joint recall of such a cascade, averaged over requests (see
    :class:`~cascaderank.data.funnel.ceiling.Ceiling` for its exact meaning), ``bound``: an upper
    bound for every cascade, ``random_recall``: the joint recall of random selection, ``seed`` and
    ``settings``.

    Args:
        from_: must be empty; the funnel is simulated and reads no files.
        to: folder of the request log to write.
        requests: number of requests, 1 or more.
        users: number of users, 1 or more.
        items: number of items; a request starts from 80 of them with two stages, 160 with three.
        stages: number of stages of the cascade to train, 1 or more.
        quotas: number of candidates that each of these stages keeps. By default, each stage keeps
            one level less: 30 and 20 of 40 with two stages, 40, 30 and 20 of 50 with three.
        ground_truth: number of candidates that the logging system keeps at the end.
        per_level: number of candidates logged from every other level.
        ragged: log a random number between 1 and ``per_level`` from every other level.
        noise: standard deviation of the logistic noise of every logging stage, positive; for
            comparison, that of the first part of the utility is 0.6, of every later part 1.
        complementarity: degree to which the stages of the cascade observe different parts of the
            utility, in [0, 1]. It determines which features a stage may use, not what is logged.
        unevenness: fraction of the items that have only one part of the utility, in [0, 1].
        days: number of days that the log covers, from 2024-01-01 UTC.
        chain: log every candidate that a request started from, with clicks on exposed candidates
            as feedback and, as label, the probability of ``"exposure"``, or of exposure and
            ``"click"``. This is the truth for evaluating models of the entire chain. A real system
            cannot observe it; do not train on it.
        seed: seed of the simulation, 0 or more; equal seeds produce equal files.
        name: name of the data set; default the name of the folder ``to``.
        overwrite: replace an existing request log.
        progress: callback that receives the requests written so far and the total.

    Raises:
        ConfigError: if an option is unknown, of a wrong type or out of range, or ``from_`` is not
            empty.

    Examples:
        >>> import tempfile
        >>> from cascaderank.data.log.request_log import RequestLog
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     synthetic_source([], Path(folder) / "log", requests=500, seed=1)
        ...     planted = RequestLog.open(Path(folder) / "log").manifest.extra["planted"]
        >>> planted["quotas"], planted["random_recall"] < planted["joint_recall"] < 1
        ([30, 20], True)

    Source: this project; RecFlow (arXiv 2410.20868) for the levels and their logged numbers.
    """
    paths = paths_of(from_)
    if paths:
        raise ConfigError(
            "source 'synthetic' reads no files, found "
            f"{', '.join(map(str, paths))}; leave out --from"
        )
    settings = FunnelSettings(
        requests=requests,
        users=users,
        items=items,
        stages=stages,
        quotas=None if quotas is None else tuple(quotas),
        ground_truth=ground_truth,
        per_level=per_level,
        ragged=ragged,
        noise=noise,
        complementarity=complementarity,
        unevenness=unevenness,
        days=days,
        chain=chain,
        seed=seed,
    )
    world = make_world(settings)
    ceiling = Ceiling(settings)
    writer = RequestLogWriter(
        to,
        name=name or Path(to).name,
        schema=funnel_schema(settings),
        level_names=settings.level_names,
        overwrite=overwrite,
    )
    with writer:
        for number, first in enumerate(range(0, requests, block_size(settings))):
            block = draw_block(settings, world, number)
            ceiling.add(block)
            frame = block_frame(world, block, first, uneven=unevenness > 0)
            if settings.chain is not None:
                frame = with_chain(settings, block, number, frame)
            writer.write(frame)
            if progress is not None:
                progress(min(first + block_size(settings), requests), requests)
        writer.extra[ITEM] = "item_id"
        writer.extra["planted"] = planted(settings, ceiling)
        writer.extra["notes"] = {
            "best_joint_recall": round(ceiling.joint_recall, 4),
            "random_joint_recall": round(ceiling.random_recall, 4),
        }


def planted(settings: FunnelSettings, ceiling: Ceiling) -> dict[str, JsonValue]:
    """Return the planted truth of a simulated funnel, for the manifest."""
    stages = zip(
        settings.stage_names,
        stage_features(settings),
        ceiling.recall,
        ceiling.survival,
        strict=True,
    )
    return {
        "quotas": list(settings.kept),
        "ground_truth": settings.ground_truth,
        "stages": [
            {"name": name, "features": list(features), "recall": recall, "survival": survival}
            for name, features, recall, survival in stages
        ],
        "joint_recall": ceiling.joint_recall,
        "bound": ceiling.bound,
        "random_recall": ceiling.random_recall,
        "seed": settings.seed,
        "settings": {**asdict(settings), "quotas": list(settings.kept)},
    }
