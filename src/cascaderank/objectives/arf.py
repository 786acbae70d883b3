"""ARF: per stage, a relaxed recall of the ground truth and the order of the whole list."""

from cascaderank.objectives import OBJECTIVES, Objective
from cascaderank.objectives._arf import Arf
from cascaderank.objectives._sorting import Temperature


@OBJECTIVES.register
def arf_objective(
    *,
    stages: tuple[str, ...],
    quotas: tuple[int, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    published: bool = False,
    operator: str = "neural_sort",
    temperature: Temperature | None = None,
    relative_temperature: bool = False,
) -> Objective:
    """Train each stage separately on relaxed recall at its quota and on the order of the list.

    ``sum_t [L_relax + L_global / (2 w_t^2) + ln w_t]``: the learned weight reduces the influence
    of the whole order for a stage that cannot represent it. The terms of a stage are
    :func:`cascaderank.losses.relaxed_recall_loss` at its quota, named ``relax/<stage>``, and
    :func:`cascaderank.losses.permutation_loss`, named ``global/<stage>``.

    Args:
        stages: names of the stages, first stage first.
        quotas: number of candidates that each stage passes on.
        ground_truth: size of the ground truth, the top candidates by label.
        threshold: the ground truth is every label of at least this value.
        published: whether to compute what the code of the LCRON paper computes, with 1e-6 inside
            its logarithms, smoothly sorted labels, and cut-offs of 30 and 20 (40, 30 and 20 for
            three stages). Each list is evaluated at its own length, as if it were alone. Defined
            for two and three stages and a ground truth of the top k.
        operator: differentiable sorting operator, a name in ``cascaderank.sorting.OPERATORS``
            that provides a permutation, not only top-k probabilities.
        temperature: temperature of the operator, positive, or
            :class:`~cascaderank.objectives.Annealed`. By default 1 if relative; otherwise 200, and
            for NeuralSort 200 in a list of 40 candidates and proportional to the number of
            candidates in others.
        relative_temperature: whether the temperature is multiplied by the scale of the
            operator's logits in each list (spread of the scores and, for NeuralSort, length of
            the list).

    Raises:
        ConfigError: if an option is unknown or out of range, or fixed by ``published``.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective(
        ...     "arf", stages=["retrieval"], quotas=(2,), ground_truth=1, temperature=1.0
        ... )
        >>> objective(torch.tensor([[[3.0, 2.0, 1.0]]]), torch.tensor([[2.0, 1.0, 0.0]])).terms
        {'relax/retrieval': tensor(0.2540), 'global/retrieval': tensor(0.1338)}

    Source: Adaptive Neural Ranking Framework (arXiv 2310.10462);
    deviations are in ``docs/methods/arf.md``.
    """
    return Arf(
        name="arf",
        stages=stages,
        quotas=quotas,
        k=ground_truth,
        threshold=threshold,
        published=published,
        operator=operator,
        temperature=temperature,
        relative=relative_temperature,
    ).objective("relax")
