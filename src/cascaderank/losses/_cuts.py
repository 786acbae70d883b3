"""Cuts of lists by label: the candidates above each cut, and those that compete at it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.sorting.order import sort_best_first
from cascaderank.tensors import at_least_float32, count_real, exact_labels

_MOST = 64
"""Largest number of cuts between distinct labels: each of them takes a pass over the list."""


class Cuts(NamedTuple):
    """Cuts of lists; a list may have fewer than others."""

    lower: Tensor
    """``[list, cuts, batch]``: 1 for the candidates below each cut and above the next one; 0 for
    all others, and if there is no cut."""
    upper: Tensor
    """``[list, cuts, batch]``: 1 for the candidates above each cut; 0 if there is no cut."""
    number: Tensor
    """``[batch]`` int64, number of cuts of each list."""


def find_cuts(
    labels: Tensor,
    cuts: Literal["labels"] | Sequence[int] | Tensor,
    *,
    mask: Tensor,
    dtype: torch.dtype = torch.float32,
) -> Cuts:
    """Return the cuts of lists.

    Args:
        labels: ``[batch, list]``, higher is better.
        cuts: ``"labels"`` for a cut between all distinct labels, or sizes of the upper part, for
            all lists or ``[batch, cuts]``. A size outside 1 to n - 1, in a list of n candidates, is
            no cut. A size between equal labels moves to the nearest between different ones, the
            smaller one of two, and sizes that become equal are one cut.
        mask: ``[batch, list]`` bool.
        dtype: of the result.

    Raises:
        ConfigError: if ``cuts`` is another word, a size is no positive integer, or a list has more
            than 64 distinct labels.
        ShapeError: if a tensor of sizes is not ``[batch, cuts]`` integers.

    Examples:
        >>> labels, mask = torch.tensor([[3.0, 1.0, 1.0, 0.0]]), torch.ones(1, 4).bool()
        >>> cuts = find_cuts(labels, (2,), mask=mask)
        >>> cuts.upper[:, 0, 0], cuts.lower[:, 0, 0]
        (tensor([1., 0., 0., 0.]), tensor([0., 1., 1., 1.]))
        >>> find_cuts(labels, "labels", mask=mask).number
        tensor([2])
    """
    if isinstance(cuts, str) and cuts != "labels":
        raise ConfigError(f"cuts must be 'labels' or sizes such as (10, 20, 30); got {cuts!r}")
    given = None if isinstance(cuts, str) else _given_sizes(cuts, labels)
    if not labels.numel():
        none = torch.zeros(labels.shape[-1], 0, len(labels), dtype=dtype, device=labels.device)
        return Cuts(none, none, mask.sum(-1))
    if given is None and not labels.is_floating_point():
        lowest = int(torch.where(mask, labels, labels.max()).min())
        highest = int(torch.where(mask, labels, lowest).max())
        if highest - lowest <= _MOST:
            grades = torch.arange(lowest, highest + 1, device=labels.device)
            return _between_grades(labels, grades, mask, dtype)
    labels = at_least_float32(exact_labels(labels)).masked_fill(~mask, -torch.inf)
    best_first, _ = sort_best_first(labels)
    borders = best_first[:, :-1] > best_first[:, 1:]
    borders &= torch.arange(1, labels.shape[-1], device=labels.device) < count_real(mask)[:, None]
    sizes = _all_sizes(borders) if given is None else _moved(given, borders, count_real(mask))
    # Sizes increase, and 0 is no cut.
    least = best_first.gather(-1, (sizes - 1).clamp(min=0)).masked_fill(sizes == 0, torch.inf)
    found = least.isfinite()
    behind = least.masked_fill(~found, -torch.inf).flip(-1).cummax(-1).values.flip(-1)
    following = torch.cat([behind[:, 1:], torch.full_like(behind[:, :1], -torch.inf)], -1)
    labels, real = labels.T.contiguous()[:, None], mask.T[:, None]
    upper = labels >= least.T
    lower = (labels >= following.T) & real & found.T & ~upper
    return Cuts(lower.to(dtype), upper.to(dtype), found.sum(-1))


def _between_grades(labels: Tensor, grades: Tensor, mask: Tensor, dtype: torch.dtype) -> Cuts:
    """Return the cuts between labels that are few consecutive integers, without sorting them.

    The candidates below a cut and above the next one are those of one grade: the highest of the
    list below the cut.
    """
    labels, real = labels.T.contiguous()[:, None], mask.T[:, None]
    of_grade = (labels == grades[:, None]) & real
    present = of_grade.any(0)
    highest_so_far = torch.where(present, grades[:, None], grades[0] - 1).cummax(0).values
    below = highest_so_far[:-1]
    found = present[1:] & (below >= grades[0])
    upper = (labels >= grades[1:, None]) & real & found
    lower = (labels == below) & real & found
    return Cuts(lower.to(dtype), upper.to(dtype), found.sum(0))


def _all_sizes(borders: Tensor) -> Tensor:
    """Return the positions of all borders of each list in increasing order, then 0."""
    number = borders.cumsum(-1)
    most = int(number[:, -1:].max()) if number.numel() else 0
    if most > _MOST:
        raise ConfigError(
            f"cuts = 'labels' takes lists of at most {_MOST + 1} distinct labels; got a list of "
            f"{most + 1}; give sizes, such as cuts = (10, 20, 30)"
        )
    rows, before = borders.nonzero(as_tuple=True)
    sizes = torch.zeros(len(borders), most, dtype=torch.int64, device=borders.device)
    sizes[rows, number[rows, before] - 1] = before + 1
    return sizes


def _given_sizes(cuts: Sequence[int] | Tensor, labels: Tensor) -> Tensor:
    """Return checked sizes in increasing order, ``[batch, cuts]`` int64."""
    if isinstance(cuts, Tensor):
        integral = not (cuts.is_floating_point() or cuts.is_complex() or cuts.dtype is torch.bool)
        if not integral or cuts.dim() != 2 or len(cuts) != len(labels):
            raise ShapeError(
                f"cuts must be integers [batch, cuts] with batch = {len(labels)}; "
                f"got {cuts.dtype} {list(cuts.shape)}"
            )
        return cuts.to(labels.device, torch.int64).sort(-1).values
    check_cut_sizes(cuts)
    return torch.tensor(sorted(cuts), device=labels.device).expand(len(labels), -1)


def check_cut_sizes(cuts: Sequence[int]) -> None:
    """Check the sizes of cuts.

    Raises:
        ConfigError: if there are none, or one is no positive integer.
    """
    whole = all(isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in cuts)
    if not whole or not len(cuts):
        raise ConfigError(
            "cuts must be 'labels' or sizes, positive integers such as (10, 20), at least one; "
            f"got {[*cuts]}"
        )


def _moved(sizes: Tensor, borders: Tensor, count: Tensor) -> Tensor:
    """Return sizes at borders; 0 where there is no cut."""
    length = borders.shape[-1] + 1
    positions = torch.arange(1, length, device=sizes.device)
    none = torch.zeros_like(count[:, None])
    last = torch.cat([none, torch.where(borders, positions, 0).cummax(-1).values], -1)
    far = torch.where(borders, positions, 2 * length).flip(-1).cummin(-1).values.flip(-1)
    following = torch.cat([none, far], -1)
    possible = (sizes >= 1) & (sizes < count[:, None])
    at = sizes.clamp(0, length - 1)
    below, above = last.gather(-1, at), following.gather(-1, at)
    nearer_above = (below == 0) | (above - sizes < sizes - below)
    moved = torch.where(nearer_above, above, below)
    moved = moved.masked_fill(~possible | (moved >= length), 0)
    repeated = (moved[:, 1:] == moved[:, :-1]) & (moved[:, 1:] > 0)
    moved[:, 1:] = moved[:, 1:].masked_fill(repeated, 0)
    return moved
