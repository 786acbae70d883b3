"""Weights of candidates: factors of the gradient of their scores."""

from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.autograd import Function

from cascaderank.errors import ShapeError
from cascaderank.stages import Chance, StageOutput


def with_weighted_gradient(values: Tensor, weights: Tensor) -> Tensor:
    """Return equal values whose gradient is multiplied by weights.

    Args:
        values: floating point, of any shape.
        weights: numbers that can be broadcast to the shape of the values; without gradient.

    Returns:
        A tensor with the same bits as ``values``.

    Examples:
        >>> import torch
        >>> scores = torch.tensor([2.0, 3.0], requires_grad=True)
        >>> with_weighted_gradient(scores, torch.tensor([1.0, 0.5])).square().sum().backward()
        >>> scores.grad
        tensor([4., 3.])
    """
    weighted: Tensor = _WeightedGradient.apply(values, weights)  # type: ignore[no-untyped-call]
    return weighted


def weighted_output(output: StageOutput, weights: Tensor) -> StageOutput:
    """Return the output of a stage with the gradient of each candidate multiplied by its weight.

    The penalty of the stage does not belong to a candidate and keeps its gradient.

    Args:
        output: scores, classes and events of the candidates of a batch.
        weights: ``[batch, list]``.
    """
    classes = output.classes
    if classes is not None:
        classes = with_weighted_gradient(classes, weights.unsqueeze(-1))
    return replace(
        output,
        scores=with_weighted_gradient(output.scores, weights),
        classes=classes,
        events={
            name: Chance(*(with_weighted_gradient(part, weights) for part in chance))
            for name, chance in output.events.items()
        },
    )


def check_candidate_weights(weights: Tensor, labels: Tensor) -> None:
    """Check that weights are floating point with the shape of the labels.

    Raises:
        ShapeError: otherwise.
    """
    if weights.shape != labels.shape or not weights.dtype.is_floating_point:
        raise ShapeError(
            f"weights must be floating point [batch, list] = {list(labels.shape)}; "
            f"got {weights.dtype} {list(weights.shape)}"
        )


class _WeightedGradient(Function):
    """The identity, with a gradient that is multiplied by weights."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, weights: Tensor) -> Tensor:  # noqa: ARG004
        return values.view_as(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        return (gradient * weights).to(gradient.dtype), None
