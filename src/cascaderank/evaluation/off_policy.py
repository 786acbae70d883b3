"""Off-policy value of a cascade: its expected reward, from the log of another one."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError
from cascaderank.evaluation.exposure_log import Array, ExposureLog, check_probabilities, matrix
from cascaderank.evaluation.off_policy_report import OffPolicyDifference, OffPolicyValue, Overlap
from cascaderank.evaluation.statistics.bootstrap import Summary, bootstrap_intervals

Floats = NDArray[np.float64]

EPSILON = 1e-3
"""Default propensity below which the log does not support a candidate."""

MOST_UNSUPPORTED = 0.05
"""Default share of the target's exposures without support above which policies are not ranked."""


def off_policy_value(
    log: ExposureLog,
    target: Array,
    *,
    predicted: Array | None = None,
    clip: float = math.inf,
    epsilon: float = EPSILON,
    most_unsupported: float = MOST_UNSUPPORTED,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> OffPolicyValue:
    r"""Estimate the expected reward of a request under a policy that did not write the log.

    With the exposure probabilities :math:`\rho^\pi` of the target policy and :math:`\rho^0` of the
    logging policy, the exposed candidates :math:`E_i` of request i, their rewards r and predicted
    rewards :math:`\hat r`, and weights :math:`w = \min(c, \rho^\pi / \rho^0)`:

    .. math::
        V_\text{ips} = \tfrac1n \sum_i \sum_{j \in E_i} w_{ij} r_{ij}
    .. math::
        V_\text{snips} = \frac{\sum_i \sum_{j \in E_i} w_{ij} r_{ij}}
            {\sum_i \sum_{j \in E_i} w_{ij}} \cdot \tfrac1n \sum_i \sum_j \rho^\pi_{ij}
    .. math::
        V_\beta = V_\text{ips} - \beta \tfrac1n \sum_i \left(
            \sum_{j \in E_i} w_{ij} - \sum_j \rho^0_{ij} w_{ij} \right)
    .. math::
        V_\text{dr} = \tfrac1n \sum_i \left( \sum_j \rho^\pi_{ij} \hat r_{ij}
            + \sum_{j \in E_i} w_{ij} (r_{ij} - \hat r_{ij}) \right)

    In ``beta_ips``, :math:`\beta` minimises the variance. All assume that the reward of a candidate
    does not depend on the other candidates that are exposed with it, and that the propensities are
    correct. Without a clip, ``ips`` and ``dr`` are unbiased if the log supports the target. The
    sampling unit is the request: intervals are percentile bootstraps over requests, of linearised
    values for ``snips`` and ``beta_ips``. They cover neither the bias of the clip nor that of
    unsupported candidates.

    Args:
        log: requests with exposures, rewards and propensities.
        target: ``[requests, list]``, :math:`\rho^\pi` in [0, 1] of every candidate, as from
            :func:`~cascaderank.evaluation.exposure.exposure_probability`.
        predicted: ``[requests, list]``, :math:`\hat r` of every candidate, from a model that was
            not trained on these requests. Without it there is no ``dr``.
        clip: upper limit c of the weights, positive.
        epsilon: :math:`\varepsilon`, propensity below which the log does not support a candidate;
            in [0, 1].
        most_unsupported: largest share of unsupported exposures of a policy that may be ranked; in
            [0, 1].
        resamples: number of bootstrap replicates; 0 disables the intervals.
        seed: random seed of the bootstrap.
        confidence: confidence level, in (0, 1).

    Raises:
        ShapeError: if the arrays do not agree with the log.
        DataError: if a probability or a prediction is out of range, or the policies have no common
            exposure; the message has the row.
        ConfigError: if an option is out of range.

    Examples:
        >>> rng = np.random.default_rng(1)
        >>> exposed = np.eye(2, dtype=bool)[rng.integers(2, size=1000)]  # one of two at random
        >>> rewards = exposed * [1.0, 0.2]
        >>> log = ExposureLog(rewards=rewards, exposed=exposed, propensities=exposed * 0.0 + 0.5)
        >>> value = off_policy_value(log, exposed * 0.0 + [0.9, 0.1])  # true value .92
        >>> print({name: round(summary.mean, 2) for name, summary in value.estimates.items()})
        {'ips': 0.94, 'snips': 0.92, 'beta_ips': 0.92}
        >>> round(value.overlap.effective_sample_size), value.supported
        (617, True)

    Source: Horvitz and Thompson 1952 (ips); Swaminathan and Joachims 2015 (snips); Jeunen and
    Ustimenko, arXiv 2405.10024 (control variate); Dudik, Langford and Li 2011 (dr); for sums over
    exposed items Li et al., KDD 2018.
    """
    options = _Options(clip, epsilon, most_unsupported, resamples, seed, confidence).checked()
    sums = _sums(log, target, predicted, options, name="target")
    return _value(log, sums, options)


def off_policy_difference(
    log: ExposureLog,
    first: Array,
    second: Array,
    *,
    predicted: Array | None = None,
    clip: float = math.inf,
    epsilon: float = EPSILON,
    most_unsupported: float = MOST_UNSUPPORTED,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> OffPolicyDifference:
    r"""Estimate the difference between the values of two policies on the same log.

    ``ips``, ``snips`` and ``dr`` are differences of the estimates of
    :func:`off_policy_value`, and ``beta_ips`` has one :math:`\beta` that minimises the
    variance of the difference. The interval is over differences of the same requests. It is
    narrower than that of either value if the policies expose similar candidates. To compare a
    policy with the logging policy, pass ``log.propensities`` as the second.

    Args:
        log: as of :func:`off_policy_value`, like the options.
        first: ``[requests, list]``, exposure probabilities of the first policy.
        second: ``[requests, list]``, exposure probabilities of the second policy.
        predicted: ``[requests, list]``, predicted rewards for ``dr``.
        clip: upper limit of the weights, positive.
        epsilon: propensity below which the log does not support a candidate.
        most_unsupported: largest unsupported share at which policies are ranked.
        resamples: number of bootstrap replicates; 0 disables the intervals.
        seed: random seed of the bootstrap.
        confidence: confidence level, in (0, 1).

    Raises:
        ShapeError: as :func:`off_policy_value`.
        DataError: as :func:`off_policy_value`.
        ConfigError: as :func:`off_policy_value`.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> exposed = np.eye(2, dtype=bool)[rng.integers(2, size=1000)]
        >>> rewards = exposed * [1.0, 0.2]
        >>> log = ExposureLog(rewards=rewards, exposed=exposed, propensities=exposed * 0.0 + 0.5)
        >>> some = off_policy_difference(log, exposed * 0.0 + [0.9, 0.1], log.propensities)
        >>> some.better("snips")
        'first'

    Source: Jeunen and Ustimenko, arXiv 2405.10024.
    """
    options = _Options(clip, epsilon, most_unsupported, resamples, seed, confidence).checked()
    one = _sums(log, first, predicted, options, name="first")
    other = _sums(log, second, predicted, options, name="second")
    of_one, of_other = _by_estimator(one), _by_estimator(other)
    differences = {name: of_one[name] - of_other[name] for name in of_one}
    differences["beta_ips"] = _controlled(one.reward - other.reward, one.excess - other.excess)
    return OffPolicyDifference(
        estimates=_intervals(differences, options),
        first=_value(log, one, options),
        second=_value(log, other, options),
    )


class _Options(NamedTuple):
    """Options of an estimate."""

    clip: float
    epsilon: float
    most_unsupported: float
    resamples: int
    seed: int
    confidence: float

    def checked(self) -> "_Options":
        """Return the options after checking those that the bootstrap does not check."""
        if not self.clip > 0:
            raise ConfigError(f"clip must be positive, or infinity for none; got {self.clip}")
        for name in ("epsilon", "most_unsupported"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must be in [0, 1]; got {value}")
        return self


class _Sums(NamedTuple):
    """Sums of each request, ``[requests]`` each, and the weights."""

    reward: Floats
    """Weighted rewards of the exposed candidates."""
    weight: Floats
    """Weights of the exposed candidates."""
    expected: Floats
    """Expectation of :attr:`weight` over exposures, under the propensities."""
    quota: Floats
    """Expected number of exposures of the target policy."""
    unsupported: Floats
    """The part of :attr:`quota` that is on candidates without support."""
    direct: Floats | None
    """Doubly robust values, if there are predictions."""
    ratios: Floats
    """``[exposures]`` weights before clipping."""

    @property
    def excess(self) -> Floats:
        """Weights minus their expectation: has mean 0."""
        return self.weight - self.expected


def _sums(
    log: ExposureLog, target: Array, predicted: Array | None, options: _Options, *, name: str
) -> _Sums:
    rho = check_probabilities(target, name, log.mask)
    supported, exposed = log.propensities > 0, log.exposed
    ratios = rho[exposed] / log.propensities[exposed]
    weights = np.zeros_like(rho)
    weights[exposed] = np.minimum(options.clip, ratios)
    log.check_overlap(weights, name)
    limit = np.where(supported, options.clip, 0.0) * np.where(supported, log.propensities, 1.0)
    expected = np.minimum(rho, limit)
    direct = None
    if predicted is not None:
        model = matrix(predicted, "predicted", log.mask)
        direct = (rho * model + weights * (log.rewards - model)).sum(1)
    return _Sums(
        reward=(weights * log.rewards).sum(1),
        weight=weights.sum(1),
        expected=expected.sum(1),
        quota=rho.sum(1),
        unsupported=(rho * (log.propensities < options.epsilon)).sum(1),
        direct=direct,
        ratios=ratios,
    )


def _by_estimator(sums: _Sums) -> dict[str, Floats]:
    """Return one value per request, ``[requests]``, whose mean is the estimate, by estimator."""
    ratio = sums.reward.mean() / sums.weight.mean()
    quota = sums.quota.mean()
    values = {
        "ips": sums.reward,
        "snips": ratio * sums.quota
        + quota / sums.weight.mean() * (sums.reward - ratio * sums.weight),
        "beta_ips": _controlled(sums.reward, sums.excess),
    }
    return values if sums.direct is None else values | {"dr": sums.direct}


def _controlled(values: Floats, excess: Floats) -> Floats:
    r"""Return values whose mean is ``mean(values) - beta mean(excess)`` with the best ``beta``.

    It is the intercept of a regression on ``excess``, which has expectation 0. Values deviate from
    it by their influence, where residuals are divided by 1 minus their leverage (HC3): the fit
    makes those of large weights too small.
    """
    mean = excess.mean()
    centred = excess - mean
    variance = float(centred @ centred)
    # Rounding errors of equal weights are no variance.
    if variance <= len(excess) * (1e-12 * np.abs(excess).max(initial=1.0)) ** 2:
        return values
    beta, share = values @ centred / variance, centred / variance
    leverage = (centred * share + 1 / len(values)).clip(max=1 - 1 / len(values))
    residuals = (values - values.mean() - beta * centred) / (1 - leverage)
    influence = residuals * (1 - len(values) * mean * share)
    controlled: Floats = values.mean() - beta * mean + influence - influence.mean()
    return controlled


def _intervals(columns: Mapping[str, Floats], options: _Options) -> dict[str, Summary]:
    return bootstrap_intervals(
        columns, resamples=options.resamples, seed=options.seed, confidence=options.confidence
    )


def _value(log: ExposureLog, sums: _Sums, options: _Options) -> OffPolicyValue:
    columns = _by_estimator(sums)
    expected = sums.expected.mean()
    ratio = sums.weight.mean() / expected
    checks = {
        "logged": log.rewards.sum(1),
        "weight_ratio": ratio + (sums.weight - ratio * sums.expected) / expected,
    }
    found = _intervals(columns | checks, options)
    weights = np.minimum(options.clip, sums.ratios)
    return OffPolicyValue(
        requests=len(log.rewards),
        estimates={name: found[name] for name in columns},
        logged=found["logged"],
        overlap=Overlap(
            exposures=len(weights),
            effective_sample_size=float(weights.sum() ** 2 / (weights**2).sum()),
            clipped=float((sums.ratios > options.clip).mean()),
            largest_weight=float(sums.ratios.max()),
            unsupported=float(sums.unsupported.sum() / sums.quota.sum()),
            weight_ratio=found["weight_ratio"],
        ),
        clip=options.clip,
        epsilon=options.epsilon,
        most_unsupported=options.most_unsupported,
        confidence=options.confidence,
    )
