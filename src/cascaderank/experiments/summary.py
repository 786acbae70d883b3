"""What a comparison found: the values of every method's runs, judged beside one another."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.config import RunSettings
from cascaderank.errors import DataError
from cascaderank.evaluation import bootstrap_interval

Floats = NDArray[np.float64]


@final
@dataclass
class MethodRuns:
    """What was seen of one method: per-request values, costs, and how it was tuned."""

    values: defaultdict[int, defaultdict[str, list[Floats]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    """By seed, then by metric: one array over test requests per fold, folds in order."""
    seconds: list[float] = field(default_factory=list)
    """Of training, one per judged run; empty for a baseline."""
    peak_memory: list[int] = field(default_factory=list)
    """Bytes, one per judged run; empty for a baseline."""
    tuning: list[dict[str, Any]] = field(default_factory=list)
    """One per fold: ``{"chosen": {...}, "tried": [{"values": {...}, "validation": ..,
    "seconds": ..}], "at_edge": [...]}``; ``at_edge`` names the settings whose chosen value is the
    lowest or the highest that was tried."""


@final
@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """How one method did, over all folds and seeds."""

    name: str
    joint_recall: float
    """Mean over test requests of the mean over seeds."""
    low: float
    """Lower end of the 95 % interval over requests."""
    high: float
    """Upper end of the 95 % interval over requests."""
    seed_deviation: float | None
    """Standard deviation over seeds of the mean over requests; ``None`` of one seed."""
    stage_recall: dict[str, float]
    """By stage: recall of the ground truth in the top of the whole list, as many as its quota."""
    share_of_ceiling: float | None
    """Joint recall over the ceiling; ``None`` if the ceiling is 0."""
    gain: float | None
    """Joint recall over that of the first trained method, as a difference."""
    gain_low: float | None
    gain_high: float | None
    seconds: float | None
    """Of training, a mean over runs; ``None`` of a baseline."""
    tuning: list[dict[str, Any]]
    """By fold: what was tried and chosen; see :class:`MethodRuns`."""


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Methods beside one another."""

    dataset: str
    requests: int
    """Test requests with ground truth, over all folds."""
    undefined: int
    """Test requests without ground truth, which no method can be judged by."""
    folds: int
    seeds: int
    ceiling: float
    """The best joint recall that can be had."""
    ceiling_kind: str
    """``"planted"``: of a cascade that knows the planted preferences as far as its stages can;
    ``"quotas"``: of a perfect cascade, which misses only what the last quota cuts."""
    methods: list[MethodResult]

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
        return asdict(self)


def summarise(
    settings: RunSettings,
    runs: Mapping[str, MethodRuns],
    *,
    dataset: str,
    fold_names: Sequence[str],
    planted: object = None,
) -> Comparison:
    """Judge methods by what was seen of their runs.

    Args:
        settings: of the comparison.
        runs: by name of the method, baselines first; all over the same requests. A method whose
            runs took no seconds is a baseline.
        dataset: what the data set is called.
        fold_names: one per fold, such as ``"fold 0"`` or ``"day 2024-01-09"``.
        planted: what the manifest of a synthetic log has under that name: its quotas, the size of
            its ground truth and its best reachable joint recall. ``None`` of any other log.

    Returns:
        The methods in the order of ``runs``.

    Raises:
        DataError: if no test request has ground truth.
    """

    def over_seeds(name: str, metric: str) -> Floats:
        """``[seeds, requests]``."""
        values = runs[name].values
        return np.stack([np.concatenate(values[seed][metric]) for seed in sorted(values)])

    trained = [name for name, seen in runs.items() if seen.seconds]
    first = trained[0]
    reachable = over_seeds(first, "reachable")[0]
    defined = ~np.isnan(reachable)
    if not defined.any():
        raise DataError(
            f"{settings.data.path}: no test request has ground truth to be judged by; look at "
            "relevance and data.target in the config"
        )
    ceiling, kind = float(np.nanmean(reachable)), "quotas"
    if isinstance(planted, Mapping) and _planted_for(settings, planted):
        ceiling, kind = float(planted["joint_recall"]), "planted"
    reference = over_seeds(first, "joint_recall").mean(0)
    draws, seed = settings.evaluation.bootstrap, settings.evaluation.seed
    methods = []
    for name, seen in runs.items():
        joint = over_seeds(name, "joint_recall")
        interval = bootstrap_interval(joint.mean(0), resamples=draws, seed=seed)
        gain = None
        if name in trained and name != first:
            gain = bootstrap_interval(joint.mean(0) - reference, resamples=draws, seed=seed)
        methods.append(
            MethodResult(
                name=name,
                joint_recall=interval.mean,
                low=interval.low,
                high=interval.high,
                seed_deviation=float(np.nanmean(joint, 1).std(ddof=1)) if len(joint) > 1 else None,
                stage_recall={
                    stage: float(np.nanmean(over_seeds(name, f"recall/{stage}")))
                    for stage in settings.stages
                },
                share_of_ceiling=interval.mean / ceiling if ceiling else None,
                gain=gain.mean if gain else None,
                gain_low=gain.low if gain else None,
                gain_high=gain.high if gain else None,
                seconds=float(np.mean(seen.seconds)) if seen.seconds else None,
                tuning=seen.tuning,
            )
        )
    return Comparison(
        dataset=dataset,
        requests=int(defined.sum()),
        undefined=int((~defined).sum()),
        folds=len(fold_names),
        seeds=max(len(runs[name].values) for name in trained),
        ceiling=ceiling,
        ceiling_kind=kind,
        methods=methods,
    )


def _planted_for(settings: RunSettings, planted: Mapping[str, Any]) -> bool:
    """Whether the planted ceiling is that of these quotas and this ground truth."""
    return (
        list(planted["quotas"]) == list(settings.quotas)
        and planted["ground_truth"] == settings.relevance.top
        and settings.data.target == "funnel"
    )
