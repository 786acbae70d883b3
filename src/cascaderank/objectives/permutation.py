"""Permutation: every stage learns the whole order, by itself and as a soft permutation."""

from dataclasses import dataclass

from torch import Tensor

from cascaderank.losses.permutation import permutation_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._sorting import (
    Temperature,
    Warmth,
    make_warmth,
    permutation_operator,
)


@OBJECTIVES.register
def permutation_objective(
    *,
    stages: tuple[str, ...],
    operator: str = "neural_sort",
    temperature: Temperature | None = None,
    relative_temperature: bool = False,
) -> Objective:
    """Train each stage, by itself, to have the whole list in order.

    What smooth sorting gives when nothing is made of the cascade: no ground truth, no quotas. The
    term of a stage is :func:`cascaderank.losses.permutation_loss`, and is called
    ``permutation/<stage>``.

    Args:
        stages: names of the stages, first first.
        operator: the smooth permutation, a name in ``cascaderank.sorting.OPERATORS`` that knows
            every rank, not only the top k.
        temperature: of the operator, positive, or :class:`~cascaderank.objectives.Annealed`; 200
            if not given, and 1 if not given and relative.
        relative_temperature: multiply the temperature by the size of the operator's logits in
            each list (spread of the scores and, for NeuralSort, length of the list).

    Raises:
        ConfigError: if an option is unknown or out of range, or the operator knows only the
            top k.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective(
        ...     "permutation", stages=["retrieval"], quotas=(2,), temperature=1.0
        ... )
        >>> objective(torch.tensor([[[3.0, 2.0, 1.0]]]), torch.tensor([[2.0, 1.0, 0.0]])).terms
        {'permutation/retrieval': tensor(0.1338)}

    Source: Grover et al. 2019 (arXiv 1903.08850) and Prillo and Eisenschlos 2020
    (arXiv 2006.16038), as compared by LCRON (arXiv 2503.09492); see
    ``docs/methods/permutation.md``.
    """
    warmth = make_warmth(
        temperature,
        operator=permutation_operator(operator, objective="permutation"),
        relative=relative_temperature,
        usual=200.0,
    )
    terms = [
        Term(f"permutation/{name}", _OfStage(stage=t, warmth=warmth).loss, stage=t)
        for t, name in enumerate(stages)
    ]
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _OfStage:
    """The term of one stage."""

    stage: int
    warmth: Warmth

    def loss(self, inputs: CascadeInputs) -> Tensor:
        return permutation_loss(
            inputs.scores[self.stage],
            inputs.labels,
            operator=self.warmth.operator,
            temperature=self.warmth.of_stage(inputs, self.stage),
            mask=inputs.mask,
        )
