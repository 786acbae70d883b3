"""Settings that depend on the request log: the default target, and notices about the split."""

from collections.abc import Iterator

from cascaderank.data.labels import Target, default_target
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import FoldSplit, RequestSplit, given_folds
from cascaderank.errors import DataError
from cascaderank.settings.run import RunSettings


def target_of(settings: RunSettings, log: RequestLog) -> Target:
    """Return the target of a run: that of its settings, or else the default for its log.

    Args:
        settings: settings of the run.
        log: request log of the run; only its manifest is read.
    """
    if settings.data.target is not None:
        return settings.data.target
    suggested = log.manifest.extra.get("suggested")
    return default_target(
        log.manifest.columns, suggested.get("target") if isinstance(suggested, dict) else None
    )


def resolved(settings: RunSettings, log: RequestLog) -> RunSettings:
    """Return the settings with the target that the run uses, so that its files record it.

    Args:
        settings: settings of the run.
        log: request log of the run; only its manifest is read.
    """
    if settings.data.target is not None:
        return settings
    return settings.changed({"data.target": target_of(settings, log)})


def notices(settings: RunSettings, log: RequestLog) -> Iterator[str]:
    """Yield what a user should see before training, each as one line.

    Args:
        settings: settings of the run, as read from its config.
        log: request log of the run; only its manifest is read.
    """
    target = target_of(settings, log)
    if settings.data.target is None and target != "funnel":
        yield (
            f'data.target is "{target}", by default for {log.path}, which has '
            f"{'no levels' if 'level' not in log.manifest.columns else 'levels without positions'}"
        )
    split = settings.data.split
    if isinstance(split, FoldSplit | RequestSplit) and (parts := _official_parts(log)):
        yield (
            f'data.split.by = "{split.by}" assigns requests at random, but {log.path} comes with '
            f'{parts}; to use them, set data.split = {{ by = "given" }}'
        )


def _official_parts(log: RequestLog) -> str:
    """Describe the parts that the data is published as; an empty string if there are none."""
    try:
        folds = given_folds(log)
    except DataError:
        return ""
    if folds:
        return f"{folds} official folds"
    return f"official parts ({', '.join(sorted({str(p.given) for p in log.manifest.parts}))})"
