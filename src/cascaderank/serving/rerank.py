"""The step after the last stage: pinned items, caps per feature value, and diversity (MMR)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError
from cascaderank.selection import check_size


@final
@dataclass(frozen=True, kw_only=True)
class Rerank:
    """Rules for the final list. The last stage then orders its candidates and cuts none.

    Raises:
        ConfigError: if a cap or a position is not a positive integer, two items are pinned to one
            position, or ``diversity`` is out of range.

    Examples:
        >>> Rerank(caps={"category": 2}, pins={"i7": 1}).diversity
        0.0
    """

    caps: Mapping[str, int] = field(default_factory=dict)
    """Maximum number of items with the same value of a feature, by feature. Missing values are not
    capped."""
    pins: Mapping[Any, int] = field(default_factory=dict)
    """Position from 1 of each pinned item, by key. A pinned item passes every stage in addition to
    the quotas; filters leave it out."""
    diversity: float = 0.0
    """Weight of diversity in [0, 1): maximal marginal relevance, 0 for the order of the scores."""

    def __post_init__(self) -> None:
        for name, most in self.caps.items():
            check_size(most, f"the cap of '{name}'")
        for position in self.pins.values():
            check_size(position, "the position of a pin")
        if len(set(self.pins.values())) < len(self.pins):
            raise ConfigError(f"pins must have different positions; got {dict(self.pins)}")
        if not 0 <= self.diversity < 1:
            raise ConfigError(f"diversity must be in [0, 1); got {self.diversity}")


def reranked(
    scores: NDArray[np.floating[Any]],
    k: int,
    rules: Rerank,
    *,
    pinned: Mapping[int, int],
    groups: Mapping[str, NDArray[np.int64]],
    vectors: NDArray[np.floating[Any]] | None = None,
) -> list[int]:
    r"""Return the final list as positions in the order of the last stage.

    Positions are filled one after another: by the pinned item of the position, or else by the
    candidate of the highest marginal relevance that no cap excludes,

    .. math:: (1 - d) \, r_i - d \max_{j \in \text{list}} \cos(v_i, v_j)

    with r the score, scaled to [0, 1] over the candidates. A pin behind the end of a short list
    is at its end. Pinned items count for caps, and caps do not exclude them.

    Args:
        scores: ``[candidates]`` scores, best first.
        k: length of the list.
        rules: caps and diversity.
        pinned: position from 1 by candidate.
        groups: ``[candidates]`` number of the value of each capped feature; -1 if missing.
        vectors: ``[candidates, dim]``; needed if ``diversity`` is above 0.

    Examples:
        >>> rules, groups = Rerank(caps={"shop": 1}), {"shop": np.array([5, 5, 8])}
        >>> reranked(np.array([3.0, 2.0, 1.0]), 2, rules, pinned={}, groups=groups)
        [0, 2]

    Source: Carbonell and Goldstein 1998 for the marginal relevance; caps and pins: this project.
    """
    count = len(scores)
    free = np.ones(count, dtype=bool)
    free[list(pinned)] = False
    counts = {name: np.zeros(int(g.max(initial=-1)) + 2, np.int64) for name, g in groups.items()}
    relevance = _scaled(scores)
    nearest = np.zeros(count)
    units = None if vectors is None or not rules.diversity else _units(vectors)
    at = {position: place for place, position in pinned.items()}
    late = [at[position] for position in sorted(at)]
    found: list[int] = []

    def allowed() -> NDArray[np.bool_]:
        able = free.copy()
        for name, of in groups.items():
            able &= counts[name][of] < rules.caps[name]  # -1, missing, is the last, always 0
        return able

    while len(found) < k:
        place = at.get(len(found) + 1, -1)
        if place < 0:
            able = allowed()
            if able.any():
                value = (1 - rules.diversity) * relevance - rules.diversity * nearest
                place = int(np.argmax(np.where(able, value, -np.inf)))
            else:  # only pins of later positions are left
                place = next((p for p in late if p not in found), -1)
        if place < 0:
            break
        if place in found:
            at.pop(len(found) + 1)
            continue
        found.append(place)
        free[place] = False
        for name, of in groups.items():
            if of[place] >= 0:
                counts[name][of[place]] += 1
        if units is not None:
            similar = units @ units[place]
            nearest = similar if len(found) == 1 else np.maximum(nearest, similar)
    return found


def _scaled(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return scores scaled to [0, 1]; the order of scores best first is kept exactly."""
    if not len(scores):
        return np.zeros(0)
    finite = np.clip(scores.astype(np.float64), -3.5e38, 3.5e38)
    low, high = float(finite.min()), float(finite.max())
    return (finite - low) / (high - low) if high > low else np.ones(len(scores))


def _units(vectors: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.floating[Any]] = vectors / np.where(lengths > 0, lengths, 1)
    return units
