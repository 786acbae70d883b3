"""Metrics by what people call them: ``"ndcg@15"``, ``"map"``, ``"recall@30@15"``."""

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.metrics import METRICS

_ALIASES = {"map": "average_precision", "mrr": "reciprocal_rank"}
_NAME = re.compile(r"([a-z_]+)(?:@([1-9][0-9]{0,8}))?(?:@([1-9][0-9]{0,8}))?")


@dataclass(frozen=True)
class NamedMetric:
    """A metric of one ranking, with its sizes; made by :func:`named_metric`."""

    text: str
    """How it was called."""
    name: str
    """Registered name of the metric."""
    options: dict[str, Any]
    takes_truth: bool
    """Whether it has to be told what the ground truth is."""

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

        Args:
            scores: ``[..., list]``, higher is better.
            labels: ``[..., list]``, higher is better.
            k: the ground truth is the top ``k`` by label, unless the metric's own name says.
            threshold: the ground truth is every label of at least this.
            mask: ``[..., list]`` bool, ``True`` for a real candidate.
        """
        options = dict(self.options)
        if self.takes_truth and "k" not in options:
            options |= {"k": k, "threshold": threshold}
        return METRICS[self.name](scores, labels, mask=mask, **options)


def named_metric(text: str) -> NamedMetric:
    """Look up a metric of one ranking by name and sizes.

    A first ``@`` says how many ranks count, a second one how large the ground truth is; without
    that it is what the run says. ``map`` and ``mrr`` are average precision and reciprocal rank.

    Args:
        text: such as ``"ndcg"``, ``"ndcg@15"`` (exponential gain), ``"recall@30@15"``, ``"opa"``.

    Raises:
        ConfigError: if there is no such metric, or it takes other sizes.

    Examples:
        >>> named_metric("map@10").name, named_metric("recall@30@15").options
        ('average_precision', {'m': 30, 'k': 15})

    Source: this project.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise ConfigError(f"a metric is called as ndcg, ndcg@15 or recall@30@15; got '{text}'")
    name = _ALIASES.get(match[1], match[1])
    takes = METRICS.options(name)
    if "quotas" in takes:
        raise ConfigError(f"metric '{name}' is of a whole cascade, not of one ranking")
    sizes = [int(size) for size in match.groups()[1:] if size]
    takes_truth = "threshold" in takes
    known: list[str] = [size for size in ("m", "k") if size in takes]
    if "m" not in takes and takes_truth:
        known = []  # its k is the ground truth alone, which is that of the run
    if len(sizes) > len(known):
        raise ConfigError(f"metric '{name}' takes {len(known)} sizes behind @; got '{text}'")
    if "m" in takes and takes["m"].default is takes["m"].empty and not sizes:
        raise ConfigError(f"metric '{name}' needs to know how many ranks count: '{text}@10', say")
    options: dict[str, Any] = dict(zip(known, sizes, strict=False))
    return NamedMetric(text, name, options, takes_truth)
