"""Measure what `cascaderank serve` answers under load, beside what one would write without it.

`make bench-serving` runs all groups and writes the served part of `docs/performance.md`. Servers
run one after another, in processes of their own; the client has a process of its own on the same
cores. Data sets, runs and bundles are made at the first run, and kept.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

from loads import Arrivals
from measuring import log_progress, machine
from servers import HERE, Measured, Server, saturation, serving
from serving_data import HISTORY, QUICK, Cache, Served, Sizes
from tables import SERVED, Table, heading, markdown, number, text, write

GROUPS = ("funnel", "preranking", "million")
PACKAGES = ("torch", "numpy", "fastapi", "uvicorn", "litserve", "faiss-cpu")
CORES = 2


@dataclass(frozen=True)
class Times:
    """Lengths of the measurements in seconds."""

    alone: float = 4
    rate: float = 10
    step: float = 5
    steps: int = 4


@dataclass(frozen=True)
class Result:
    """One server under all loads."""

    alone: Measured
    """One request at a time."""
    rates: list[Measured | None]
    """At each rate; ``None`` where the server cannot hold it."""
    held: tuple[float, float]
    """Highest rate that is held, and p99 at it; NaN if none of those tried was."""
    memory: float
    started: float
    """Seconds until the server answers."""

    @property
    def processor(self) -> float:
        """Milliseconds of processor time per answer, at the first rate if it was held."""
        first = self.rates[0] if self.rates else None
        return (first or self.alone).processor

    def cells(self) -> tuple[str, ...]:
        """Return alone, p50 and p99 at each rate, the rate that is held, CPU and memory."""
        pairs = [("-", "-") if m is None else latency(m) for m in self.rates]
        return (
            number(self.alone.load.p50),
            *(cell for pair in pairs for cell in pair),
            number(self.held[0]),
            number(self.processor),
            number(self.memory),
        )


@dataclass(frozen=True)
class Bench:
    """Settings of the measurements."""

    cache: Cache
    times: Times

    def result(
        self,
        name: str,
        served: Served,
        command: Callable[[int], Sequence[str]],
        *,
        rates: Sequence[tuple[float, Arrivals]],
        ready: str = "/health/ready",
        check: Callable[[Server], None] | None = None,
    ) -> Result:
        """Start a server, and measure it."""
        log_progress(f"{name}: start")
        start = perf_counter()
        with serving(command, served.bodies, ready) as server:
            started = perf_counter() - start
            if check is not None:
                check(server)
            alone = server.at_once(1, self.times.alone)
            found: list[Measured | None] = []
            for rate, arrivals in rates:
                possible = rate <= CORES * alone.load.throughput
                measured = server.at_rate(rate, self.times.rate, arrivals) if possible else None
                found.append(measured if measured is not None and measured.load.held else None)
                log_progress(f"{name}: {rate:g}/s, {arrivals}: {described(found[-1])}")
            held = saturation(server, alone.load.p50, self.times.step, self.times.steps)
            log_progress(f"{name}: {held[0]:.0f}/s held, alone {described(alone)}")
            return Result(alone, found, held, server.memory, started)


def ours(served: Served) -> Callable[[int], Sequence[str]]:
    return lambda port: ["-m", "cascaderank", "serve", str(served.bundle), "--port", str(port)]


def peer(file: str, served: Served, *words: str) -> Callable[[int], Sequence[str]]:
    return lambda port: [str(HERE / file), str(served.bundle), str(port), *words]


def funnel(bench: Bench) -> Table:
    """Compare the funnel with all items by all stages, and with the stages in turn."""
    served, sizes = bench.cache.funnel(), bench.cache.sizes
    bodies = served.bodies.read_bytes().splitlines()[:20]
    answers: list[list[tuple[object, float]]] = []
    equal = dict[str, int]()

    def keep(server: Server) -> None:
        answers.extend(listed(server.answer(body)) for body in bodies)

    rates: list[tuple[float, Arrivals]] = [(50, "even"), (100, "even")]
    random: list[tuple[float, Arrivals]] = [(50, "poisson"), (100, "poisson")]
    result = bench.result(
        "cascaderank serve", served, ours(served), rates=rates + random, check=keep
    )
    half = len(rates)
    lines = [
        ("cascaderank serve", *replaced(result, result.rates[:half]).cells()),
        ("  random arrivals", "", *replaced(result, result.rates[half:]).cells()[1:-3], "", "", ""),
    ]
    peers = {
        "FastAPI, all by all": ("serving_peers.py", ()),
        "LitServe, all by all": ("serving_litserve.py", ()),
        "FastAPI, in stages": ("serving_peers.py", ("--staged",)),
    }
    for name, (file, words) in peers.items():
        if "litserve" in file and find_spec("litserve") is None:
            lines.append((name, "not installed"))
            continue

        def compare(server: Server, name: str = name) -> None:
            found = [listed(server.answer(body)) for body in bodies]
            equal[name] = sum(map(same, answers, found))

        command = peer(file, served, *words)
        measured = bench.result(name, served, command, rates=rates, ready="/health", check=compare)
        lines.append((name, *measured.cells()))
    checked = "; ".join(f"{name}: {count}" for name, count in equal.items())
    header = ("server", "alone", *at("50/s", "100/s"), "held /s", "CPU ms", "MiB")
    note = (
        f"Lists equal to ours of {len(bodies)} (ids in order, scores to 1e-3):\n{checked}.\n"
        f"Two towers, MLP and DIN with a history of {HISTORY}. p99 at the rate that ours held: "
        f"{number(result.held[1])} ms."
    )
    first, second, last = sizes.quotas
    title = f"Funnel: {sizes.items:,} items, {first}, {second}, {last}"
    return Table(title, header, lines, words=1, note=note)


def preranking(bench: Bench) -> Table:
    """Measure one pre-ranking stage of each kind, in the form of ECM's Table 3."""
    sizes, rate, lines = bench.cache.sizes, 50.0, []
    for name in sizes.stages:
        served = bench.cache.preranking(name)
        result = bench.result(name, served, ours(served), rates=[(rate, "even")])
        share = f"{result.processor * rate / CORES / 10:.0f} %"
        first = ("-", "-") if result.rates[0] is None else latency(result.rates[0])
        lines.append((name, number(result.held[0]), *first, number(result.processor), share))
    header = ("stage", "QPS", "RT p50 ms", "RT p99 ms", "CPU ms", "CPU")
    note = (
        f"RT and CPU at {rate:g} requests per second; CPU is the share of {CORES} cores. A request "
        f"names its candidates."
    )
    title = f"Pre-ranking: {sizes.candidates:,} of {sizes.items:,} items, {sizes.passed} passed on"
    return Table(title, header, lines, words=1, note=note)


def million(bench: Bench) -> Table:
    """Measure exact and approximate search of many items."""
    sizes, rate, lines, index_size = bench.cache.sizes, 10.0, [], "-"
    for name, index in (("exact", False), (sizes.index, True)):
        if index and find_spec("faiss") is None:
            lines.append((name, "not installed"))
            continue
        served = bench.cache.many(index=index)
        result = bench.result(name, served, ours(served), rates=[(rate, "even")])
        facts = served.facts
        of_bundle = (number(facts["bytes"] / 2**20), number(result.started))
        lines.append((name, f"{facts['recall']:.3f}", *result.cells(), *of_bundle))
        index_size = number(facts["index_bytes"] / 2**20)
    recall = f"recall@{sizes.quotas[0]}"
    header = ("search", recall, "alone", *at(f"{rate:g}/s"), "held /s", "CPU ms", "MiB")
    title = f"Funnel over {sizes.many_items:,} items"
    note = "Recall is that of the first stage against exact search, measured at export.\n"
    note += f"The index has {index_size} MiB; its vectors have a length of 32."
    return Table(title, (*header, "bundle MiB", "start s"), lines, words=1, note=note)


MEASURES: dict[str, Callable[[Bench], Table]] = {
    "funnel": funnel,
    "preranking": preranking,
    "million": million,
}


def at(*rates: str) -> tuple[str, ...]:
    return tuple(f"{name} {rate}" for rate in rates for name in ("p50", "p99"))


def latency(measured: Measured) -> tuple[str, str]:
    return number(measured.load.p50), number(measured.load.p99)


def described(measured: Measured | None) -> str:
    if measured is None:
        return "not held"
    load = measured.load
    client = f"client {100 * load.processor:.0f} % of a core, late {load.late:.2f} ms"
    return f"p50 {load.p50:.2f} ms, p99 {load.p99:.2f} ms, {client}"


def replaced(result: Result, rates: list[Measured | None]) -> Result:
    return Result(result.alone, rates, result.held, result.memory, result.started)


def listed(answer: dict[str, object]) -> list[tuple[object, float]]:
    items = answer["items"]
    assert isinstance(items, list)
    return [(item["id"], item["score"]) for item in items]


def same(ours: list[tuple[object, float]], theirs: list[tuple[object, float]]) -> bool:
    return [key for key, _ in ours] == [key for key, _ in theirs] and all(
        math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-3)
        for (_, a), (_, b) in zip(ours, theirs, strict=True)
    )


def made(cache: Cache, groups: Sequence[str]) -> None:
    """Make all that is served."""
    if "funnel" in groups:
        cache.funnel()
    if "preranking" in groups:
        for name in cache.sizes.stages:
            cache.preranking(name)
    if "million" in groups:
        for index in (False, True) if find_spec("faiss") else (False,):
            cache.many(index=index)


def main() -> None:
    arguments = parsed()
    start, environment = perf_counter(), machine(PACKAGES)
    how = "a quick run of small sizes; " if arguments.quick else ""
    how += "one thread of PyTorch per request, two requests at a time"
    times = Times(0.5, 1, 1, 2) if arguments.quick else Times()
    cache = Cache(arguments.cache, QUICK if arguments.quick else Sizes())
    made(cache, arguments.only)
    log_progress(f"all that is served is in {cache.folder}, {perf_counter() - start:.0f} s")
    if arguments.make:
        return
    head, tables = heading(environment, how), []
    print(head)
    for group in arguments.only:
        tables.append(MEASURES[group](Bench(cache, times)))
        print(f"\n{text(tables[-1])}", flush=True)
    log_progress(f"{perf_counter() - start:.0f} s")
    if arguments.page:
        write(arguments.page, SERVED, head, map(markdown, tables))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only",
        type=lambda words: words.split(","),
        default=list(GROUPS),
        help=f"some of {','.join(GROUPS)}",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and short loads")
    parser.add_argument("--page", type=Path, help="page whose served part is replaced")
    parser.add_argument(
        "--cache",
        type=Path,
        default=HERE.parent / "build" / "bench-serving",
        help="folder of data sets, runs and bundles",
    )
    parser.add_argument("--make", action="store_true", help="make them, and measure nothing")
    arguments = parser.parse_args()
    if unknown := [group for group in arguments.only if group not in GROUPS]:
        parser.error(f"--only: no group '{unknown[0]}'; there are {', '.join(GROUPS)}")
    if arguments.page and arguments.only != list(GROUPS):
        parser.error("--page takes all groups: omit --only")
    return arguments


if __name__ == "__main__":
    main()
