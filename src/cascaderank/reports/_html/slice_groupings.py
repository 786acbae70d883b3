"""Slices of the test requests and of their ground truth, by features of requests and items."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.data.encoding.value_lists import NO_VALUE
from cascaderank.evaluation import Grouping
from cascaderank.reports._html.reported_run import ReportedRun
from cascaderank.reports._html.scoring_pass import ScoredBatch
from cascaderank.reports._html.slice_names import (
    UNKNOWN,
    category_slices,
    number_slices,
    original,
)
from cascaderank.runs.data import RunData
from cascaderank.schema import Feature, FittedSchema, Kind, Role

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@final
class GroundTruthItems:
    """Ground truth of the scored requests with its item features and its fate.

    Args:
        features: item features with one value, or with several categories.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self._parts: list[dict[str, NDArray[Any]]] = []

    def add(self, scored: ScoredBatch, /) -> None:
        """Add a batch."""
        where = scored.relevant > 0
        rows = scored.batch.rows
        if rows is None or not bool(where.any()):
            return
        part = {
            "row": rows[:, None].expand_as(where)[where].numpy(),
            "weight": scored.relevant[where].numpy(),
            # Index of the stage that cut the candidate; the number of stages if none did.
            "fate": scored.kept.sum(0)[where].numpy().astype(np.int16),
        }
        for feature in self.features:
            of_items = scored.batch.items.get(feature.name)
            if of_items is not None:
                part[f"feature {feature.name}"] = _narrow(of_items[where])
        self._parts.append(part)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column over all ground truth; lists of categories are padded with -1."""
        parts = [part[name] for part in self._parts]
        if parts and parts[0].ndim > 1:
            widest = max(part.shape[1] for part in parts)
            parts = [
                np.pad(part, ((0, 0), (0, widest - part.shape[1])), constant_values=NO_VALUE)
                for part in parts
            ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def has(self, feature: Feature) -> bool:
        """Return whether the batches have the feature."""
        return bool(self._parts) and f"feature {feature.name}" in self._parts[0]


def _narrow(values: Tensor) -> NDArray[Any]:
    kind = torch.float32 if values.is_floating_point() else torch.int32
    return values.to(kind).numpy()


def sliced_features(schema: FittedSchema, role: Role) -> list[Feature]:
    """Return the features that slices are made of: numbers, categories and lists of categories."""
    return [f for f in schema.of(role) if f.width is None]


def request_groupings(
    reported: ReportedRun,
    data: RunData,
    *,
    values: Floats | None = None,
    details: Mapping[str, Floats] | None = None,
) -> list[Grouping]:
    """Return the slices of the test requests by their own properties and features.

    Args:
        reported: the run, with values per request.
        data: its data set.
        values: ``[requests]`` metric of the test requests; by default the joint recall of the run.
        details: further values by name; by default what each stage lost.
    """
    rows = reported.test.per_request["row"].astype(np.int64)
    if values is None:
        values = reported.values("joint_recall")
    if details is None:
        details = {name: reported.values(f"lost/{name}") for name in reported.stages}

    def grouping(feature: str, names: Sequence[str], codes: Ints) -> Grouping:
        return Grouping(feature=feature, names=names, codes=codes, values=values, details=details)

    encoded, found = data.encoded, []
    numbers: dict[str, Floats] = {
        "number of candidates": np.diff(encoded.offsets)[rows].astype(np.float64),
        "size of the ground truth": reported.values("ground_truth"),
    }
    for sequence, offsets in encoded.history_offsets.items():
        numbers[f"length of {sequence}"] = np.diff(offsets)[rows].astype(np.float64)
    for feature in sliced_features(data.schema, Role.REQUEST):
        if feature.several:
            lists = encoded.request_lists[feature.name].taken(rows)
            owners = np.repeat(np.arange(len(rows)), np.diff(lists.offsets))
            names, codes = category_slices(data.schema, feature, lists.values)
            found.append(
                Grouping(
                    feature=feature.name,
                    names=names,
                    codes=codes,
                    values=values[owners],
                    details={name: lost[owners] for name, lost in details.items()},
                )
            )
            continue
        column = np.asarray(encoded.request[feature.name][rows])
        if feature.kind is Kind.CATEGORICAL:
            found.append(grouping(feature.name, *category_slices(data.schema, feature, column)))
        else:
            numbers[feature.name] = original(data.schema, feature, column)
    if encoded.days is not None:
        days = np.asarray(encoded.days)[rows].astype("datetime64[D]")
        each, of_rows = np.unique(days, return_inverse=True)
        found.append(grouping("day", [str(day) for day in each], of_rows.astype(np.int64)))
    return [*(grouping(name, *number_slices(column)) for name, column in numbers.items()), *found]


def item_groupings(
    items: GroundTruthItems,
    schema: FittedSchema,
    stages: Sequence[str],
    *,
    popularity: tuple[str, Ints] | None = None,
) -> list[Grouping]:
    """Return the slices of the ground truth by features of items.

    A unit is a request and a slice: the part of the request's ground truth in the slice.

    Args:
        items: ground truth of the scored requests.
        schema: fitted schema of the run.
        stages: names of the stages.
        popularity: feature that identifies items, and the number of times that each of its codes
            was a candidate in training; ``None`` if no feature does.
    """
    weights, fate = items.column("weight"), items.column("fate")
    requests = np.unique(items.column("row"), return_inverse=True)[1]
    found = []
    for feature in items.features:
        if not items.has(feature):
            continue
        column = items.column(f"feature {feature.name}")
        owners = np.arange(len(column))
        if column.ndim > 1:
            owners = np.repeat(owners, column.shape[1])
            column = column.ravel()
            owners, column = owners[column != NO_VALUE], column[column != NO_VALUE]
        if feature.kind is Kind.CATEGORICAL:
            names, codes = category_slices(schema, feature, column)
        else:
            names, codes = number_slices(original(schema, feature, column))
        found.append(
            _units(
                feature.name, names, codes, requests[owners], weights[owners], fate[owners], stages
            )
        )
        if popularity is not None and popularity[0] == feature.name:
            times = popularity[1][column].astype(np.float64)
            names, codes = number_slices(times)
            names = [*names, UNKNOWN]
            codes = np.where(column == 0, len(names) - 1, codes)
            found.append(
                _units(
                    f"popularity of {feature.name} (candidates in training)",
                    names, codes, requests[owners], weights[owners], fate[owners], stages,
                )
            )  # fmt: skip
    return found


def _units(
    feature: str,
    names: Sequence[str],
    codes: Ints,
    requests: Ints,
    weights: Floats,
    fate: NDArray[Any],
    stages: Sequence[str],
) -> Grouping:
    """Return one unit per request and slice, from the candidates of the ground truth."""
    pairs, inverse = np.unique(requests * (len(names) + 1) + codes + 1, return_inverse=True)
    total = np.bincount(inverse, weights, minlength=len(pairs))

    def share(chosen: NDArray[np.bool_]) -> Floats:
        found: Floats = np.bincount(inverse, weights * chosen, minlength=len(pairs)) / total
        return found

    return Grouping(
        feature=feature,
        names=names,
        codes=pairs % (len(names) + 1) - 1,
        values=share(fate == len(stages)),
        details={name: share(fate == t) for t, name in enumerate(stages)},
    )


def popularity_of(data: RunData, name: str, rows: Ints) -> Ints:
    """Return how often each code of an item feature is a candidate of some requests.

    Args:
        data: data of the run.
        name: categorical item feature with one value.
        rows: row numbers of the requests.
    """
    counts = np.zeros(data.schema.codes(data.schema[name]), dtype=np.int64)
    column, offsets = data.encoded.items[name], data.encoded.offsets
    for row in np.array_split(rows, max(1, len(rows) // 1000)):
        places = np.concatenate([np.arange(offsets[r], offsets[r + 1]) for r in row] or [row])
        counts += np.bincount(column[places], minlength=len(counts))
    return counts


def details_of(found: Mapping[str, tuple[float, float]]) -> str:
    """Return the name of the further value that exceeds the rest by most; ``""`` for none."""
    name = max(found, key=lambda n: found[n][0] - found[n][1], default="")
    return name if name and found[name][0] > found[name][1] else ""
