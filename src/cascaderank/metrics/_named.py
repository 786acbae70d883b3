"""Metrics by what people call them: ``"ndcg@15"``, ``"recall@10 >= 3"``, ``"gauc among >= 2"``."""

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.metrics import METRICS
from cascaderank.tensors import check_lists

_ALIASES = {"map": "average_precision", "mrr": "reciprocal_rank"}
POOLED = ("pooled_auc", "gauc")
"""Made of all requests together: of one candidate heap, or of requests that do not weigh alike."""
CONSISTENCY = "rcs"
"""Of one stage and the next: :func:`cascaderank.evaluation.ranking_consistency`."""
ERRORS = ("bias", "absolute_error")
"""Of scores as log-odds, against labels that are probabilities."""
_NUMBER = r"(-?[0-9]+(?:\.[0-9]+)?)"
_NAME = re.compile(
    r"([a-z_]+)(?:@([1-9][0-9]{0,8}))?(?:@([1-9][0-9]{0,8}))?"
    rf"(?: >= {_NUMBER})?(?: among >= {_NUMBER})?"
)


@dataclass(frozen=True)
class NamedMetric:
    """A metric of one ranking, with its sizes; made by :func:`named_metric`."""

    text: str
    """How it was called."""
    name: str
    """Registered name of the metric, one of :data:`POOLED` or :data:`ERRORS`, or
    :data:`CONSISTENCY`."""
    options: dict[str, Any]
    takes_truth: bool
    """Whether it has to be told what the ground truth is."""
    threshold: float | None = None
    """The ground truth is every label of at least this, whatever that of the run is."""
    among: float | None = None
    """Only candidates whose label is at least this are looked at."""

    def __call__(
        self,
        scores: Tensor,
        labels: Tensor,
        *,
        k: int | None = None,
        threshold: float | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return one value per list, NaN where undefined.

        Of ``gauc`` and ``pooled_auc`` it is the AUC of each list.

        Args:
            scores: ``[..., list]``, higher is better.
            labels: ``[..., list]``, higher is better.
            k: the ground truth is the top ``k`` by label, unless the metric's own name says.
            threshold: the ground truth is every label of at least this, unless the name says.
            mask: ``[..., list]`` bool, ``True`` for a real candidate.
        """
        options = dict(self.options)
        if self.takes_truth and "k" not in options:
            options |= self.truth(k, threshold)
        mask = self.candidates(labels, mask)
        if self.name in ERRORS:
            return _error(self.name, scores, labels, mask)
        name = "auc" if self.name in POOLED else self.name
        return METRICS[name](scores, labels, mask=mask, **options)

    def truth(self, k: int | None, threshold: float | None) -> dict[str, Any]:
        """Return what the ground truth is, given that of the run."""
        if self.threshold is not None:
            return {"k": None, "threshold": self.threshold}
        return {"k": k, "threshold": threshold}

    def candidates(self, labels: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return which candidates are looked at, given those that are real."""
        if self.among is None:
            return mask
        among = labels >= self.among
        return among if mask is None else among & mask


def named_metric(text: str) -> NamedMetric:
    """Look up a metric of one ranking by name and sizes.

    A first ``@`` says how many ranks count, a second one how large the ground truth is; without
    that it is what the run says, or every label of at least the number behind ``>=``. Behind
    ``among >=`` stands the least label of the candidates that are looked at. ``map`` and ``mrr``
    are average precision and reciprocal rank.

    Where labels are probabilities of what scores are the log-odds of, ``bias`` and
    ``absolute_error`` are the mean of what is said less what is so, and that of its size.

    Three are not of one list: ``gauc`` is the AUC of requests weighted by their candidates,
    ``pooled_auc`` that of the candidates of all requests in one heap, and ``rcs`` the agreement of
    a stage with the next, at the quota of that, or ``rcs@10``.

    Args:
        text: such as ``"ndcg"``, ``"ndcg@15"`` (exponential gain), ``"recall@30@15"``, ``"opa"``,
            ``"recall@10 >= 3"``, ``"gauc >= 4 among >= 3"``.

    Raises:
        ConfigError: if there is no such metric, or it takes other sizes.

    Examples:
        >>> named_metric("map@10").name, named_metric("recall@30@15").options
        ('average_precision', {'m': 30, 'k': 15})
        >>> clicks = named_metric("gauc >= 4 among >= 3")  # of labels that are levels, say
        >>> clicks.threshold, clicks.among
        (4.0, 3.0)

    Source: this project.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise ConfigError(
            "a metric is called as ndcg, ndcg@15, recall@30@15, recall@10 >= 3 or "
            f"auc >= 4 among >= 3; got '{text}'"
        )
    name = _ALIASES.get(match[1], match[1])
    sizes = [int(size) for size in match.groups()[1:3] if size]
    threshold, among = (None if n is None else float(n) for n in match.groups()[3:])
    if among is not None and threshold is not None and among >= threshold:
        raise ConfigError(
            f"among >= must be lower than the ground truth, or all candidates are; got '{text}'"
        )
    known, takes_truth, least = _sizes(name)
    if len(sizes) > len(known):
        raise ConfigError(f"metric '{name}' takes {len(known)} sizes behind @; got '{text}'")
    if len(sizes) < least:
        raise ConfigError(f"metric '{name}' needs to know how many ranks count: '{text}@10', say")
    options: dict[str, Any] = dict(zip(known, sizes, strict=False))
    if threshold is not None and (not takes_truth or "k" in options):
        raise ConfigError(f"metric '{name}' takes no ground truth behind >= here; got '{text}'")
    if among is not None and name == CONSISTENCY:
        raise ConfigError(f"metric '{name}' looks at what a stage passes on; got '{text}'")
    return NamedMetric(text, name, options, takes_truth, threshold, among)


def _sizes(name: str) -> tuple[list[str], bool, int]:
    """Which sizes a metric takes, whether it asks for the ground truth, and the fewest sizes."""
    if name in POOLED:
        return [], True, 0
    if name == CONSISTENCY:
        return ["k"], False, 0
    if name in ERRORS:
        return [], False, 0
    if name not in METRICS:
        known = [*METRICS, *_ALIASES, *POOLED, *ERRORS, CONSISTENCY]
        raise ConfigError(
            f"no metric called '{name}'{did_you_mean(name, known)}; there are {', '.join(known)}"
        )
    takes = METRICS.options(name)
    if "quotas" in takes:
        raise ConfigError(f"metric '{name}' is of a whole cascade, not of one ranking")
    takes_truth = "threshold" in takes
    known = [size for size in ("m", "k") if size in takes]
    if "m" not in takes and takes_truth:
        known = []  # its k is the ground truth alone, which is that of the run
    least = int("m" in takes and takes["m"].default is takes["m"].empty)
    return known, takes_truth, least


def _error(name: str, scores: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over each list, in double precision; NaN of an empty one."""
    mask = check_lists(scores, labels, mask)
    error = scores.masked_fill(~mask, 0.0).double().sigmoid() - labels.masked_fill(~mask, 0.0)
    if name == "absolute_error":
        error = error.abs()
    return error.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1)
