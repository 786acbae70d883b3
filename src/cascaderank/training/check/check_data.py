"""Check a data set, and a config for it, before training."""

import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import polars as pl
import torch

from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import split_requests
from cascaderank.errors import CascadeRankError
from cascaderank.progress import Progress, Silent
from cascaderank.runs.build import build_cascade, build_run_objective
from cascaderank.runs.data import check_lists, check_log, check_weights
from cascaderank.runs.log_defaults import notices, resolved
from cascaderank.runs.seeding import deterministic
from cascaderank.settings.first_config import first_config
from cascaderank.settings.run import RunSettings, check_settings
from cascaderank.training.check.candidate_checks import candidate_findings
from cascaderank.training.check.feature_checks import feature_findings
from cascaderank.training.check.findings import (
    Finding,
    Severity,
    by_severity,
    error,
    note,
    warning,
)
from cascaderank.training.check.leak_checks import leak_findings
from cascaderank.training.check.sample import Sample, read_sample
from cascaderank.training.check.scale_checks import scale_findings
from cascaderank.training.check.time_checks import split_findings, time_findings
from cascaderank.training.domain_checks import check_domains
from cascaderank.training.evaluate_run import try_metrics
from cascaderank.training.number_warnings import number_warnings
from cascaderank.training.run_warnings import data_warnings


@final
@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """Result of a check."""

    dataset: str
    """Name of the data set."""
    requests: int
    """Number of requests of the data set."""
    read: int
    """Number of requests whose features and labels were read."""
    findings: tuple[Finding, ...]
    """What was found, the most severe first."""

    @property
    def failed(self) -> bool:
        """Whether there is a finding of severity ``error``."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    def to_json(self) -> dict[str, object]:
        """Return the result as JSON values; its keys are stable."""
        return {
            "dataset": self.dataset,
            "requests": self.requests,
            "read": self.read,
            "findings": [finding.to_json() for finding in self.findings],
        }


def check_data(
    log: RequestLog, settings: RunSettings | None = None, *, progress: Progress | None = None
) -> DataCheck:
    """Check a request log and settings for it, as an experienced colleague would before training.

    The schema is fitted to all training requests, as training does. All else is computed from a
    sample of at most 6,500 requests, drawn with a fixed seed, so that memory is bounded. The
    warnings of training that need no trained model are among the findings.

    Args:
        log: request log; ``data.path`` of the settings is not used.
        settings: settings of a run; by default those that ``cascaderank init`` would write.
        progress: receives the progress of the checks.

    Returns:
        The findings. Data and settings that training would refuse are a finding of severity
        ``error``.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cascaderank.data.sources import SOURCES
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     SOURCES["synthetic"]((), Path(folder) / "log", requests=300, users=50, items=200)
        ...     check = check_data(RequestLog.open(Path(folder) / "log"))
        >>> check.read, check.failed
        (300, False)

    Source: this project.
    """
    progress = progress or Silent()
    found: list[Finding] = []
    read = 0
    progress.start("checking", log.manifest.requests)
    with _refusals(found):
        if settings is None:
            settings = check_settings(tomllib.loads(first_config(log, to="config.toml")))
        found += [note("defaults", f"{text}.") for text in notices(settings, log)]
        settings = resolved(settings, log)
        check_log(settings, log)
        split = split_requests(log, settings.data.split)
        found += split_findings(settings, log)
        found += scale_findings(settings, log, len(split.train))
        frames = log.frames(rows=split.train)
        schema = fit_schema(log.schema, _counted(frames, progress))
        with read_sample(settings, log, split, schema) as sample:
            read = sample.frame.height
            found += _of_sample(settings, sample)
    progress.stop()
    return DataCheck(
        dataset=log.manifest.name,
        requests=log.manifest.requests,
        read=read,
        findings=by_severity(found),
    )


def _counted(frames: Iterator[pl.DataFrame], progress: Progress) -> Iterator[pl.DataFrame]:
    for frame in frames:
        yield frame
        progress.advance(frame.height)


def _of_sample(settings: RunSettings, sample: Sample) -> list[Finding]:
    found: list[Finding] = []
    data = sample.data
    refused = error if sample.whole else warning  # other requests may be what is missing
    for check in (check_lists, lambda _, data: check_weights(data)):
        with _refusals(found, refused):
            check(settings, data)
    with _refusals(found):
        build_run_objective(settings, data.log)
        with deterministic(0, torch.device("cpu")):
            cascade = build_cascade(settings, data.schema)
        try_metrics(settings, data)
        with _refusals(found, refused):
            check_domains(settings, data, cascade)
    checks: tuple[Callable[[RunSettings, Sample], Iterator[Finding]], ...] = (
        leak_findings,
        candidate_findings,
        time_findings,
        feature_findings,
    )
    for of_checks in checks:
        with _refusals(found):
            found += of_checks(settings, sample)
    with _refusals(found):
        found += [warning("settings", text) for text in data_warnings(settings, data)]
        found += [warning("numbers", text) for text in number_warnings(settings, data)]
    return found


@contextmanager
def _refusals(
    found: list[Finding], severity: Callable[[str, str], Finding] = error
) -> Iterator[None]:
    """Add an error of the library to the findings instead of raising it."""
    try:
        yield
    except CascadeRankError as refused:
        found.append(severity("refused", f"{refused}."))
