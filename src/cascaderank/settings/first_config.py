"""A commented config for a data set, as `cascaderank init` writes it."""

import json
import os
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cascaderank.data.labels import Target, default_target
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import given_folds, split_requests
from cascaderank.errors import DataError, counted
from cascaderank.schema import Kind, Role, abridged
from cascaderank.settings.first_rules import (
    Truth,
    meaning_of,
    quotas_for,
    targets_of,
    truth_of,
)
from cascaderank.settings.log_facts import LogFacts, facts_of
from cascaderank.settings.run import TrainSettings, check_settings

_FEWEST_DAYS = 5  # one to test, one to validate, and three to train
_FEW_REQUESTS = 1000
_TRAIN = ("epochs", "batch_size", "learning_rate", "weight_decay", "patience", "device")
_WIDTH = 96


def first_config(log: RequestLog, *, to: str | os.PathLike[str]) -> str:
    """Return a config for a log that can be trained without changes, as TOML with comments.

    The rules are a starting point, and each is written as a comment beside its setting:

    - target: what the source of the log suggests, or else the first of ``funnel``, ``level``,
      ``label`` and ``feedback`` that the log has the columns for;
    - ground truth: for a funnel, as many candidates as reach its highest level (the median over
      requests); for at most 12 distinct labels, a threshold: the highest level, 2 of grades up to
      3 or more, or the lowest label above 0, and less if fewer than half of the requests have
      such a label; for other labels, an eighth of the median length of the lists;
    - quotas: half and a quarter of the median length of the lists; or, if the ground truth of the
      median request has more candidates than that quarter, its size, but less than the whole list,
      and half of the other candidates more;
    - stages: a cheap one (``two_tower`` if there are features of requests, else ``linear``), and
      an ``mlp``; if the log has a table of all items, the first stage uses its columns alone, so
      that it can search all items;
    - split: the parts that the data is published in; by day if there are at least five days;
      random otherwise.

    A synthetic funnel has the stages, quotas and ground truth that its planted ceiling is for.

    Args:
        log: request log; its path is ``data.path`` of the config.
        to: file that the config will be written to, for its header.

    Raises:
        DataError: if the log has no column that labels can be computed from, no label above 0, no
            features of candidates, only lists of one candidate, or too few requests to split.

    Examples:
        >>> import tempfile
        >>> from cascaderank.data.sources import SOURCES
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     SOURCES["synthetic"]((), Path(folder) / "log", requests=20, users=9, items=200)
        ...     text = first_config(RequestLog.open(Path(folder) / "log"), to="mine.toml")
        >>> list(tomllib.loads(text))
        ['data', 'relevance', 'stages', 'objective', 'train', 'compare']
    """
    columns = log.manifest.columns
    suggested = log.manifest.extra.get("suggested")
    target = default_target(
        columns, suggested.get("target") if isinstance(suggested, dict) else None
    )
    facts = facts_of(log, target)
    _check(log, facts)
    planted, truth = _planted(log, target), truth_of(log, facts, target)
    quotas = planted["quotas"] if planted else quotas_for(facts.median_length, truth.size)
    targets = targets_of(log)
    sections = [
        _header(log, facts, to),
        _data(log, target, targets),
        _relevance(log, truth, target, targets, quotas[-1], planted),
        _stages(log, facts, truth, quotas, planted),
        _catalogue(log),
        _objective(),
        _train(),
        _compare(log),
    ]
    text = "\n\n".join("\n".join(lines) for lines in map(list, sections) if lines) + "\n"
    settings = check_settings(tomllib.loads(text))
    split_requests(log, settings.data.split)  # raises if there are too few requests
    return text


def _check(log: RequestLog, facts: LogFacts) -> None:
    if not log.schema.of(Role.ITEM):
        raise DataError(
            f"{log.path}: expected features of candidates, found none, so no stage can score "
            "them; prepare the data set with features"
        )
    if facts.lengths.max() < 2:
        raise DataError(
            f"{log.path}: expected lists of candidates, found one candidate in every request, so "
            "there is nothing to rank; check the column that identifies requests"
        )


def _planted(log: RequestLog, target: str) -> dict[str, Any] | None:
    """Return stages, quotas and ground truth of a synthetic funnel; ``None`` for other logs."""
    planted = log.manifest.extra.get("planted")
    return planted if isinstance(planted, dict) and target == "funnel" else None


def _lengths(facts: LogFacts) -> str:
    least, most = int(facts.lengths.min()), int(facts.lengths.max())
    if least == most:
        return f"all lists have {counted(most, 'candidate')}"
    return f"lists have {least:,} to {most:,} candidates, the median has {facts.median_length:,}"


def _header(log: RequestLog, facts: LogFacts, to: str | os.PathLike[str]) -> Iterator[str]:
    manifest = log.manifest
    yield from _comment(
        f"Settings for the data set '{manifest.name}', a starting point that `cascaderank init` "
        "derived from it. Settings that are not here have defaults; the run folder lists all of "
        "them in its config.toml."
    )
    yield "#"
    yield f"#   cascaderank train {Path(to).as_posix()}"
    yield f"#   cascaderank compare {Path(to).as_posix()}"
    yield "#"
    yield from _comment(
        f"{counted(manifest.requests, 'request')}, {counted(manifest.candidates, 'candidate')}; "
        f"{_lengths(facts)}."
    )


def _data(log: RequestLog, target: str, targets: Mapping[str, Target]) -> Iterator[str]:
    yield "[data]"
    yield f"path = {_string(log.path.as_posix())}"
    yield from _comment(
        "Definition of the labels, higher is better. This data set has the columns for:"
    )
    for text, possible in targets.items():
        yield from _entry(f"{text}: {meaning_of(possible)}")
    yield f'target = "{target}"'
    yield from _split(log)


def _split(log: RequestLog) -> Iterator[str]:
    try:
        folds = given_folds(log)
    except DataError:
        days = len({part.day for part in log.manifest.parts if part.day is not None})
        yield from _random_split(log.manifest.requests) if days < _FEWEST_DAYS else _day_split(days)
        return
    if folds:
        yield from _comment(
            f"The {folds} folds that the data is published in: fold 0 tests, the one before it "
            "validates. `cascaderank compare` runs all folds."
        )
        yield 'split = { by = "given", fold = 0 }'
    else:
        yield from _comment("The parts that the data is published in.")
        yield 'split = { by = "given" }'


def _day_split(days: int) -> Iterator[str]:
    yield from _comment(f"The last of {days} days tests, the one before it validates.")
    yield 'split = { by = "day", validation_days = 1, test_days = 1 }'


def _random_split(requests: int) -> Iterator[str]:
    part = 0.2 if requests < _FEW_REQUESTS else 0.1
    yield from _comment(
        "Requests are assigned at random. With few requests, cross-validation is more precise: "
        'split\xa0=\xa0{\xa0by\xa0=\xa0"fold",\xa0folds\xa0=\xa05\xa0}.'
    )
    yield f'split = {{ by = "request", validation = {part}, test = {part}, seed = 0 }}'


def _relevance(
    log: RequestLog,
    truth: Truth,
    target: str,
    targets: Mapping[str, Target],
    last: int,
    planted: dict[str, Any] | None,
) -> Iterator[str]:
    yield "[relevance]"
    yield from _comment(
        "Ground truth: the candidates that the cascade should return. Either `top`, the number of "
        "candidates with the highest labels, or `threshold`, their smallest label."
    )
    if planted:
        yield f"top = {planted['ground_truth']} # that of the synthetic funnel"
    else:
        limited = truth.setting == "top" and truth.value > last
        yield from _comment(f"{truth.reason} At most the last quota." if limited else truth.reason)
        yield truth.within(last)
    others = {text: other for text, other in targets.items() if other != target}
    if others:
        yield from _comment("With another target, the same rules lead to:")
    for text, other in others.items():
        try:
            rule = truth_of(log, facts_of(log, other), other).within(last)
        except DataError:
            rule = "no ground truth, since no label is above 0"
        yield from _entry(f"{text}: {rule}")


def _stages(
    log: RequestLog,
    facts: LogFacts,
    truth: Truth,
    quotas: Sequence[int],
    planted: dict[str, Any] | None,
) -> Iterator[str]:
    rule = "Half and a quarter of the median length of the lists."
    if facts.median_length < 4:
        rule = "Half and a quarter of the median length of the lists, at least 2 and 1."
    if quotas[-1] > max(1, facts.median_length // 4):
        rule = (
            "The last quota is the size of the ground truth in the median request, which has "
            f"{counted(truth.size, 'candidate')}, but less than the whole list; the first has room "
            "for half of the others, too."
        )
    if planted:
        rule = "Those of the synthetic funnel, whose best possible recall is known for them."
    yield from _comment(
        "Stages of the cascade, the cheapest first. A stage passes its `quota` of best candidates "
        f'on to the next. {rule} `features` are names or shell patterns; "!" excludes a '
        "pattern. A first stage usually has only what is cheap to compute for many candidates."
    )
    if (uncut := float((facts.lengths <= quotas[-1]).mean())) >= 0.1:
        yield from _comment(
            f"In {uncut:.0%} of the requests the list is not longer than the last quota, so that "
            "no stage drops a candidate."
        )
    for role in Role:
        if names := [f.name for f in log.schema.of(role)]:
            yield from _comment(f"features of {_ROLES[role]}: {abridged(names, 20)}")
    few = log.manifest.requests < _FEW_REQUESTS
    hidden = "[64, 32]" if few else "[128, 64, 32]"
    names = [stage["name"] for stage in planted["stages"]] if planted else ["retrieval", "ranking"]
    for number, (name, quota) in enumerate(zip(names, quotas, strict=True)):
        first = number == 0
        patterns = _first_features(log) if first else ["*"]
        if planted:
            patterns = _patterns(log, planted["stages"][number]["features"])
        own = {f.role for f in log.schema.select(patterns)}
        model = "mlp"
        if first:
            model = "two_tower" if {Role.REQUEST, Role.HISTORY} & own else "linear"
        yield ""
        yield f"[stages.{name}]"
        yield f'model = "{model}" # {_MODELS[model]}'
        yield f"quota = {quota}"
        yield f"features = [{', '.join(map(_string, patterns))}]"
        if model != "linear":
            yield f"hidden = {hidden}"
            yield f"dropout = {0.1 if few else 0.0}"


_ROLES = {Role.REQUEST: "requests", Role.ITEM: "candidates", Role.HISTORY: "histories"}
_MODELS = {
    "two_tower": "dot product of a request vector and a candidate vector",
    "linear": "weighted sum of features",
    "mlp": "perceptron over request and candidate; `cascaderank ls stages` lists others",
}


def _first_features(log: RequestLog) -> list[str]:
    """Return the features of the first stage: if there is a table of items, those of its columns.

    Items outside of a request have no other features, and the stage can then search all items.
    """
    items = log.catalogue()
    if items is None:
        return ["*"]
    used = [f.name for f in log.schema.features if f.role is not Role.ITEM]
    return _patterns(log, [*used, *items.columns])


def _patterns(log: RequestLog, names: Iterable[str]) -> list[str]:
    """Return patterns that match the given features and no others."""
    chosen = set(names)
    if chosen >= set(log.schema.names):
        return ["*"]
    excluded = [_pattern(name) for name in log.schema.names if name not in chosen]
    included = [_pattern(name) for name in log.schema.names if name in chosen]
    return ["*", *(f"!{p}" for p in excluded)] if len(excluded) < len(included) else included


def _pattern(name: str) -> str:
    """Return a shell pattern that matches one name."""
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in name)
    return f"?{escaped[1:]}" if escaped.startswith("!") else escaped


def _catalogue(log: RequestLog) -> Iterator[str]:
    items = log.catalogue()
    if items is None:
        return
    ids = [f.name for f in log.schema.of(Role.ITEM, Kind.CATEGORICAL) if f.name in items.columns]
    unique = [name for name in ids if items[name].n_unique() == items.height]
    if not unique:
        return
    yield "[catalogue]"
    yield from _comment(
        f"The data set has a table of {items.height:,} items. The first stage is also evaluated "
        "by its search of all of them."
    )
    yield f"item = {_string(unique[0])}"
    if users := [f.name for f in log.schema.of(Role.REQUEST, Kind.CATEGORICAL)]:
        yield from _comment(
            "Feature that identifies users; what a user liked in training is left out of the lists."
        )
        yield f"# user = {_string(users[0])}"


def _objective() -> Iterator[str]:
    yield "[objective]"
    yield from _comment(
        "`lcron` trains all stages together, `bce` each on its own; `cascaderank ls objectives` "
        "lists all."
    )
    yield 'name = "lcron"'


def _train() -> Iterator[str]:
    yield "[train]"
    yield from _comment("Defaults; remove the # to change one.")
    for name in _TRAIN:
        if (option := TrainSettings.model_fields.get(name)) is None:
            continue
        default = option.get_default(call_default_factory=True)
        if isinstance(default, int | float | str):
            yield from _comment(str(option.description))
            yield f"# {name} = {_string(default) if isinstance(default, str) else default}"


def _compare(log: RequestLog) -> Iterator[str]:
    baselines = ["random"]
    if log.schema.of(Role.ITEM, Kind.NUMERIC):
        baselines.append("best_feature")
    yield "[compare]"
    yield from _comment("Settings of `cascaderank compare`; the grid is tuned on validation data.")
    yield 'objectives = ["bce", "lcron"]'
    yield "seeds = 3"
    yield f"baselines = [{', '.join(map(_string, baselines))}]"
    yield ""
    yield '[compare.grid."*"]'
    yield '"train.learning_rate" = [0.003, 0.01, 0.03]'


def _entry(text: str) -> list[str]:
    """Return an entry of a list in a comment."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="#   ",
        subsequent_indent="#     ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _string(text: str) -> str:
    """Return a string as TOML."""
    return json.dumps(text, ensure_ascii=False)


def _comment(text: str) -> Iterator[str]:
    line = "#"
    for word in text.split(" "):
        if len(line) + 1 + len(word) > _WIDTH and line != "#":
            yield line
            line = "#"
        line += " " + word.replace("\xa0", " ")
    yield line
