"""Serving cost of a cascade: operation counts, and latencies on this machine."""

import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.errors import ConfigError, counted
from cascaderank.limits import check_fits
from cascaderank.previous import schema_with_previous
from cascaderank.schema import Feature, FittedSchema, Kind, Role
from cascaderank.stages import LookUps, MultiplyAdds, look_ups, multiply_adds

_MISSING_RATE = 0.1  # share of missing values in synthetic features that allow them
_WARM_UP_CALLS, _MIN_CALLS, _MAX_CALLS = 3, 5, 1000


@final
@dataclass(frozen=True, kw_only=True)
class Timing:
    """Latency of calls that each score a batch of requests."""

    requests: int
    """Requests in each call."""
    candidates: int
    """Candidates of each request."""
    calls: int
    """Number of timed calls. With fewer than 100, ``p99`` is close to the slowest call."""
    p50: float
    """Median latency of a call, in seconds."""
    p99: float
    """99th percentile of the latency of a call, in seconds."""

    @property
    def microseconds_per_candidate(self) -> float:
        """Median latency of a call divided by its number of candidates, in microseconds."""
        return 1e6 * self.p50 / (self.requests * self.candidates)

    @property
    def candidates_per_second(self) -> float:
        """Throughput of consecutive calls of median latency."""
        return self.requests * self.candidates / self.p50

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict; times are in seconds unless the key names a unit."""
        return {
            **asdict(self),
            "microseconds_per_candidate": self.microseconds_per_candidate,
            "candidates_per_second": self.candidates_per_second,
        }


@final
@dataclass(frozen=True, kw_only=True)
class StageProfile:
    """Serving cost of one stage."""

    model: str
    """Class name of the stage."""
    parameters: int
    """Number of parameters."""
    multiply_adds: MultiplyAdds
    look_ups: LookUps
    timings: tuple[Timing, ...]
    """Latencies, single requests first, then batches; each in ascending order of list length."""


@final
@dataclass(frozen=True, kw_only=True)
class Walk:
    """Cost of one request through the cascade: each stage scores what the previous stage keeps."""

    candidates: int
    """Number of input candidates of the first stage."""
    multiply_adds: int
    look_ups: int
    timing: Timing
    """Latency of scoring alone, without the top-k selection between stages."""


@final
@dataclass(frozen=True, kw_only=True)
class Profile:
    """Serving cost of a cascade, per stage and in total."""

    stages: Mapping[str, StageProfile]
    walks: tuple[Walk, ...]
    """In ascending order of the number of input candidates."""
    history: int
    """Number of entries of each history."""
    threads: int
    """Number of threads used by PyTorch."""
    machine: str

    @property
    def parameters(self) -> int:
        """Number of parameters of all stages."""
        return sum(stage.parameters for stage in self.stages.values())

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict."""
        return {
            "machine": self.machine,
            "threads": self.threads,
            "history": self.history,
            "parameters": self.parameters,
            "stages": {
                name: {
                    "model": stage.model,
                    "parameters": stage.parameters,
                    "multiply_adds": asdict(stage.multiply_adds),
                    "look_ups": asdict(stage.look_ups),
                    "timings": [timing.to_json() for timing in stage.timings],
                }
                for name, stage in self.stages.items()
            },
            "walks": [{**asdict(walk), "timing": walk.timing.to_json()} for walk in self.walks],
        }


def profile_cascade(
    cascade: Cascade,
    schema: FittedSchema,
    *,
    lists: Sequence[int] = (10, 100, 1000),
    batch: int = 16,
    history: int = 50,
    seconds: float = 0.5,
    progress: Callable[[], None] | None = None,
) -> Profile:
    """Count the operations of a cascade per request, and measure its latency on synthetic requests.

    The values of the requests are random, and categories are drawn from the vocabularies of the
    schema, because the cost of a stage depends on shapes and hardly on values. A feature with
    several categories has three. Latencies are measured in one process on the CPU with the current
    number of PyTorch threads, and cover scoring only.

    Args:
        cascade: cascade on the CPU; measured in evaluation mode, and its modes are restored.
        schema: fitted schema with which the stages were built.
        lists: numbers of candidates per request; at least one, each at least 1.
        batch: number of requests per batched call, in addition to single requests; with 1, only
            single requests are timed.
        history: number of entries of each history, at least 1.
        seconds: approximate duration of each measurement, positive.
        progress: callback, called after each measurement; :func:`cells` returns their number.

    Raises:
        ConfigError: if a number is out of range.

    Examples:
        >>> from cascaderank.cascade import build_stage
        >>> schema = FittedSchema(features=(Feature(name="x", role="item", kind="numeric"),))
        >>> cascade = Cascade({"only": build_stage("linear", schema)}, quotas=(2,))
        >>> profile = profile_cascade(cascade, schema, lists=(4, 8), seconds=0.001)
        >>> profile.parameters, [walk.multiply_adds for walk in profile.walks]
        (2, [4, 8])

    Source: this project; the costs are those that ECM (arXiv 2310.08039) compares with recall.
    """
    if not lists or min(lists) < 1:
        raise ConfigError(f"lists must be one or more lengths of at least 1; got {list(lists)}")
    if batch < 1 or history < 1 or not 0 < seconds < float("inf"):
        raise ConfigError(
            "batch and history must be at least 1 and seconds positive; "
            f"got {batch}, {history} and {seconds}"
        )
    lists = sorted(set(lists))
    outputs = {output for previous in cascade.previous.values() for output in previous}
    schema = schema_with_previous(schema, sorted(outputs))

    def timed(
        calls: Sequence[tuple[Callable[[RequestBatch], Tensor], int]], at_once: int
    ) -> Timing:
        timing = _timing(calls, schema, requests=at_once, history=history, seconds=seconds)
        if progress is not None:
            progress()
        return timing

    modes = {module: module.training for module in cascade.modules()}
    try:
        cascade.eval()
        stages = {
            name: StageProfile(
                model=type(stage).__name__,
                parameters=sum(p.numel() for p in stage.parameters()),
                multiply_adds=multiply_adds(stage, schema, history=history),
                look_ups=look_ups(stage, schema, history=history),
                timings=tuple(
                    timed([(stage, length)], at_once)
                    for at_once in sorted({1, batch})
                    for length in lists
                ),
            )
            for name, stage in cascade.stages.items()
        }
        walks = []
        for length in lists:
            inputs = [min(length, quota) for quota in (length, *cascade.quotas[:-1])]
            counted = list(zip(stages.values(), inputs, strict=True))
            walks.append(
                Walk(
                    candidates=length,
                    multiply_adds=sum(s.multiply_adds.of(n) for s, n in counted),
                    look_ups=sum(s.look_ups.of(n) for s, n in counted),
                    timing=timed(list(zip(cascade.stages.values(), inputs, strict=True)), 1),
                )
            )
    finally:
        for module, mode in modes.items():
            module.training = mode
    return Profile(
        stages=stages,
        walks=tuple(walks),
        history=history,
        threads=torch.get_num_threads(),
        machine=f"{platform.system()} {platform.machine()}",
    )


def cells(stages: int, *, lists: int, batch: int) -> int:
    """Return the number of measurements of :func:`profile_cascade` for distinct lengths."""
    return lists * (stages * len({1, batch}) + 1)


def made_requests(
    schema: FittedSchema,
    *,
    requests: int,
    candidates: int,
    history: int,
    values: int = 3,
    seed: int = 0,
) -> RequestBatch:
    """Generate random requests that the stages of a schema can score.

    Args:
        schema: fitted schema; codes are drawn from all codes, including 0 (out of vocabulary).
        requests: number of requests.
        candidates: number of candidates of each request; the batch has no padding.
        history: number of entries of each history.
        values: number of values of each feature with several categories.
        seed: random seed.

    Returns:
        A batch without labels. Numeric values are standard normal; a tenth of the values of
        features that may be missing is missing (NaN).

    Raises:
        ConfigError: if the batch does not fit into the memory of the machine.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = {
        Role.REQUEST: (requests,),
        Role.ITEM: (requests, candidates),
        Role.HISTORY: (requests, history),
    }

    def size_of(feature: Feature) -> tuple[int, ...]:
        of_lists = (feature.width or values,) if feature.several else ()
        return shape[feature.role] + of_lists

    check_fits(
        4.0 * sum(math.prod(size_of(feature)) for feature in schema.features),
        f"{counted(requests, 'request')} of {counted(candidates, 'candidate')} and histories of "
        f"{counted(history, 'entry', 'entries')}",
        "reduce --lists, --batch or --history",
    )

    def sample(feature: Feature) -> Tensor:
        size = size_of(feature)
        if feature.kind is Kind.CATEGORICAL:
            return torch.randint(schema.codes(feature), size, generator=generator)
        numbers = torch.randn(size, generator=generator)
        if not feature.missing:
            return numbers
        return numbers.masked_fill(torch.rand(size, generator=generator) < _MISSING_RATE, torch.nan)

    return RequestBatch(
        mask=torch.ones(requests, candidates, dtype=torch.bool),
        items={f.name: sample(f) for f in schema.of(Role.ITEM)},
        request={f.name: sample(f) for f in schema.of(Role.REQUEST)},
        history={f.name: sample(f) for f in schema.of(Role.HISTORY)},
        history_mask={
            f.sequence: torch.ones(requests, history, dtype=torch.bool)
            for f in schema.of(Role.HISTORY)
        },
    )


def _timing(
    calls: Sequence[tuple[Callable[[RequestBatch], Tensor], int]],
    schema: FittedSchema,
    *,
    requests: int,
    history: int,
    seconds: float,
) -> Timing:
    """Measure consecutive calls of stages, each on lists of its own length."""
    inputs = [
        (stage, made_requests(schema, requests=requests, candidates=length, history=history))
        for stage, length in calls
    ]
    latencies: list[float] = []
    until = float("inf")
    with torch.inference_mode():
        for call in range(-_WARM_UP_CALLS, _MAX_CALLS):
            if call == 0:
                until = time.perf_counter() + seconds
            started = time.perf_counter()
            for stage, batch in inputs:
                stage(batch)
            ended = time.perf_counter()
            if call >= 0:
                latencies.append(ended - started)
            if ended >= until and len(latencies) >= _MIN_CALLS:
                break
    p50, p99 = np.quantile(latencies, (0.5, 0.99)).tolist()
    return Timing(requests=requests, candidates=calls[0][1], calls=len(latencies), p50=p50, p99=p99)
