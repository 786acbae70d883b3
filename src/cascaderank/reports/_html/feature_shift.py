"""Shift of features between training and test requests: the population stability index."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.data.ragged import flat_places
from cascaderank.data.split import Rows
from cascaderank.reports._html.scoring_pass import evenly
from cascaderank.runs.data import RunData
from cascaderank.schema import Feature, Kind, Role

SHIFTED = 0.25
"""Population stability index above which a feature counts as shifted, by custom."""

MANY_UNKNOWN = 0.2
"""Share of test values out of vocabulary above which a feature is named in a warning."""

_MOST_VALUES, _BINS = 20, 10
_MOST_REQUESTS, _MOST_CANDIDATES = 5_000, 1_000_000


@final
@dataclass(frozen=True, kw_only=True)
class FeatureShift:
    """Distribution of a feature in training and test."""

    feature: str
    role: str
    kind: str
    index: float
    """Population stability index, less what random samples of this size have."""
    unknown: tuple[float, float]
    """Share of the training and of the test values that are out of vocabulary or missing."""
    constant: bool
    """Whether all training values read are equal."""


def stability_index(train: NDArray[np.int64], test: NDArray[np.int64]) -> float:
    r"""Return the population stability index of two samples of codes.

    .. math:: \sum_b (p_b - q_b) \log \frac{p_b}{q_b}

    with the shares p and q of the bins in both samples, and half an observation added to each bin.
    Bins are the most frequent codes of training and one for all others.

    Args:
        train: codes, at least 0.
        test: codes, at least 0.

    Examples:
        >>> stability_index(np.array([0, 1] * 50), np.array([1, 0] * 50))
        0.0
        >>> round(stability_index(np.array([0, 1] * 50), np.array([0, 0, 0, 1] * 25)), 2)
        0.27

    Source: the index of credit scoring (Siddiqi 2006), Jeffreys' divergence of binned samples.
    """
    values, counts = np.unique(train, return_counts=True)
    frequent = np.sort(values[np.argsort(-counts, kind="stable")][:_MOST_VALUES])

    def shares(codes: NDArray[np.int64]) -> NDArray[np.float64]:
        inside = np.isin(codes, frequent)
        places = np.where(inside, np.searchsorted(frequent, codes), len(frequent))
        counted = np.bincount(places, minlength=len(frequent) + 1) + 0.5
        of_bins: NDArray[np.float64] = counted / counted.sum()
        return of_bins

    p, q = shares(train), shares(test)
    return float(((p - q) * np.log(p / q)).sum())


def feature_shifts(data: RunData, features: Sequence[Feature]) -> list[FeatureShift]:
    """Return the shift of each feature from the training to the test requests, largest first.

    Up to 5,000 requests of each part are read, at equal distances.

    Args:
        data: data of the run.
        features: features to compare.
    """
    parts = [_some(data, rows) for rows in (data.split.train, data.split.test)]
    if not all(map(len, parts)):
        return []
    # Candidates of a request are no independent sample: requests count.
    noise = sum(1 / len(rows) for rows in parts)
    found = []
    for feature in features:
        train, test = (_column(data, feature, rows) for rows in parts)
        if not len(train) or not len(test):
            continue
        if feature.kind is Kind.CATEGORICAL:
            bins = min(_MOST_VALUES, len(np.unique(train)))
            unknown = float((train == 0).mean()), float((test == 0).mean())
            index = stability_index(train.astype(np.int64), test.astype(np.int64))
        else:
            unknown = float(np.isnan(train).mean()), float(np.isnan(test).mean())
            edges = _edges(train)
            bins = len(edges) + 1
            index = stability_index(_binned(train, edges), _binned(test, edges))
        known = train if feature.kind is Kind.CATEGORICAL else train[~np.isnan(train)]
        found.append(
            FeatureShift(
                feature=feature.name,
                role=str(feature.role),
                kind=str(feature.kind),
                index=max(0.0, index - bins * noise),
                unknown=unknown,
                constant=not len(known) or bool((known == known[0]).all()),
            )
        )
    return sorted(found, key=lambda shift: -shift.index)


def _some(data: RunData, rows: Rows) -> Rows:
    rows = evenly(rows, _MOST_REQUESTS)
    candidates = int(np.diff(data.encoded.offsets)[rows].sum())
    return evenly(rows, max(1, len(rows) * _MOST_CANDIDATES // max(candidates, _MOST_CANDIDATES)))


def _column(data: RunData, feature: Feature, rows: Rows) -> NDArray[Any]:
    """Return the values of a feature in some requests, one after the other."""
    encoded = data.encoded
    if feature.role is Role.REQUEST:
        if feature.several:
            return encoded.request_lists[feature.name].taken(rows).values
        return np.asarray(encoded.request[feature.name][rows])
    if feature.role is Role.HISTORY:
        places = flat_places(encoded.history_offsets[feature.sequence], rows)
        return np.asarray(encoded.history[feature.name][places])
    places = flat_places(encoded.offsets, rows)
    if feature.several:
        return encoded.item_lists[feature.name].taken(places).values
    return np.asarray(encoded.items[feature.name][places])


def _edges(train: NDArray[Any]) -> NDArray[np.float64]:
    known = train[~np.isnan(train)]
    if not len(known):
        return np.zeros(0)
    return np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1])).astype(np.float64)


def _binned(values: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of each number; missing ones have the last."""
    return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values))
