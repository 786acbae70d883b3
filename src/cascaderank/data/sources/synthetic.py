"""The synthetic funnel as a source: a request log whose best possible recall is known."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import JsonValue

from cascaderank.data.funnel.ceiling import Ceiling
from cascaderank.data.funnel.chain import with_chain
from cascaderank.data.funnel.features import funnel_schema, stage_features
from cascaderank.data.funnel.settings import Chain, FunnelSettings
from cascaderank.data.funnel.traffic import block_frame, block_size, draw_block
from cascaderank.data.funnel.world import make_world
from cascaderank.data.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Progress
from cascaderank.errors import ConfigError


@SOURCES.register
def synthetic_source(
    from_: Sequence[Path] | None,
    to: Path,
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
    days: int = 10,
    chain: Chain | None = None,
    seed: int = 0,
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Make a request log with planted preferences, logged by a funnel of several noisy stages.

    A request is of one user at one time, and starts from many items. The utility of an item is a
    sum of parts. The first is told by cheap features: how the user's segment likes the item's
    category, how often the user liked that category before, the item's quality and what only its
    id tells, and its price, which puts off users that are sensitive to prices. Each further part
    is told by two features of request and item, ``match_2`` and ``gap_2``, ``match_3`` and
    ``gap_3`` and so on: a good match helps, a gap hurts by its square.

    The logging system has one stage more than ``stages``. The first sees only the first part,
    the next the first two, and so on; each adds noise and drops half or more. Of what each stage
    dropped, ``per_level`` candidates are logged, by chance; of what the last one kept, all. The
    levels are RecFlow's: of two stages ``prerank_neg``, ``coarse_neg``, ``rank_neg`` and
    ``rank_pos``, of three with ``rerank`` instead of ``rank`` at the end. Positions are known but
    for the lowest two levels. The top level is the ground truth: the top ``ground_truth`` by the
    target ``funnel``.

    What the stages of the cascade know is for ``complementarity`` to say. At 0.5 stage ``t`` knows
    the first ``t`` parts, as the logging stages do. At 0 every stage knows all parts, at 1 only its
    own. Between these, it sees an estimate of what it knows in part (``estimate_1``,
    ``estimate_2``): the part with noise, which tells a share of its variance that falls linearly.

    ``extra["planted"]`` of the manifest holds what there is to learn: ``stages`` (name, features
    the stage may use, ``recall`` of the best such stage alone at its quota, ``survival``: share of
    ground truth left after it), ``quotas``, ``ground_truth``, ``joint_recall``: the best joint
    recall of such a cascade, mean of all requests (see
    :class:`~cascaderank.data.funnel.ceiling.Ceiling` for what it is and is not), ``bound``: what no
    cascade can pass, ``random_recall``: that of a cascade that guesses, ``seed`` and ``settings``.

    Args:
        from_: nothing; a funnel is not made from files.
        to: folder of the request log to write.
        requests: how many.
        users: how many.
        items: how many; a request starts from 80 of them with two stages, 160 with three.
        stages: of the cascade that is to be learnt.
        quotas: how many candidates each of these stages keeps. Not given, one level less with
            each: 30 and 20 of 40 with two stages, 40, 30 and 20 of 50 with three.
        ground_truth: candidates that the logging system ends with.
        per_level: candidates that are logged of every other level.
        ragged: log between 1 and ``per_level`` candidates of every other level, by chance.
        noise: standard deviation of the logistic noise of every logging stage; a late part of the
            utility has 1, the first 0.6.
        complementarity: how much each stage of the cascade knows that the others do not, in [0, 1].
            It changes who may use which features, never what is logged.
        days: how long the log runs, from 2024-01-01 UTC.
        chain: log every candidate that a request started from, clicks on what was shown as
            feedback, and as label how likely each was of ``"exposure"`` or, exposed and clicked, of
            ``"click"``: the truth that models of the entire chain are judged by. A system never
            knows it; do not train on it.
        seed: equal seeds give equal files.
        name: of the data set; not given, that of the folder ``to``.
        overwrite: replace a request log that is there.
        progress: called with requests written and requests in all.

    Raises:
        ConfigError: if an option is out of range, or there is something in ``from_``.

    Examples:
        >>> import tempfile
        >>> from cascaderank.data.request_log import RequestLog
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     synthetic_source([], Path(folder) / "log", requests=500, seed=1)
        ...     planted = RequestLog.open(Path(folder) / "log").manifest.extra["planted"]
        >>> planted["quotas"], planted["random_recall"] < planted["joint_recall"] < 1
        ([30, 20], True)

    Source: this project; the levels and how many of each are logged, RecFlow (arXiv 2410.20868).
    """
    if from_:
        raise ConfigError(
            f"the synthetic funnel is not made from files; leave out {', '.join(map(str, from_))}"
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
        days=days,
        chain=chain,
        seed=seed,
    )
    world = make_world(settings)
    ceiling = Ceiling(settings)
    writer = RequestLogWriter(
        to,
        name=name or to.name,
        schema=funnel_schema(settings),
        level_names=settings.level_names,
        overwrite=overwrite,
    )
    with writer:
        for number, first in enumerate(range(0, requests, block_size(settings))):
            block = draw_block(settings, world, number)
            ceiling.add(block)
            frame = block_frame(world, block, first)
            if settings.chain is not None:
                frame = with_chain(settings, block, number, frame)
            writer.write(frame)
            if progress is not None:
                progress(min(first + block_size(settings), requests), requests)
        writer.extra["planted"] = planted(settings, ceiling)
        writer.extra["notes"] = {
            "best_joint_recall": round(ceiling.joint_recall, 4),
            "random_joint_recall": round(ceiling.random_recall, 4),
        }


def planted(settings: FunnelSettings, ceiling: Ceiling) -> dict[str, JsonValue]:
    """Return what a manifest says about what there is to learn."""
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
