"""RecFlow in its official layout: a funnel of a video service, logged at every stage."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal
from zoneinfo import available_timezones

import polars as pl
from pydantic import JsonValue

from cascaderank.data.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress
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
from cascaderank.data.sources._recflow.level_sampling import LEVELS, choose_candidates, key_columns
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.schema import abridged

_log = logging.getLogger(__name__)


@SOURCES.register
def recflow_source(
    from_: Inputs,
    to: Path,
    *,
    stages: int = 2,
    per_level: int | Literal["all"] = 10,
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
    r"""Make a request log from the files of RecFlow; the data set is not part of this library.

    Read are ``all_stage/DAY.feather`` (candidates, levels, feedback) and
    ``seq_effective_50_dict/DAY.pkl`` (what the user saw before). The other folders hold the same
    again, or what training does not need, and are not opened. Pickles are read by an unpickler that
    builds arrays of numbers and runs nothing.

    Days are written one after another. A command that was killed or stopped at a bad file goes on,
    given again, with the first day that is not written, and ends with the same bytes.

    Features of the request are ``weekday`` (1 is Monday), ``hour``, ``minute``, ``user`` (if there
    is a column ``user_id``), ``device``, ``gender``, ``age`` and ``province``; of the history
    ``history_video``, ``history_author``, ``history_category_one``, ``history_category_two`` and
    ``history_upload_type``, oldest first; of the candidate ``video``, ``author``,
    ``category_one``, ``category_two``, ``upload_type``, ``upload_weekday``, ``upload_hour`` and
    ``upload_minute``. All are categorical, and a history shares its codes with the candidates.

    A candidate's level is the highest of the view whose flag is set, and its position is the rank
    of its ``rank_index`` (``rerank_index`` in the levels of re-ranking) in that level, 1 for the
    smallest. Positions in the lowest two levels are unknown.

    Args:
        from_: the one folder that holds ``all_stage`` and ``seq_effective_50_dict``.
        to: folder of the request log to write.
        stages: of the cascade that is to be learnt: with 2, the levels are ``prerank_neg``,
            ``coarse_neg``, ``rank_neg`` and ``rank_pos``; with 3, ``rerank_neg`` and
            ``rerank_pos`` come after ``rank_neg``.
        per_level: candidates of each level and request to draw by chance; ``"all"`` for all.
        seed: of the draw. Equal seeds draw the same, in whatever order the rows are.
        feedback: column that tells what the user did with a candidate.
        label: column that becomes the explicit relevance; not given, there is none.
        time_zone: in which weekdays, hours and minutes are told; never that of the machine.
        buckets: of vocabularies that are hashed, into how many, such as ``{video = 1000000}``.
        skip_bad_days: leave out days whose files are missing or damaged, and tell about them,
            instead of stopping.
        name: of the data set; not given, that of the folder ``to``.
        overwrite: replace a request log that is there.
        progress: called with bytes read and bytes in all.

    Raises:
        ConfigError: if an option is out of range, or there is no such time zone or vocabulary.
        DataError: if this is not RecFlow's layout, or for all days with missing, truncated or
            wrong files, at once and before any work; later, for a file that is damaged inside.

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
    _check_options(stages, most, time_zone, hashed)
    marks = {"feedback": feedback, **({"label": label} if label else {})}
    found = find_days(from_)
    columns = list(dict.fromkeys([*key_columns(stages), *TIMES, *USER, *VIDEO, *marks.values()]))
    problems = {day.name: text for day in found if (text := day_problem(day, columns))}
    if problems and not skip_bad_days:
        raise DataError(
            f"{len(problems)} of {len(found)} days cannot be read: {'; '.join(problems.values())} "
            "(or say skip_bad_days=true to leave these days out)"
        )
    days = [day for day in found if day.name not in problems]
    if not days:
        raise DataError(f"no day can be read: {'; '.join(problems.values())}")
    users = _has_users(days[0])
    schema = recflow_schema(hashed, users=users)
    options = json.dumps([stages, per_level, seed, marks, time_zone, schema.model_dump_json()])
    advance = _byte_counter(found, progress)
    for name_of, text in problems.items():
        _log.warning("left out %s: %s", name_of, text)
        advance(sum(next(d for d in found if d.name == name_of).sizes))

    def write_day(writer: RequestLogWriter, day: Day) -> None:
        rows, lists = day.sizes
        taken, counts = choose_candidates(day, stages=stages, per_level=most, seed=seed)
        advance(rows // 2)
        candidates = read_taken(day, taken, users=users, marks=marks, time_zone=time_zone)
        del taken
        advance(rows - rows // 2)
        histories = read_histories(day)
        counts["requests_without_history"] = 0
        for frame in request_frames(day, candidates, histories, schema):
            without = frame["history_video"].list.len() == 0
            counts["requests_without_history"] += int(without.sum())
            writer.write(frame, day=day.date)
        writer.finish(day.name, {**counts})
        advance(lists)

    with RequestLogWriter(
        to,
        name=name or to.name,
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
                        f"{day.name}: {error} (days written so far are kept: give the same command "
                        "again to go on, or say skip_bad_days=true to leave this day out)"
                    ) from None
                writer.discard()
                problems[day.name] = str(error)
                _log.warning("left out %s: %s", day.name, error)
        if not writer.finished:
            raise DataError(f"no day can be read: {'; '.join(problems.values())}")
        writer.extra["notes"] = _notes(writer.finished, problems, days_between(found), time_zone)
        writer.extra["days_left_out"] = dict(sorted(problems.items()))


def _check_options(
    stages: int, per_level: int | None, time_zone: str, buckets: Mapping[str, int]
) -> None:
    mistakes = []
    if stages not in LEVELS:
        mistakes.append(f"stages must be {' or '.join(map(str, LEVELS))}; got {stages}")
    if per_level is not None and per_level < 1:
        mistakes.append(f"per_level must be at least 1, or 'all'; got {per_level}")
    try:
        # polars has its own time zones: what it takes does not depend on the machine.
        pl.Series([0]).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(time_zone)
    except pl.exceptions.PolarsError:
        zones: set[str] = set()
        with suppress(OSError):  # the machine may have none
            zones = available_timezones()
        mistakes.append(
            f"no time zone called '{time_zone}'{did_you_mean(time_zone, zones)}; expected a name "
            "such as Asia/Shanghai or UTC"
        )
    schema = recflow_schema({}, users=True)
    vocabularies = list(dict.fromkeys(f.vocabulary for f in schema.features))
    for vocabulary, count in buckets.items():
        if vocabulary not in vocabularies:
            mistakes.append(
                f"buckets: no vocabulary '{vocabulary}'{did_you_mean(vocabulary, vocabularies)}; "
                f"there are {abridged(vocabularies, 20)}"
            )
        elif count < 1:
            mistakes.append(f"buckets: '{vocabulary}' needs at least 1; got {count}")
    if mistakes:
        raise ConfigError("; ".join(mistakes))


def _has_users(day: Day) -> bool:
    return IDENTITY in column_names(day.candidates)


def _byte_counter(days: Sequence[Day], progress: Progress | None) -> Callable[[int], None]:
    """Return what adds up the bytes of files that are done, and tells ``progress``."""
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
    for told in finished.values():
        totals.update({what: n for what, n in told.items() if isinstance(n, int)})
    return {
        "days": len(finished),
        "days_left_out": [*sorted(problems)],
        "dates_without_files": list(absent),
        "time_zone": time_zone,
        **totals,
    }
