"""Verification of a bundle: what serves is what was trained."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.cascade import Cascade
from cascaderank.errors import CascadeRankError, MissingExtraError, shown
from cascaderank.progress import Progress, Silent
from cascaderank.serving.answer import Answer
from cascaderank.serving.bundle import Bundle
from cascaderank.serving.bundle_files import GOLDEN
from cascaderank.serving.golden import (
    GoldenRequest,
    GoldenScores,
    golden_requests,
    golden_scores,
)
from cascaderank.serving.item_index import recall_of, request_vectors
from cascaderank.serving.item_table import ItemTable
from cascaderank.serving.onnx_stages import onnx_cascade
from cascaderank.serving.ranker import Ranker
from cascaderank.serving.stage_plan import parts_of_items
from cascaderank.serving.value_encoder import ValueEncoder

TOLERANCE = 1e-5
"""Largest difference of a score, in units of its size if that is above 1."""

MODULES = "modules of training"
ONNX = "ONNX"

RECALL_TOLERANCE = 0.005
"""Largest difference of the recall of an index, which depends on rounding."""

AnswerOf = Callable[[GoldenRequest], Answer]
"""A way to serve: returns the answer, with a trace, to a golden request."""


@final
@dataclass(kw_only=True)
class Verification:
    """Result of a verification."""

    requests: int = 0
    """Number of golden requests."""
    candidates: int = 0
    """Number of their candidates."""
    items: int = 0
    """Number of items whose codes and parts were compared."""
    ways: list[str] = field(default_factory=list)
    """What was compared with the recorded scores."""
    largest: float = 0.0
    """Largest difference of a score."""
    near_ties: int = 0
    """Cuts that differ among scores that are equal within the tolerance."""
    difference: str | None = None
    """The first difference in words; ``None`` if there is none."""

    @property
    def equal(self) -> bool:
        """Whether there is no difference."""
        return self.difference is None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict."""
        return {**asdict(self), "equal": self.equal}


def verify_bundle(
    folder: str | os.PathLike[str],
    *,
    ways: Sequence[tuple[str, AnswerOf]] = (),
    progress: Progress | None = None,
) -> Verification:
    """Compare everything in a bundle that serves with what the code of training computes.

    In this order: the encoded items with their raw values, encoded anew; the parts of items with
    those computed anew; the recall of the index, if there is one; the golden requests through the
    modules of training; through the stages as ONNX, if they are there; through a
    :class:`~cascaderank.serving.ranker.Ranker` with keys of items and with raw rows; and through
    other ways to serve. Scores must be equal to 1e-5, and each stage
    must keep the same candidates. Candidates whose scores are equal within this tolerance can
    change places at a cut; such cuts are counted.

    Args:
        folder: folder of the bundle.
        ways: further ways to serve, by name.
        progress: receives the progress of the work.

    Returns:
        The first difference, if there is one.

    Raises:
        RunError: if the folder is no bundle, is damaged, or has another format.
        MissingExtraError: if the bundle has an index or stages as ONNX, and the package for it is
            not installed.
    """
    progress = progress or Silent()
    bundle = Bundle.load(folder)
    result = Verification()
    if bundle.items is not None:
        result.items = len(bundle.items)
        result.ways.append("catalogue")
        result.difference = _of_items(bundle, bundle.items)
        if result.difference is not None:
            return result
    if bundle.index is not None:
        result.ways.append("index")
        result.difference = _of_index(bundle)
        if result.difference is not None:
            return result
    recorded = GoldenScores.open(bundle.folder)
    result.requests, result.candidates = len(recorded.lengths), int(recorded.lengths.sum())
    frame = _golden_frame(bundle)
    cascades: list[tuple[str, Callable[[], Cascade]]] = [(MODULES, lambda: bundle.cascade)]
    if any(stage.onnx for stage in bundle.manifest.stages):
        cascades.append((ONNX, lambda: onnx_cascade(bundle)))
    found = list[tuple[str, GoldenScores]]()
    for name, cascade_of in cascades:
        result.ways.append(name)
        try:
            scores = golden_scores(frame, cascade_of(), bundle.settings, bundle.schema)
        except MissingExtraError:
            raise
        except CascadeRankError as error:
            result.difference = f"{name}: {error}"
            return result
        found.append((name, scores))
    ranker = Ranker(bundle)
    names = bundle.cascade.stage_names
    own: list[tuple[str, AnswerOf]] = [
        ("Ranker, rows", lambda golden: ranker.rank(golden.request, golden.plain_rows, trace=True))
    ]
    if bundle.items is not None:
        by_key = lambda golden: ranker.rank(golden.request, golden.rows, trace=True)  # noqa: E731
        own.insert(0, ("Ranker, keys", by_key))
    computed = zip(*(golden_requests(bundle, scores) for _, scores in found), strict=True)
    progress.start("verifying", len(recorded.lengths))
    result.ways += [name for name, _ in (*own, *ways)]
    for golden, again in zip(golden_requests(bundle), computed, strict=True):
        result.difference = _first(
            *(
                _difference(golden, of.scores, of.kept, names, name, result)
                for of, (name, _) in zip(again, found, strict=True)
            ),
            *(_of_way(golden, name, answer_of, names, result) for name, answer_of in (*own, *ways)),
        )
        progress.advance()
        if result.difference is not None:
            break
    progress.stop()
    return result


def _golden_frame(bundle: Bundle) -> pl.DataFrame:
    return pl.read_parquet(bundle.folder / GOLDEN)


def _first(*differences: str | None) -> str | None:
    return next((d for d in differences if d is not None), None)


def _of_way(
    golden: GoldenRequest, way: str, answer_of: AnswerOf, names: Sequence[str], result: Verification
) -> str | None:
    """Return the first difference of an answer to a golden request."""
    try:
        answer = answer_of(golden)
    except CascadeRankError as error:
        return f"{way}: request {shown(golden.id)}: {error}"
    trace = answer.trace
    if trace is None:
        return f"{way}: request {shown(golden.id)}: the answer has no trace"
    found = len(trace.keys)
    if found != golden.scores.shape[1]:
        return (
            f"{way}: request {shown(golden.id)}: expected {golden.scores.shape[1]} candidates, "
            f"found {found}"
        )
    scores = np.stack([trace.scores[name] for name in names])
    kept = np.stack([trace.kept[name] for name in names])
    difference = _difference(golden, scores, kept, names, way, result)
    if difference is not None:
        return difference
    values = np.array(answer.scores, dtype=np.float64)
    listed = int(kept[-1].sum())
    if len(answer.ids) != listed or (np.diff(values) > 0).any():
        return f"{way}: request {shown(golden.id)}: the list is not that of the last stage"
    return None


def _difference(
    golden: GoldenRequest,
    scores: NDArray[np.float32],
    kept: NDArray[np.bool_],
    names: Sequence[str],
    way: str,
    result: Verification,
) -> str | None:
    """Return the first difference of scores or of a kept set; NaN where a stage scored none."""
    where = f"{way}: request {shown(golden.id)}"
    for stage, name in enumerate(names):
        expected, found = golden.scores[stage].astype(np.float64), scores[stage].astype(np.float64)
        allowed = TOLERANCE * np.maximum(1, np.abs(expected))
        apart = np.abs(found - expected)
        seen = ~np.isnan(found)
        result.largest = max(result.largest, float(apart[seen].max(initial=0)))
        wrong = np.flatnonzero(seen & ~(apart <= allowed))
        if len(wrong):
            first = int(wrong[0])
            return (
                f"{where}: candidate {_named(golden, first)}: stage '{name}': expected the score "
                f"{expected[first]:.7g}, found {found[first]:.7g}"
            )
        changed = np.flatnonzero(golden.kept[stage] != kept[stage])
        if not len(changed):
            continue
        cut = expected[golden.kept[stage]].min(initial=np.inf)
        near = np.abs(expected[changed] - cut) <= 2 * allowed[changed]
        if near.all():
            result.near_ties += 1
            return None  # later stages receive other candidates
        first = int(changed[~near][0])
        states = ("kept", "cut") if golden.kept[stage][first] else ("cut", "kept")
        return (
            f"{where}: candidate {_named(golden, first)}: stage '{name}': expected it "
            f"{states[0]}, found it {states[1]}"
        )
    return None


def _named(golden: GoldenRequest, place: int) -> str:
    if golden.key is None:
        return f"{place}"
    return f"{place} ({golden.key} = {shown(golden.columns[golden.key][place])})"


def _of_items(bundle: Bundle, items: ItemTable) -> str | None:
    """Return the first difference between the items, their codes and their parts."""
    known = bundle.schema.only(items.features)
    try:
        again = ItemTable.encode(items.raw, items.key, known)
    except CascadeRankError as error:
        return f"catalogue: {error}"
    for name, expected, found in _columns(again, items):
        if expected.shape != found.shape:
            return f"catalogue: '{name}': expected {len(expected)} values, found {len(found)}"
        same = (expected == found) | ((expected != expected) & (found != found))
        wrong = np.flatnonzero(~same)
        if len(wrong):
            first = int(wrong[0])
            place = f"item {shown(items.keys[first])}" if len(found) == len(items) else f"{first}"
            return (
                f"catalogue: {place}: feature '{name}': expected the encoded value "
                f"{expected[first]!s}, found {found[first]!s}"
            )
    ranker = Ranker(bundle)
    for name, part in parts_of_items(ranker.plans, items).items():
        if name not in bundle.parts or bundle.parts[name].shape != part.shape:
            return f"catalogue: stage '{name}': expected parts of {len(items)} items, found others"
        expected, found = part.numpy(), bundle.parts[name].numpy()
        wrong = np.flatnonzero(
            ~(np.abs(found - expected) <= TOLERANCE * np.maximum(1, np.abs(expected))).all(1)
        )
        if len(wrong):
            return (
                f"catalogue: item {shown(items.keys[int(wrong[0])])}: stage '{name}': the part of "
                "the item is not that of its features and the weights"
            )
    return None


def _of_index(bundle: Bundle) -> str | None:
    """Return the difference between the recall of the index and that of the manifest."""
    index, entry, plan = bundle.index, bundle.manifest.index, Ranker(bundle).plans[0]
    if index is None or entry is None or plan.parts is None:
        return None
    if len(index) != len(plan.parts):
        return f"index: expected {len(plan.parts)} items, found {len(index)}"
    encoder = ValueEncoder(bundle.stage_schema, history_length=bundle.manifest.history_length)
    requests = request_vectors(plan, encoder, _golden_frame(bundle))
    found = recall_of(index, plan.parts, requests, entry.k)
    if abs(found - entry.recall) > RECALL_TOLERANCE:
        return f"index: expected a recall of {entry.recall:.4f}, found {found:.4f}"
    return None


def _columns(
    first: ItemTable, second: ItemTable
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Yield the encoded values of each feature in both tables."""
    for name, values in first.columns.items():
        yield name, values.numpy(), second.columns[name].numpy()
    for name, lists in first.lists.items():
        yield f"{name} (lengths)", lists.offsets, second.lists[name].offsets
        yield name, lists.values, second.lists[name].values
