"""Warnings about numbers from which nothing can be learned, although training would go through.

A warning has one sentence on what was found, with numbers, and one on what to change.
"""

from collections.abc import Iterator

import numpy as np

from cascaderank.data.encoding.fitting import feature_values, finite_numbers, logged
from cascaderank.runs.data import RunData

_MOST_REQUESTS = 2_000  # that a check reads
_ALMOST_ALL = 0.99  # of lists
_NARROW = 1e-4  # of a standard deviation


def number_warnings(data: RunData) -> tuple[str, ...]:
    """Return warnings about labels that are all equal, and about features that outliers flatten.

    Args:
        data: data of the run.

    Examples:
        See ``docs/training.md``; ``cascaderank train`` prints them.

    Source: this project.
    """
    return (*_equal_labels(data), *_flattened_features(data))


def _equal_labels(data: RunData) -> Iterator[str]:
    rows, labels, offsets = data.split.train, data.encoded.labels, data.encoded.offsets
    if labels is None or not len(rows):
        return
    rows = rows[:: max(1, len(rows) // _MOST_REQUESTS)]
    lists = [labels[offsets[row] : offsets[row + 1]] for row in rows.tolist()]
    equal = sum(bool((x == x[:1]).all()) for x in lists)
    if equal >= _ALMOST_ALL * len(lists):
        yield (
            f"all candidates have the same label in {equal:,} of {len(lists):,} training lists, so "
            "there is no order to learn. Set data.target to another column, or add candidates with "
            "other labels to the data set."
        )


def _flattened_features(data: RunData) -> Iterator[str]:
    """Warn of standardised features whose values hardly differ, because a few are far larger."""
    features = [f for f in data.schema.features if f.name in data.schema.moments]
    if not features or not len(data.split.train):
        return
    rows = data.split.train[:: max(1, len(data.split.train) // _MOST_REQUESTS)]
    frames = list(data.log.frames(rows=rows))
    for feature in features:
        parts = [finite_numbers(feature, feature_values(frame, feature)) for frame in frames]
        numbers = logged(feature, np.concatenate(parts))
        numbers = numbers[~np.isnan(numbers)]
        deviation = data.schema.moments[feature.name].deviation
        if not len(numbers):
            continue
        middle = float(np.median(numbers))
        width = float(np.median(np.abs(numbers - middle)))
        if 0 < width < _NARROW * deviation:
            yield (
                f"feature '{feature.name}': half of its values are within {width:.3g} of "
                f"{middle:.3g}, but its standard deviation is {deviation:.3g}, because of a few "
                "values far away, so it is almost constant for the others. Correct or drop these "
                'values, or set transform = "log1p_standardise".'
            )
