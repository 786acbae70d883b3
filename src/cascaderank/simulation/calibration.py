"""Calibration of predicted probabilities: reliability, calibration error and Platt scaling."""

from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from cascaderank.errors import DataError
from cascaderank.settings.base import Settings

Floats = NDArray[np.float64]


class ReliabilityBin(Settings):
    """Bin of candidates with similar predicted probability, and their positive rate."""

    predicted: float
    """Mean predicted probability."""
    observed: float
    """Share of positive candidates."""
    count: int
    """Number of candidates."""


def reliability(probabilities: Floats, labels: Floats, *, bins: int = 15) -> list[ReliabilityBin]:
    """Return a reliability table with equally many candidates per bin, up to one.

    Args:
        probabilities: ``[n]``, predicted probabilities in [0, 1].
        labels: ``[n]``, 1 or 0.
        bins: number of bins; empty bins are omitted.

    Examples:
        >>> table = reliability(np.array([0.1, 0.9]), np.array([0.0, 1.0]), bins=2)
        >>> [(b.predicted, b.observed) for b in table]
        [(0.1, 0.0), (0.9, 1.0)]

    Source: Niculescu-Mizil and Caruana, ICML 2005.
    """
    order = probabilities.argsort(kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [
        ReliabilityBin(
            predicted=float(probabilities[part].mean()),
            observed=float(labels[part].mean()),
            count=len(part),
        )
        for part in parts
    ]


def calibration_error(table: list[ReliabilityBin]) -> float:
    r"""Return the expected calibration error (ECE) of a reliability table.

    .. math::
        \text{ECE} = \sum_b \frac{n_b}{n} |\bar p_b - \bar y_b|

    with :math:`n_b` candidates, mean probability :math:`\bar p_b` and positive rate
    :math:`\bar y_b` of bin b.

    Returns:
        ECE in [0, 1]; 0 if the mean probability of every bin equals its positive rate.

    Examples:
        >>> round(calibration_error(reliability(np.full(4, 0.5), np.array([1, 0, 1, 1.0]))), 3)
        0.5

    Source: Guo et al., ICML 2017, with bins of equal size.
    """
    total = sum(b.count for b in table)
    return sum(b.count * abs(b.predicted - b.observed) for b in table) / total


@final
class Platt(Settings):
    """Platt scaling: the probability is ``sigmoid(slope * score + offset)``.

    Examples:
        >>> float(Platt(slope=1.0, offset=0.0)(np.array([0.0]))[0])
        0.5
    """

    slope: float
    offset: float

    def __call__(self, scores: NDArray[np.floating]) -> Floats:
        """Return the probabilities of scores."""
        probabilities: Floats = expit(self.slope * scores.astype(np.float64) + self.offset)
        return probabilities

    @classmethod
    def fit(cls, scores: Floats, labels: Floats) -> "Platt":
        """Fit slope and offset by maximum likelihood.

        Args:
            scores: ``[n]``, logits.
            labels: ``[n]``, 1 or 0.

        Raises:
            DataError: if all labels are equal.

        Source: Platt 1999, without its prior (the smoothed targets).
        """
        if labels.min() == labels.max():
            raise DataError(
                "calibration needs positive and negative labels in the validation requests; "
                f"all {len(labels):,} labels are {labels.min():g}"
            )

        def loss(line: Floats) -> tuple[float, Floats]:
            logits = line[0] * scores + line[1]
            residual = expit(logits) - labels
            value = np.logaddexp(0, logits) - labels * logits
            return float(value.mean()), np.array([(residual * scores).mean(), residual.mean()])

        line = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
        return cls(slope=float(line[0]), offset=float(line[1]))
