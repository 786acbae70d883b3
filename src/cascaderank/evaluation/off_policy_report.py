"""Results of off-policy evaluation: estimates with intervals, and the overlap of the policies."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

from cascaderank.errors import ConfigError
from cascaderank.evaluation.statistics.bootstrap import Summary

Verdict = Literal["first", "second", "undecided", "unsupported"]


@final
@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Diagnostics of the overlap between a target policy and the logging policy."""

    exposures: int
    """Number of logged exposures."""
    effective_sample_size: float
    r"""Kish's effective number of exposures, :math:`(\sum w)^2 / \sum w^2`, of clipped weights."""
    clipped: float
    """Share of the exposures whose weight was clipped, in [0, 1]."""
    largest_weight: float
    """Largest weight before clipping."""
    unsupported: float
    r"""Share of the target's exposures on candidates without support:
    :math:`\sum_{\rho^0 < \varepsilon} \rho^\pi / \sum \rho^\pi`, in [0, 1]."""
    weight_ratio: Summary
    """Sum of the weights divided by its expectation under the propensities. If 1 is clearly outside
    the interval, the propensities are not those of the policy that wrote the log."""

    def to_json(self) -> dict[str, object]:
        """Return a JSON-compatible dict."""
        return {**vars(self), "weight_ratio": self.weight_ratio.to_json()}


@final
@dataclass(frozen=True, kw_only=True)
class OffPolicyValue:
    """Estimates of the expected reward of a request under a target policy."""

    requests: int
    """Number of logged requests."""
    estimates: Mapping[str, Summary]
    """Estimates by name: ``ips``, ``snips``, ``beta_ips``, and ``dr`` with predictions."""
    logged: Summary
    """Mean reward of a request under the logging policy."""
    overlap: Overlap
    """Diagnostics."""
    clip: float
    """Upper limit of the weights; infinite if there is none."""
    epsilon: float
    """Propensity below which the log does not support a candidate."""
    most_unsupported: float
    """Largest unsupported share at which the policy may be ranked."""
    confidence: float
    """Confidence level of the intervals, in (0, 1)."""

    @property
    def supported(self) -> bool:
        """Whether the log supports the target policy well enough to rank it."""
        return self.overlap.unsupported <= self.most_unsupported

    def to_json(self) -> dict[str, object]:
        """Return a JSON-compatible dict; an infinite clip is ``None``."""
        return {
            "requests": self.requests,
            "estimates": {name: summary.to_json() for name, summary in self.estimates.items()},
            "logged": self.logged.to_json(),
            "overlap": self.overlap.to_json(),
            "clip": self.clip if math.isfinite(self.clip) else None,
            "epsilon": self.epsilon,
            "most_unsupported": self.most_unsupported,
            "supported": self.supported,
            "confidence": self.confidence,
        }


@final
@dataclass(frozen=True, kw_only=True)
class OffPolicyDifference:
    """Paired estimates of the value of a first policy minus that of a second."""

    estimates: Mapping[str, Summary]
    """Differences by name of the estimator."""
    first: OffPolicyValue
    """Value of the first policy."""
    second: OffPolicyValue
    """Value of the second policy."""

    @property
    def supported(self) -> bool:
        """Whether the log supports both policies well enough to rank them."""
        return self.first.supported and self.second.supported

    def better(self, estimator: str = "snips") -> Verdict:
        """Return which policy has the higher value.

        Args:
            estimator: key of :attr:`estimates`.

        Returns:
            ``"unsupported"`` if the log does not support both policies, whatever the estimates;
            ``"undecided"`` if 0 is in the interval of the difference, or there is no interval; else
            ``"first"`` or ``"second"``.

        Raises:
            ConfigError: if there is no such estimate.
        """
        if estimator not in self.estimates:
            raise ConfigError(
                f"estimator must be one of {', '.join(self.estimates)}; got '{estimator}'"
                + "; pass `predicted` for 'dr'" * (estimator == "dr")
            )
        if not self.supported:
            return "unsupported"
        difference = self.estimates[estimator]
        if difference.low > 0:
            return "first"
        return "second" if difference.high < 0 else "undecided"

    def to_json(self) -> dict[str, object]:
        """Return a JSON-compatible dict."""
        return {
            "estimates": {name: summary.to_json() for name, summary in self.estimates.items()},
            "better": {name: self.better(name) for name in self.estimates},
            "first": self.first.to_json(),
            "second": self.second.to_json(),
        }
