"""Checked arguments of the operators: filled scores, one temperature and one k per list."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.tensors import check_mask, count_real, finite_scores, is_whole


class CutLists(NamedTuple):
    """Checked and filled arguments of a top-k function."""

    scores: Tensor
    """``[..., list]``; 0 under the mask."""
    k: Tensor
    """``[...]`` int64."""
    temperature: Tensor
    """``[...]``"""
    mask: Tensor
    """``[..., list]`` bool."""
    candidates: Tensor
    """``[...]`` int64; number of real candidates."""
    decided: bool
    """Whether it is known that all candidates are real and every list keeps some and drops some."""

    def all_kept(self) -> Tensor:
        """Return which lists keep all of their candidates, ``[..., 1]`` bool."""
        return (self.k >= self.candidates)[..., None]

    def none_kept(self) -> Tensor:
        """Return which lists keep no candidate, ``[..., 1]`` bool."""
        return (self.k <= 0)[..., None]


def cut_lists(
    scores: Tensor, k: int | Tensor, temperature: float | Tensor, mask: Tensor | None
) -> CutLists:
    """Check and fill the arguments of a top-k function.

    Args:
        scores: ``[..., list]`` floating point.
        k: positive integer, or an integer tensor ``[...]``.
        temperature: positive number, or a floating point tensor ``[...]``.
        mask: ``[..., list]`` bool, or ``None`` if every candidate is real.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if ``k`` or the temperature is a number and not positive.
    """
    filled, mask, temperatures = prepare(scores, temperature, mask)
    count = count_real(mask)
    sizes = _check_k(k, count)
    if not is_whole(mask):
        decided = False
    elif isinstance(k, int):
        decided = k < scores.shape[-1]
    else:
        decided = is_whole((sizes > 0) & (sizes < count))
    return CutLists(filled, sizes, temperatures, mask, count, decided)


def prepare(
    scores: Tensor, temperature: float | Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores filled with 0 under the mask, the mask, and one temperature per list.

    Args:
        scores: ``[..., list]`` floating point.
        temperature: positive number, or a floating point tensor ``[...]``.
        mask: ``[..., list]`` bool, or ``None`` if every candidate is real.

    Returns:
        Finite scores ``[..., list]`` in at least float32, the mask ``[..., list]`` bool, and
        temperatures ``[...]`` of the dtype of the returned scores.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if the temperature is a number and not positive.
    """
    mask = check_mask(scores, mask)
    filled = finite_scores(scores if is_whole(mask) else scores.masked_fill(~mask, 0.0))
    lists = scores.shape[:-1]
    if not isinstance(temperature, Tensor):
        check_temperature(temperature)
        # A larger number than the dtype can hold is equivalent to its largest; torch rejects it.
        temperature = min(temperature, torch.finfo(filled.dtype).max)
        return filled, mask, filled.new_full(lists, temperature)
    if not temperature.is_floating_point() or not _expands_to(temperature, lists):
        raise ShapeError(
            f"temperature must be a number or floating point, one per list {list(lists)}; "
            f"got {temperature.dtype} {list(temperature.shape)}"
        )
    return filled, mask, temperature.to(filled).expand(lists)


def check_temperature(temperature: float) -> None:
    """Check that a temperature is a positive number.

    Raises:
        ConfigError: if it is not positive and finite.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ConfigError(f"temperature must be a positive number; got {temperature}")


def _check_k(k: int | Tensor, count: Tensor) -> Tensor:
    if not isinstance(k, Tensor):
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ConfigError(f"k must be a positive integer; got {k}")
        return count.new_full((), k).expand(count.shape)
    dtype = k.dtype
    if dtype.is_floating_point or dtype.is_complex or dtype is torch.bool:
        raise ShapeError(f"k must be an integer tensor, one number per list; got {dtype}")
    if not _expands_to(k, count.shape):
        raise ShapeError(f"k must be one number per list {list(count.shape)}; got {list(k.shape)}")
    return k.to(count).expand(count.shape)


def _expands_to(tensor: Tensor, shape: torch.Size) -> bool:
    tail = zip(reversed(tensor.shape), reversed(shape), strict=False)
    return tensor.dim() <= len(shape) and all(size in (1, target) for size, target in tail)
