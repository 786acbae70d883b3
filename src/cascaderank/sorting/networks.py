"""Relaxed sorting networks: layers of comparators that swap two candidates with a probability."""

import math
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.sorting.scaling import distance_from_middle

Swap = Literal["cauchy", "logistic", "logistic_phi"]
"""Distribution function that gives the probability that two compared candidates are in order."""

_LAMBDA = 0.25
"""Exponent of logistic_phi."""


class Layer(NamedTuple):
    """One layer of comparators; each moves the better candidate to the earlier place."""

    partner: Tensor
    """``[list]``: place that each place is compared with; an index outside the list means none."""
    longer_than: int
    """A list needs the layer only if it has more candidates than this."""


def log_rows(
    scores: Tensor,
    start: Tensor,
    layers: Iterable[Layer],
    *,
    swap: Swap,
    temperature: Tensor,
    mask: Tensor,
) -> Tensor:
    """Return sums of rows of the soft permutation, in log space.

    The network is run forward once to compute the swap probabilities, and then backward for the
    given rows. A comparator is a symmetric matrix, so ``e^T P = e^T C_m ... C_1`` needs one vector
    per row; the whole permutation is computed only if all rows are requested. Candidates enter in
    the order of the list. Padding is moved to the end, where no comparator applies.

    Args:
        scores: ``[..., list]``, 0 under the mask.
        start: ``[..., rows, list]`` or ``[rows, list]`` bool; the ranks that each sum is over.
        layers: layers of the network, the first one first.
        swap: distribution function of a comparison.
        temperature: ``[...]``, positive.
        mask: ``[..., list]`` bool.

    Returns:
        ``[..., rows, list]``, finite.

    Source: Petersen et al. 2021 (arXiv 2105.04019); running it backward is this project's.
    """
    order = (~mask).long().argsort(stable=True, dim=-1)  # padding last
    values = distance_from_middle(scores, temperature, mask).gather(-1, order)
    count = mask.sum(-1, keepdim=True)
    place = torch.arange(scores.shape[-1], device=scores.device)
    log_probability, swaps = _LOG_PROBABILITIES[swap], []
    for layer in layers:
        compared = (torch.maximum(place, layer.partner) < count) & (count > layer.longer_than)
        partner = layer.partner.clamp(max=len(place) - 1)
        other = values[..., partner]
        excess = values - other
        logits = excess * torch.where(partner > place, 1.0, -1.0).to(excess)
        log_stay, log_swap = log_probability(logits), log_probability(-logits)
        swaps.append((partner, compared, log_stay, log_swap))
        # Relative to the likelier of both values, which loses nothing to a distant other one.
        share = torch.minimum(log_stay, log_swap).exp() * excess
        mixed = torch.where(logits < 0, other + share, values - share)
        values = torch.where(compared, mixed, values)
    rows = scores.new_zeros(*scores.shape[:-1], *start.shape[-2:])
    rows = rows.masked_fill(~start, torch.finfo(scores.dtype).min / 4)
    if not swaps:  # a list of one: the result is a constant, which must still have a gradient
        rows = rows + 0 * values[..., None, :]
    for partner, compared, log_stay, log_swap in reversed(swaps):
        stayed = log_stay[..., None, :] + rows
        swapped = log_swap[..., None, :] + rows[..., partner]
        rows = torch.where(compared[..., None, :], torch.logaddexp(stayed, swapped), rows)
    return rows.gather(-1, order.argsort(-1)[..., None, :].expand_as(rows))


def log_permutation_of_network(
    scores: Tensor, layers: Iterable[Layer], *, swap: Swap, temperature: Tensor, mask: Tensor
) -> Tensor:
    """Return all rows, ``[..., rank, list]``; see :class:`PermutationOperator`."""
    every = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    return log_rows(scores, every, layers, swap=swap, temperature=temperature, mask=mask)


def log_top_k_of_network(
    scores: Tensor,
    k: Tensor,
    layers: Iterable[Layer],
    *,
    swap: Swap,
    temperature: Tensor,
    mask: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return two tensors ``[..., list]``; see :class:`Operator`.

    Columns add up to 1, so no division by column sums is needed, and both results have the same
    derivative up to sign.
    """
    upper = torch.arange(scores.shape[-1], device=scores.device) < k[..., None]
    both = torch.stack([upper, ~upper], -2)
    rows = log_rows(scores, both, layers, swap=swap, temperature=temperature, mask=mask)
    difference = rows[..., 0, :] - rows[..., 1, :]
    return F.logsigmoid(difference), F.logsigmoid(-difference)  # never above 0 by rounding


def check_swap(swap: str) -> None:
    """Check the name of a distribution function.

    Raises:
        ConfigError: if the name is unknown.
    """
    if swap not in _LOG_PROBABILITIES:
        raise ConfigError(
            f"no swap called '{swap}'{did_you_mean(swap, tuple(_LOG_PROBABILITIES))}; "
            f"there are {', '.join(_LOG_PROBABILITIES)}"
        )


def _log_cauchy(x: Tensor) -> Tensor:
    """Return ``log(atan(x) / pi + 1/2)``, from an angle that is exact when it is tiny."""
    return (torch.atan2(torch.ones_like(x), -x) / math.pi).log()


def _log_logistic_phi(x: Tensor) -> Tensor:
    """Return the logarithm of the logistic function of ``x / |x|^lambda``."""
    return F.logsigmoid(x / (x.abs() + 1e-10) ** _LAMBDA)


_LOG_PROBABILITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "cauchy": _log_cauchy,
    "logistic": F.logsigmoid,
    "logistic_phi": _log_logistic_phi,
}
"""Log-probability that a comparator leaves its inputs in place, by their scaled difference. The
first is the default."""
