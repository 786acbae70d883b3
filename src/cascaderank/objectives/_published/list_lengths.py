"""Lists of unequal length in the reference forms: each is evaluated at its own length."""

from collections.abc import Callable

import torch
from torch import Tensor

from cascaderank.errors import ShapeError
from cascaderank.objectives._objective import CascadeInputs
from cascaderank.tensors import count_real


def mean_over_lists(inputs: CascadeInputs, term: Callable[[CascadeInputs], Tensor]) -> Tensor:
    """Return the mean over lists of a term that is defined for lists without padding.

    The published code has no mask. Lists of equal length are evaluated together, without their
    padding, as if each list were alone. A list without candidates counts as 0, and so does a batch
    without lists. Reads values of the mask and therefore synchronises with the device, unlike the
    terms of this library's forms.

    Args:
        inputs: scores and targets, with or without padding.
        term: mean over the lists of its inputs, which have no padding.

    Returns:
        A scalar.
    """
    if inputs.mask.numel() and bool(inputs.mask.all()):
        return term(inputs)
    lengths = inputs.mask.sum(-1)
    total = inputs.scores[..., :0].sum()  # 0 with a gradient, whatever lies under the mask
    for length in torch.unique(lengths).tolist():
        if length:
            chosen = lengths == length
            share = int(chosen.sum()) / len(lengths)  # float64, unlike a quotient of tensors
            total = total + share * term(_without_padding(inputs, chosen))
    return total


def check_shortest(inputs: CascadeInputs, *, name: str, shortest: int) -> None:
    """Check that every list has enough candidates for the cut-offs of a reference form.

    Args:
        inputs: scores and mask.
        name: registered name of the objective.
        shortest: smallest number of candidates.

    Raises:
        ShapeError: if a list has fewer.
    """
    fewest = int(count_real(inputs.mask).min()) if len(inputs.mask) else shortest
    if fewest < shortest:
        raise ShapeError(
            f"published=True of '{name}' is defined for lists of at least {shortest} candidates, "
            f"as the published code takes the top {shortest} of each; got a list of {fewest}. "
            "Leave out short lists, or omit published: this library's form takes any length"
        )


def _without_padding(inputs: CascadeInputs, chosen: Tensor) -> CascadeInputs:
    """Return lists of equal length without their padding; candidates keep their order."""
    mask = inputs.mask[chosen]
    shape = (len(mask), -1)

    def compacted(values: Tensor) -> Tensor:
        return values[chosen][mask].view(shape)

    levels = inputs.levels
    return CascadeInputs(
        scores=inputs.scores[:, chosen][:, mask].view(len(inputs.scores), *shape),
        labels=compacted(inputs.labels),
        mask=compacted(inputs.mask),
        levels=None if levels is None else compacted(levels),
        progress=inputs.progress,
    )
