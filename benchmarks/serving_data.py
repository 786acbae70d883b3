"""Data sets, runs and bundles to serve; they are made once, and kept in a folder.

Items lie in clusters: an item has a category, and a vector near the centre of its category. A user
prefers four categories; the history has them, and of the candidates they reach the higher levels.
Runs are trained for one pass over a small log, which is enough for lists that make sense: only
time is measured with them, and the recall of approximate search.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file, save_file

from cascaderank.data.log.manifest import ITEM
from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.runs.folder import RunFolder
from cascaderank.schema import Feature, Schema
from cascaderank.serving import export_run
from cascaderank.serving.bundle import Bundle
from cascaderank.serving.bundle_files import FORMAT, INDEX, read_bundle_manifest
from cascaderank.serving.golden import golden_requests
from cascaderank.serving.http.openapi import plain
from cascaderank.settings.run import check_settings
from cascaderank.training.pruning import prune_run
from cascaderank.training.train_run import train_run
from measuring import log_progress

LEVELS = ("retrieval_neg", "ranking_neg", "exposed")
LENGTH, WIDTH, FAVOURITES = 40, 8, 4  # candidates of a logged request, numbers of a vector
HISTORY = 50
_BUCKETS = 2**17  # of item ids, where a vocabulary would need a log of all items
_CLOSED = 0.6  # fraction of ECMM's gates that are closed before it is pruned

DEEP = ("preranking", "ranking")
PRERANKING: dict[str, dict[str, Any]] = {
    "two towers": {"model": "two_tower"},
    "COLD": {"model": "cold"},
    "COLD, half of the fields": {
        "model": "cold",
        "gates": False,
        "features": ["user_id", "hour", "item_id", "category", "quality", "history_category"],
    },
    "FSCD": {"model": "fscd"},
    "ESMM": {"model": "esmm"},
    "ECM": {"model": "ecm"},
    "ECMM": {"model": "ecmm"},
    "ECMM, pruned": {"model": "ecmm"},
}


@dataclass(frozen=True)
class Sizes:
    """Sizes of what is served."""

    items: int = 10_000
    quotas: tuple[int, int, int] = (500, 50, 10)
    candidates: int = 1_000
    """Candidates of a pre-ranking request, of all items."""
    passed: int = 100
    """Candidates that pre-ranking passes on, at most 10 times those in training."""
    many_items: int = 1_000_000
    requests: int = 2_000
    """Requests of the log."""
    index: str = "HNSW16"
    stages: tuple[str, ...] = tuple(PRERANKING)
    """Pre-ranking stages."""


QUICK = Sizes(500, (50, 20, 5), 100, 20, 2_000, 300, "HNSW8", ("two towers", "ECMM, pruned"))


@dataclass(frozen=True)
class Served:
    """A bundle, and requests to it."""

    bundle: Path
    bodies: Path
    """File with the body of one request a line."""
    facts: Mapping[str, Any]
    """What was measured when it was made."""


def schema_of(buckets: int | None) -> Schema:
    def feature(name: str, role: str, **options: Any) -> Feature:
        kind = options.pop("kind", "categorical")
        return Feature(name=name, role=role, kind=kind, **options)

    return Schema(
        features=(
            *(feature(name, "request") for name in ("user_id", "segment", "hour")),
            feature("age", "request", kind="numeric", transform="log1p_standardise"),
            feature("item_id", "item", buckets=buckets),
            *(feature(name, "item") for name in ("category", "shop")),
            feature("quality", "item", kind="numeric"),
            feature("price", "item", kind="numeric", transform="log1p_standardise"),
            feature("text", "item", kind="numeric", width=WIDTH),
            feature("history_item", "history", vocabulary="item_id", buckets=buckets),
            feature("history_category", "history", vocabulary="category"),
        )
    )


def item_frame(items: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return one row per item; a category has some 50 items, but there are at most 1,000."""
    categories = min(1_000, max(FAVOURITES, items // 50))
    category = rng.integers(0, categories, items)
    centres = rng.normal(size=(categories, WIDTH))
    text = (centres[category] + 0.5 * rng.normal(size=(items, WIDTH))).astype(np.float32)
    return pl.DataFrame(
        {
            "item_id": np.arange(items),
            "category": category,
            "shop": rng.integers(0, 1_000, items),
            "quality": rng.normal(size=items),
            "price": rng.lognormal(size=items),
            "text": pl.Series(text).cast(pl.List(pl.Float32)),
        }
    )


def request_frame(table: pl.DataFrame, requests: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return requests whose candidates reach a level by their utility to the user."""
    by_category = table.group_by("category").agg("item_id").sort("category")
    members = [np.array(ids) for ids in by_category["item_id"]]
    category = table["category"].to_numpy()
    quality = table["quality"].to_numpy()
    rows = []
    for number in range(requests):
        favourites = rng.choice(len(members), FAVOURITES, replace=False)
        liked = np.concatenate([members[one] for one in favourites])
        history = np.where(
            rng.random(HISTORY) < 0.8,
            rng.choice(liked, HISTORY),
            rng.integers(0, len(table), HISTORY),
        )
        drawn = np.concatenate([rng.choice(liked, LENGTH), rng.integers(0, len(table), 2 * LENGTH)])
        drawn = rng.permutation(np.unique(drawn))[:LENGTH]
        utility = 2 * np.isin(category[drawn], favourites) + quality[drawn]
        rank = (-utility - 0.5 * rng.normal(size=LENGTH)).argsort().argsort()
        level = (rank < LENGTH // 2).astype(int) + (rank < LENGTH // 4)
        chosen = table[drawn]
        rows.append(
            {
                "request_id": number,
                "user_id": int(rng.integers(0, 2_000)),
                "segment": int(rng.integers(0, 8)),
                "hour": int(rng.integers(0, 24)),
                "age": float(rng.exponential(300)),
                **{name: chosen[name].to_list() for name in table.columns},
                "history_item": history.tolist(),
                "history_category": category[history].tolist(),
                "level": level.tolist(),
                "feedback": ((level == 2) & (rng.random(LENGTH) < 0.3)).astype(float).tolist(),
            }
        )
    return pl.DataFrame(rows)


class Cache:
    """What is served, made at its first use and kept in a folder.

    Args:
        folder: folder to keep it in.
        sizes: sizes; other sizes are kept beside each other.
    """

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        words = (sizes.items, sizes.many_items, sizes.requests, sizes.index, FORMAT)
        self.folder, self.sizes = folder / "-".join(map(str, words)), sizes
        self.folder.mkdir(parents=True, exist_ok=True)

    def funnel(self) -> Served:
        """Return a funnel of two towers, MLP and DIN over all items."""
        return self._served("funnel", self._three_stages("items", self.sizes.items))

    def preranking(self, name: str) -> Served:
        """Return a single stage, and requests that name their candidates."""
        slug = name.replace(" ", "_").replace(",", "")
        path = self._log("items", self.sizes.items)
        stage = {"quota": LENGTH // 2, **PRERANKING[name]}  # as trained; requests have their own
        settings = {
            "data": {"path": str(path), "target": "level"},
            "stages": {"preranking": stage},
            "objective": {"name": "entire_chain", "event": "click"},
        }
        change = self._pruned if name.endswith("pruned") else None
        return self._served(slug, settings, candidates=True, change=change)

    def many(self, *, index: bool) -> Served:
        """Return the funnel over many items, searched exactly or by an index."""
        settings = self._three_stages("many_items", self.sizes.many_items)
        name, kind = ("many_by_index", self.sizes.index) if index else ("many_exactly", None)
        return self._served(name, settings, run="many", index=kind)

    def _three_stages(self, log: str, items: int) -> dict[str, Any]:
        first, *rest = self.sizes.quotas
        later = zip(DEEP, ("mlp", "din"), rest, strict=True)
        return {
            "data": {"path": str(self._log(log, items)), "target": "level"},
            "stages": {
                "retrieval": {"model": "two_tower", "quota": first},
                **{name: {"model": model, "quota": quota} for name, model, quota in later},
            },
            "objective": {"name": "bce"},
        }

    def _log(self, name: str, items: int) -> Path:
        path = self.folder / "logs" / name
        if not path.exists():
            log_progress(f"data set of {items:,} items")
            rng = np.random.default_rng(0)
            schema, table = (
                schema_of(_BUCKETS if items > _BUCKETS else None),
                item_frame(items, rng),
            )
            with RequestLogWriter(path, name=name, schema=schema, level_names=LEVELS) as writer:
                writer.write(request_frame(table, self.sizes.requests, rng))
                writer.write_catalogue(table)
                writer.extra[ITEM] = "item_id"
        return path

    def _served(
        self,
        name: str,
        settings: dict[str, Any],
        *,
        run: str | None = None,
        index: str | None = None,
        candidates: bool = False,
        change: Callable[[Path], Path] | None = None,
    ) -> Served:
        bundle, bodies = self.folder / "bundles" / name, self.folder / f"{name}.jsonl"
        facts = self.folder / f"{name}.json"
        if not facts.exists():
            log_progress(f"run and bundle '{name}'")
            trained = self._trained(run or name, settings)
            if change is not None:
                trained = change(trained)
            start = perf_counter()
            export_run(trained, bundle, index=index, name=name)
            seconds = perf_counter() - start
            lines = _bodies(bundle, self.sizes if candidates else None)
            bodies.write_text("\n".join(lines), encoding="utf-8")
            facts.write_text(json.dumps({"seconds": seconds, **_facts(bundle)}))
        return Served(bundle, bodies, json.loads(facts.read_text()))

    def _trained(self, name: str, settings: dict[str, Any]) -> Path:
        folder = self.folder / "runs" / name
        training = {"epochs": 1, "batch_size": 32, "learning_rate": 0.005}
        shared = {"relevance": {"top": LENGTH // 4}, "train": training}
        train_run(check_settings({**settings, **shared}), folder)
        return folder

    def _pruned(self, run: Path) -> Path:
        """Close some gates at random, and remove what they disconnect."""
        closed, pruned = run.with_name(f"{run.name}-closed"), run.with_name(f"{run.name}-small")
        for left in (closed, pruned):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(run, closed)
        path, generator = RunFolder(closed).weights, torch.Generator().manual_seed(0)
        weights = load_file(path)
        for name, values in weights.items():
            if name.endswith("log_alpha"):
                values[torch.rand(values.shape, generator=generator) < _CLOSED] = -9.0
        save_file(weights, path)
        (closed / "checksums.sha256").unlink()  # of the weights as they were trained
        prune_run(closed, pruned)
        return pruned


def _bodies(bundle: Path, sizes: Sizes | None) -> Iterator[str]:
    """Yield the body of each golden request; its candidates are all items, or some by key."""
    loaded, rng = Bundle.load(bundle), np.random.default_rng(1)
    assert loaded.items is not None
    for golden in golden_requests(loaded):
        body: dict[str, Any] = {"request": plain(golden.request)}
        if sizes is not None:
            places = rng.choice(len(loaded.items), sizes.candidates, replace=False)
            body["candidates"] = [loaded.items.keys[place] for place in places]
            body["quotas"] = {"preranking": sizes.passed}
        yield json.dumps(body)


def _facts(bundle: Path) -> dict[str, Any]:
    manifest = read_bundle_manifest(bundle)
    index = manifest.index
    return {
        "bytes": sum(file.bytes for file in manifest.files.values()),
        "index_bytes": manifest.files[INDEX].bytes if index is not None else 0,
        "recall": index.recall if index is not None else 1.0,
    }
