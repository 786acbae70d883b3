"""What a cascade costs to serve: counted, and timed on this machine."""

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
from cascaderank.errors import ConfigError
from cascaderank.schema import Feature, FittedSchema, Kind, Role
from cascaderank.stages import LookUps, MultiplyAdds, look_ups, multiply_adds

_MISSING = 0.1  # share of made values that are, of features that may be
_WARM_UP, _FEWEST, _MOST = 3, 5, 1000  # calls


@final
@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long calls took that scored some requests at once."""

    requests: int
    """In each call."""
    candidates: int
    """Of each request."""
    calls: int
    """How many were timed. Of less than a hundred, ``p99`` is little more than the slowest."""
    p50: float
    """Median seconds of a call."""
    p99: float
    """Seconds that 99 % of the calls did not exceed."""

    @property
    def microseconds_per_candidate(self) -> float:
        """Of a median call."""
        return 1e6 * self.p50 / (self.requests * self.candidates)

    @property
    def candidates_per_second(self) -> float:
        """Throughput of median calls, one after the other."""
        return self.requests * self.candidates / self.p50

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold; times in seconds where no unit is said."""
        return {
            **asdict(self),
            "microseconds_per_candidate": self.microseconds_per_candidate,
            "candidates_per_second": self.candidates_per_second,
        }


@final
@dataclass(frozen=True, kw_only=True)
class StageProfile:
    """What one stage costs."""

    model: str
    """Name of its class."""
    parameters: int
    multiply_adds: MultiplyAdds
    look_ups: LookUps
    timings: tuple[Timing, ...]
    """Single requests first, each by length of list."""


@final
@dataclass(frozen=True, kw_only=True)
class Walk:
    """A request through the cascade: each stage scores what the one before it passes on."""

    candidates: int
    """That the first stage gets."""
    multiply_adds: int
    look_ups: int
    timing: Timing
    """Of scoring alone: choosing the best of each stage is not in it."""


@final
@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a cascade costs, stage by stage and as a whole."""

    stages: Mapping[str, StageProfile]
    walks: tuple[Walk, ...]
    """By candidates of the first stage."""
    history: int
    """Entries of every history."""
    threads: int
    """That PyTorch had."""
    machine: str

    @property
    def parameters(self) -> int:
        """Of all stages."""
        return sum(stage.parameters for stage in self.stages.values())

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
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
    """Count what a cascade does to score a request, and time it on made-up requests.

    Requests have values drawn at random, categories among those of the schema: what a stage costs
    hangs on shapes, and hardly on values. Times are of one process on the CPU, with the threads
    that PyTorch has, and include nothing but scoring.

    Args:
        cascade: on the CPU; timed in evaluation mode and left as it was.
        schema: that the stages were built on.
        lists: candidates of a request, at least one length, each at least 1.
        batch: requests at once, beside single ones; 1 for single ones alone.
        history: entries of every history, at least 1.
        seconds: how long each cell of the tables is timed, roughly; positive.
        progress: called after each cell; there are :func:`cells`.

    Raises:
        ConfigError: if a number is out of range.

    Examples:
        >>> from cascaderank.cascade import build_stage
        >>> schema = FittedSchema(features=(Feature(name="x", role="item", kind="numeric"),))
        >>> cascade = Cascade({"only": build_stage("linear", schema)}, quotas=(2,))
        >>> found = profile_cascade(cascade, schema, lists=(4, 8), seconds=0.001)
        >>> found.parameters, [walk.multiply_adds for walk in found.walks]
        (2, [4, 8])

    Source: this project; the columns are those that ECM (arXiv 2310.08039) weighs against recall.
    """
    if not lists or min(lists) < 1:
        raise ConfigError(f"lists must be lengths of at least 1; got {list(lists)}")
    if batch < 1 or history < 1 or not 0 < seconds < float("inf"):
        raise ConfigError(
            "batch and history must be at least 1 and seconds positive; "
            f"got {batch}, {history} and {seconds}"
        )
    lists = sorted(set(lists))

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
            gets = [min(length, quota) for quota in (length, *cascade.quotas[:-1])]
            counted = list(zip(stages.values(), gets, strict=True))
            walks.append(
                Walk(
                    candidates=length,
                    multiply_adds=sum(s.multiply_adds.of(n) for s, n in counted),
                    look_ups=sum(s.look_ups.of(n) for s, n in counted),
                    timing=timed(list(zip(cascade.stages.values(), gets, strict=True)), 1),
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
    """Return how many times :func:`profile_cascade` calls ``progress``, of different lengths."""
    return lists * (stages * len({1, batch}) + 1)


def made_requests(
    schema: FittedSchema, *, requests: int, candidates: int, history: int, seed: int = 0
) -> RequestBatch:
    """Make up requests that the stages of a schema can score.

    Args:
        schema: fitted; codes are drawn from all it has, 0 (out of vocabulary) included.
        requests: how many.
        candidates: of each request; none is padding.
        history: entries of every history.
        seed: of the draw.

    Returns:
        A batch without labels. Numbers are standard normal; a tenth of those that may be missing
        are.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = {
        Role.REQUEST: (requests,),
        Role.ITEM: (requests, candidates),
        Role.HISTORY: (requests, history),
    }

    def drawn(feature: Feature) -> Tensor:
        size = shape[feature.role]
        if feature.kind is Kind.CATEGORICAL:
            return torch.randint(schema.codes(feature), size, generator=generator)
        values = torch.randn(size, generator=generator)
        if not feature.missing:
            return values
        return values.masked_fill(torch.rand(size, generator=generator) < _MISSING, torch.nan)

    return RequestBatch(
        mask=torch.ones(requests, candidates, dtype=torch.bool),
        items={f.name: drawn(f) for f in schema.of(Role.ITEM)},
        request={f.name: drawn(f) for f in schema.of(Role.REQUEST)},
        history={f.name: drawn(f) for f in schema.of(Role.HISTORY)},
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
    """Time stages that are called one after the other, each on lists of its own length."""
    made = [
        (stage, made_requests(schema, requests=requests, candidates=length, history=history))
        for stage, length in calls
    ]
    taken: list[float] = []
    until = float("inf")
    with torch.inference_mode():
        for call in range(-_WARM_UP, _MOST):
            if call == 0:
                until = time.perf_counter() + seconds
            started = time.perf_counter()
            for stage, batch in made:
                stage(batch)
            ended = time.perf_counter()
            if call >= 0:
                taken.append(ended - started)
            if ended >= until and len(taken) >= _FEWEST:
                break
    p50, p99 = np.quantile(taken, (0.5, 0.99)).tolist()
    return Timing(requests=requests, candidates=calls[0][1], calls=len(taken), p50=p50, p99=p99)
