"""Warnings about numbers from which nothing can be learned, although training would go through.

A warning has one sentence on what was found, with numbers, and one on what to change.
"""

from collections.abc import Iterator

import numpy as np

from cascaderank.data.encoding.fitting import feature_values, finite_numbers, logged
from cascaderank.runs.data import RunData
from cascaderank.settings.run import RunSettings

_MOST_REQUESTS = 2_000  # that a check reads
_ALMOST_ALL = 0.99  # of lists
_NARROW = 1e-4  # of a standard deviation
_LARGE_RATE = 1.0  # AdamW changes each weight by up to the learning rate in each step


def number_warnings(settings: RunSettings, data: RunData) -> tuple[str, ...]:
    """Return warnings about labels, features and a learning rate from which little is learned.

    Args:
        settings: settings of the run.
        data: data of the run.

    Examples:
        See ``docs/training.md``; ``cascaderank train`` prints them.

    Source: this project.
    """
    return (*_equal_labels(data), *_flattened_features(data), *_large_learning_rate(settings))


def _large_learning_rate(settings: RunSettings) -> Iterator[str]:
    rate = settings.train.learning_rate
    if rate >= _LARGE_RATE:
        yield (
            f"train.learning_rate is {rate:g}, and each step changes weights by up to about that, "
            "so scores may become huge or constant. Lower train.learning_rate; 0.001 to 0.1 is "
            "usual."
        )


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
    frames = list(data.log.frames([feature.name for feature in features], rows=rows))
    for feature in features:
        parts = [finite_numbers(feature, feature_values(frame, feature)) for frame in frames]
        numbers = logged(feature, np.concatenate(parts))
        numbers = numbers[~np.isnan(numbers)]
        deviation = data.schema.moments[feature.name].deviation
        if not len(numbers):
            continue
        middle = float(np.median(numbers))
        distances = np.abs(numbers - middle)
        distances = distances[distances > 0]  # most values of a count can be 0
        width = float(np.median(distances)) if len(distances) else 0.0
        if 0 < width < _NARROW * deviation:
            yield (
                f"feature '{feature.name}': half of the values other than the median, "
                f"{middle:.3g}, are within {width:.3g} of it, but the standard deviation is "
                f"{deviation:.3g}, because of a few values far away, so the feature is almost "
                "constant for the others. Correct or drop these values, or set transform = "
                '"log1p_standardise".'
            )
