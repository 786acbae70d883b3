"""RecFlow in its official layout: candidates of a video service, logged at every funnel stage."""

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from cascaderank.data.log.manifest import ITEM
from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress, checked_options
from cascaderank.data.sources._recflow.damage import DamagedRequests
from cascaderank.data.sources._recflow.day_files import (
    Day,
    column_names,
    day_problem,
    days_between,
    find_days,
)
from cascaderank.data.sources._recflow.day_requests import (
    IDENTITY,
    TIMES,
    USER,
    VIDEO,
    Feedback,
    read_histories,
    read_taken,
    recflow_schema,
    request_frames,
)
from cascaderank.data.sources._recflow.level_sampling import (
    LEVELS,
    choose_candidates,
    key_columns,
    with_full_lists,
)
from cascaderank.data.sources._shared.timestamps import time_zone_mistake
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.schema import MOST_BUCKETS, abridged

_log = logging.getLogger(__name__)


@SOURCES.register
@checked_options
def recflow_source(
    from_: Inputs,
    to: str | os.PathLike[str],
    *,
    stages: int = 2,
    per_level: int | Literal["all"] = 10,
    full_lists: bool = False,
    seed: int = 0,
    feedback: Feedback = "effective_view",
    label: Feedback | Literal[""] = "",
    time_zone: str = "Asia/Shanghai",
    buckets: dict[str, int] | None = None,
    skip_bad_days: bool = False,
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    r"""Convert the files of RecFlow to a request log; the data set is not part of this library.

    The source reads ``all_stage/DAY.feather`` (candidates, levels, feedback) and
    ``seq_effective_50_dict/DAY.pkl`` (histories of users). The other folders repeat these data, or
    are not needed for training, and are not opened. Pickles are read by an unpickler that only
    builds arrays of numbers and executes nothing.

    A request with impossible or contradictory rows, or a history of another layout, is left out
    with a warning; the notes of the manifest count such requests as ``requests_damaged``.

    Days are written one after another. If the command is interrupted or stops at a damaged file,
    the same command resumes with the first day that is not written, and produces the same bytes as
    an uninterrupted run.

    Features of the request are ``weekday`` (1 is Monday), ``hour``, ``minute``, ``user`` (if the
    files have a column ``user_id``), ``device``, ``gender``, ``age`` and ``province``; of the
    history ``history_video``, ``history_author``, ``history_category_one``,
    ``history_category_two`` and ``history_upload_type``, oldest first; of the candidate ``video``,
    ``author``, ``category_one``, ``category_two``, ``upload_type``, ``upload_weekday``,
    ``upload_hour`` and ``upload_minute``. All are categorical, and a history shares the
    vocabularies of the candidates.

    The level of a candidate is the highest level of the view whose flag is set. Its position is its
    rank by increasing ``rank_index`` (``rerank_index`` in the levels of re-ranking) within that
    level, from 1. Positions in the lowest two levels are unknown.

    Args:
        from_: folder that contains ``all_stage`` and ``seq_effective_50_dict``.
        to: folder of the request log to write.
        stages: number of stages of the cascade to train. With 2, the levels are ``prerank_neg``,
            ``coarse_neg``, ``rank_neg`` and ``rank_pos``; with 3, ``rerank_neg`` and
            ``rerank_pos`` replace ``rank_pos``.
        per_level: number of candidates to sample per level and request, 1 or more, or ``"all"``.
        full_lists: leave out requests with fewer than ``per_level`` candidates in a level; their
            number is in the notes of the manifest as ``requests_with_short_lists``.
        seed: seed of the sampling. The sample does not depend on the order of rows.
        feedback: column of the user's response to a candidate.
        label: column of the explicit relevance; by default the log has no labels.
        time_zone: time zone of weekdays, hours and minutes; that of the machine is never used.
        buckets: number of hash buckets by vocabulary, for hashed vocabularies, such as
            ``{video = 1000000}``.
        skip_bad_days: skip days whose files are missing or damaged, with a warning, instead of
            raising an error.
        name: name of the data set; default the name of the folder ``to``.
        overwrite: replace an existing request log.
        progress: callback that receives the bytes read so far and the total.

    Raises:
        ConfigError: if an option is unknown, of a wrong type or out of range, or a time zone or
            vocabulary does not exist.
        DataError: if the folder does not have the layout of RecFlow; before any conversion, for all
            days with missing or truncated files at once; later, for a file that is damaged inside.

    Examples:
        >>> recflow_source(Path("realshow"), Path("log"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        cascaderank.errors.DataError: realshow: expected the folder of RecFlow, with ...

    Source: RecFlow (arXiv 2410.20868) for the data set; the LCRON experiments (arXiv 2503.09492)
    for the two views, ten candidates per level and the features.
    """
    most = None if per_level == "all" else per_level
    hashed = buckets or {}
    _check_options(stages, most, full_lists, time_zone, hashed)
    responses: dict[str, str] = {"feedback": feedback, **({"label": label} if label else {})}
    all_days = find_days(from_)
    columns = list(
        dict.fromkeys([*key_columns(stages), *TIMES, *USER, *VIDEO, *responses.values()])
    )
    problems = {day.name: text for day in all_days if (text := day_problem(day, columns))}
    if problems and not skip_bad_days:
        raise DataError(
            f"{len(problems)} of {len(all_days)} days cannot be read: "
            f"{'; '.join(problems.values())} (or set skip_bad_days=true to skip these days)"
        )
    days = [day for day in all_days if day.name not in problems]
    if not days:
        raise DataError(
            f"expected at least one readable day, found none: {'; '.join(problems.values())}"
        )
    users = _has_users(days[0])
    schema = recflow_schema(hashed, users=users)
    choices = [stages, per_level, seed, responses, time_zone, schema.model_dump_json()]
    options = json.dumps([*choices, *(["full_lists"] if full_lists else [])])
    advance = _byte_counter(all_days, progress)
    for date, text in problems.items():
        _log.warning("skipped %s: %s", date, text)
        advance(sum(next(day for day in all_days if day.name == date).sizes))

    def write_day(writer: RequestLogWriter, day: Day) -> None:
        candidate_bytes, history_bytes = day.sizes
        damaged = DamagedRequests()

        def count_damaged() -> None:
            if damaged.reasons:
                counts["requests_damaged"] = len(damaged.reasons)
                _log.warning("%s: left out %s", day.name, damaged.summary())

        taken, counts = choose_candidates(
            day, stages=stages, per_level=most, seed=seed, damaged=damaged
        )
        advance(candidate_bytes // 2)
        if full_lists:
            taken, counts["requests_with_short_lists"] = with_full_lists(
                taken, length=(most or 0) * len(LEVELS[stages])
            )
            if not taken.height:
                count_damaged()
                advance(candidate_bytes - candidate_bytes // 2 + history_bytes)
                writer.finish(day.name, {**counts})
                return
        candidates = read_taken(
            day, taken, users=users, responses=responses, time_zone=time_zone, damaged=damaged
        )
        del taken
        advance(candidate_bytes - candidate_bytes // 2)
        histories = read_histories(day, candidates["request_id"], damaged)
        candidates = damaged.without(candidates)
        count_damaged()
        counts["requests_without_history"] = 0
        for frame in request_frames(day, candidates, histories, schema):
            is_empty = frame["history_video"].list.len() == 0
            counts["requests_without_history"] += int(is_empty.sum())
            writer.write(frame, day=day.date)
        writer.finish(day.name, {**counts})
        advance(history_bytes)

    with RequestLogWriter(
        to,
        name=name or Path(to).name,
        schema=schema,
        level_names=LEVELS[stages],
        overwrite=overwrite,
        steps={day.name: day.mark(options) for day in days},
    ) as writer:
        for day in days:
            if day.name in writer.finished:
                advance(sum(day.sizes))
                continue
            try:
                write_day(writer, day)
            except DataError as error:
                if not skip_bad_days:
                    raise DataError(
                        f"{day.name}: {error} (days written so far are kept: run the same command "
                        "again to resume, or set skip_bad_days=true to skip this day)"
                    ) from None
                writer.discard()
                problems[day.name] = str(error)
                _log.warning("skipped %s: %s", day.name, error)
        if not writer.finished:
            raise DataError(
                f"expected at least one readable day, found none: {'; '.join(problems.values())}"
            )
        writer.extra[ITEM] = "video"
        writer.extra["notes"] = _notes(writer.finished, problems, days_between(all_days), time_zone)
        writer.extra["days_left_out"] = dict(sorted(problems.items()))


def _check_options(
    stages: int,
    per_level: int | None,
    full_lists: bool,  # noqa: FBT001
    time_zone: str,
    buckets: Mapping[str, int],
) -> None:
    mistakes = []
    if stages not in LEVELS:
        mistakes.append(f"stages must be {' or '.join(map(str, LEVELS))}; got {stages}")
    if per_level is not None and per_level < 1:
        mistakes.append(f"per_level must be at least 1, or 'all'; got {per_level}")
    if full_lists and per_level is None:
        mistakes.append("full_lists needs a number of candidates per level; got per_level = 'all'")
    if mistake := time_zone_mistake(time_zone):
        mistakes.append(mistake)
    schema = recflow_schema({}, users=True)
    vocabularies = list(dict.fromkeys(f.vocabulary for f in schema.features))
    for vocabulary, count in buckets.items():
        if vocabulary not in vocabularies:
            mistakes.append(
                f"buckets: no vocabulary '{vocabulary}'{did_you_mean(vocabulary, vocabularies)}; "
                f"expected one of {abridged(vocabularies, 20)}"
            )
        elif not 1 <= count <= MOST_BUCKETS:
            mistakes.append(
                f"buckets: '{vocabulary}' must be from 1 to {MOST_BUCKETS:,}; got {count:,}"
            )
    if mistakes:
        raise ConfigError("; ".join(mistakes))


def _has_users(day: Day) -> bool:
    return IDENTITY in column_names(day.candidates)


def _byte_counter(days: Sequence[Day], progress: Progress | None) -> Callable[[int], None]:
    """Return a callback that adds processed bytes to a total and reports it to ``progress``."""
    total, done = sum(sum(day.sizes) for day in days), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return advance


def _notes(
    finished: Mapping[str, Mapping[str, JsonValue]],
    problems: Mapping[str, str],
    absent: Sequence[str],
    time_zone: str,
) -> dict[str, JsonValue]:
    totals: Counter[str] = Counter()
    for counts in finished.values():
        totals.update({what: n for what, n in counts.items() if isinstance(n, int)})
    return {
        "days": len(finished),
        "days_left_out": [*sorted(problems)],
        "dates_without_files": list(absent),
        "time_zone": time_zone,
        **totals,
    }
