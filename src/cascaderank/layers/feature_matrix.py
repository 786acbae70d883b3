"""Features of candidates as a dense matrix, the input of decision trees."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError, ShapeError
from cascaderank.schema import Feature, FittedSchema, Kind, Role

_CODES = 2**24  # codes above are not exact in float32


def matrix_features(features: Sequence[Feature]) -> list[Feature]:
    """Return the features that have columns in the matrix, in their order.

    These are features of requests and candidates that are numbers, vectors or single categories.
    Histories, and features with several categories, have no columns.

    Args:
        features: features of any role and kind.

    Examples:
        >>> price = Feature(name="price", role="item", kind="numeric")
        >>> tags = Feature(name="tags", role="item", kind="categorical", multiple=True)
        >>> [f.name for f in matrix_features([price, tags])]
        ['price']
    """
    return [
        f
        for f in features
        if f.role in (Role.ITEM, Role.REQUEST) and (f.width is not None or not f.several)
    ]


def category_columns(schema: FittedSchema, features: Sequence[Feature]) -> list[int]:
    """Return the indices of the columns of :func:`feature_matrix` that are categories.

    Args:
        schema: schema fitted to the training requests.
        features: features with columns, as of :func:`matrix_features`.

    Raises:
        ConfigError: if a feature has more codes than float32 represents exactly.
    """
    columns, width = [], 0
    for feature in features:
        if feature.kind is Kind.CATEGORICAL:
            if schema.codes(feature) > _CODES:
                raise ConfigError(
                    f"trees take at most {_CODES:,} categories of a feature; '{feature.name}' has "
                    f"{schema.codes(feature):,}; exclude it, or set fewer buckets"
                )
            columns.append(width)
        width += feature.width or 1
    return columns


def feature_matrix(batch: RequestBatch, features: Sequence[Feature]) -> NDArray[np.float32]:
    """Return the features of the real candidates of a batch, request by request.

    Args:
        batch: requests with their candidates, on any device.
        features: features with columns, as of :func:`matrix_features`.

    Returns:
        ``[candidates, columns]``: one column for a number or a category, ``width`` for a vector.
        Values of a request are repeated for its candidates; missing numbers are NaN.

    Raises:
        ShapeError: if a vector has another width.

    Examples:
        >>> batch = RequestBatch(
        ...     mask=torch.tensor([[True, True], [True, False]]),
        ...     items={"price": torch.tensor([[1.0, 2.0], [3.0, 0.0]])},
        ...     request={"hour": torch.tensor([7, 8])},
        ... )
        >>> hour = Feature(name="hour", role="request", kind="categorical")
        >>> price = Feature(name="price", role="item", kind="numeric")
        >>> feature_matrix(batch, [hour, price]).tolist()
        [[7.0, 1.0], [7.0, 2.0], [8.0, 3.0]]
    """
    columns = []
    for feature in features:
        values = batch.items.get(feature.name)
        if values is None:
            of_request = batch.request[feature.name].unsqueeze(1)
            values = of_request.expand(*batch.mask.shape, *of_request.shape[2:])
        if values.shape[2:] != ((feature.width,) if feature.width else ()):
            raise ShapeError(
                f"feature '{feature.name}' has several values and must be "
                f"[batch, list, {feature.width}]; got {list(values.shape)}"
            )
        chosen = values[batch.mask].float().cpu()
        columns.append(chosen if feature.width else chosen.unsqueeze(-1))
    return torch.cat(columns, -1).numpy()
