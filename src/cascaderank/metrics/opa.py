"""OPA: fraction of pairs in the correct order."""

from typing import Literal, get_args

import torch
from torch import Tensor

from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.metrics import METRICS
from cascaderank.metrics._pair_counts import count_pairs
from cascaderank.selection import result_dtype
from cascaderank.tensors import check_lists, undefined_to_nan

Pairs = Literal["preferred", "all"]


@METRICS.register
def opa_metric(
    scores: Tensor, labels: Tensor, *, pairs: Pairs = "preferred", mask: Tensor | None = None
) -> Tensor:
    r"""Ordered pair accuracy, per list.

    .. math::
        \text{OPA} = \frac{|\{(i, j): y_i > y_j,\ s_i > s_j\}|
                     + \frac12 |\{(i, j): y_i > y_j,\ s_i = s_j\}|}{|\{(i, j): y_i > y_j\}|}

    Constant scores have OPA 1/2. With two distinct labels it is the area under the ROC curve.

    Args:
        scores: ``[..., list]``, higher is better. NaN ranks last.
        labels: ``[..., list]``, higher is better; only their order matters.
        pairs: ``"preferred"`` for the pairs whose labels differ, as above; ``"all"`` for the form
            printed in ARF, where a pair is correct unless scores and labels contradict each
            other: all ties are correct, and constant scores have OPA 1.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[...]`` in [0, 1], float32 (float64 for float64 scores); NaN for a list without such
        pairs. Takes O(L^2) time.

    Raises:
        ShapeError: if the tensors do not agree.
        ConfigError: if ``pairs`` is unknown.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> opa_metric(torch.tensor([3.0, 1.0, 2.0]), labels)
        tensor(0.6667)
        >>> opa_metric(torch.zeros(3), labels), opa_metric(torch.zeros(3), labels, pairs="all")
        (tensor(0.5000), tensor(1.))

    Source: ARF, equation 2; half a point for ties of scores, this project.
    """
    known = get_args(Pairs)
    if pairs not in known:
        raise ConfigError(
            f"pairs must be one of {', '.join(known)}; "
            f"got {pairs!r}{did_you_mean(str(pairs), known)}"
        )
    mask = check_lists(scores, labels, mask)
    counts = count_pairs(scores, labels, mask)
    if pairs == "all":
        all_pairs = torch.stack(counts).sum(0)
        value = 1 - counts.wrong / all_pairs
    else:
        decided = counts.right + counts.wrong + counts.tied_scores
        value = (counts.right + counts.tied_scores / 2) / decided
    return undefined_to_nan(value, labels, mask).to(result_dtype(scores))
