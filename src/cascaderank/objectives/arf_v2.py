"""ARF, second version: the recall term also penalises keeping irrelevant candidates."""

from cascaderank.objectives import OBJECTIVES, Objective
from cascaderank.objectives._arf import Arf
from cascaderank.objectives._sorting import Temperature


@OBJECTIVES.register
def arf_v2_objective(
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
    """Train each stage separately to keep only the ground truth, and on the order of the list.

    ``sum_t [L_t + L_global / (2 w_t^2) + ln w_t]``: as ARF, but the relaxed recall, which depends
    on the ground truth only, is replaced by the binary cross-entropy between the ground truth and
    the smooth top q_t: :func:`cascaderank.losses.survival_loss` of a single stage at its quota,
    named ``top_m/<stage>``. The other term, :func:`cascaderank.losses.permutation_loss`, is named
    ``global/<stage>``.

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
        ...     "arf_v2", stages=["retrieval"], quotas=(2,), ground_truth=1, temperature=1.0
        ... )
        >>> objective(torch.tensor([[[3.0, 2.0, 1.0]]]), torch.tensor([[2.0, 1.0, 0.0]])).terms
        {'top_m/retrieval': tensor(0.5713), 'global/retrieval': tensor(0.1338)}

    Source: the comparison of LCRON (arXiv 2503.09492); deviations are in
    ``docs/methods/arf_v2.md``.
    """
    return Arf(
        name="arf_v2",
        stages=stages,
        quotas=quotas,
        k=ground_truth,
        threshold=threshold,
        published=published,
        operator=operator,
        temperature=temperature,
        relative=relative_temperature,
    ).objective("top_m")
